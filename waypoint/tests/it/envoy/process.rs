//! An Envoy process under test.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::harness::{Lines, send_http1};

/// Where `.ci/envoy` puts it.
const BINARY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/envoy/envoy");

/// A filter of Envoy's chain.
pub(crate) struct Plugin {
    pub(crate) name: &'static str,
    pub(crate) module: PathBuf,
    /// Handed over as its text; `null`: nothing.
    pub(crate) config: Value,
    /// `bodies: BeforeHeaders` in Envoy's words.
    pub(crate) holds_heads: bool,
}

/// A running Envoy, ended with the test.
pub(crate) struct Envoy {
    pub(crate) address: SocketAddr,
    _child: Child,
    log: Lines,
}

impl Envoy {
    /// Starts an Envoy with these filters. `routes` are pairs of a route key and its cluster, the
    /// first of `clusters` takes the rest.
    pub(crate) async fn start(
        dir: &TempDir,
        plugins: &[Plugin],
        routes: &[(&str, &str)],
        clusters: &[(&str, SocketAddr)],
    ) -> Self {
        assert!(Path::new(BINARY).exists(), "Envoy is not installed: run .ci/envoy");
        let (file, admin) = (dir.path().join("envoy.json"), dir.path().join("envoy-admin"));
        let bootstrap = bootstrap(plugins, routes, clusters);
        std::fs::write(&file, bootstrap.to_string()).expect("a file");
        let mut child = Command::new(BINARY)
            .arg("-c")
            .arg(&file)
            .arg("--admin-address-path")
            .arg(&admin)
            .args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "info"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("Envoy's binary");
        let log = Lines::follow(child.stderr.take().expect("piped"));
        let serves = log.find(|line| line.contains("starting main dispatch loop")).await;
        assert!(serves.is_some(), "Envoy did not start:\n{}", log.text());
        let admin = std::fs::read_to_string(admin).expect("the address of its admin port");
        let admin = admin.parse().expect("an address");
        let request = Request::get("/listeners?format=json").header("host", "localhost");
        let answer = send_http1(admin, request.body(Full::<Bytes>::default()).unwrap()).await;
        let listeners: Value = serde_json::from_slice(answer.body()).expect("JSON");
        let address = &listeners["listener_statuses"][0]["local_address"]["socket_address"];
        let port = address["port_value"].as_u64().expect("a port");
        let port = u16::try_from(port).expect("a port");
        Self { address: SocketAddr::from(([127, 0, 0, 1], port)), _child: child, log }
    }

    /// What it has complained of.
    pub(crate) fn complaints(&self) -> String {
        let log = self.log.text();
        log.lines().filter(|line| !line.contains("][info][")).collect::<Vec<_>>().join("\n")
    }
}

/// A message of Envoy's API.
fn typed(kind: &str, mut message: Value) -> Value {
    message["@type"] = format!("type.googleapis.com/{kind}").into();
    message
}

fn socket(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}})
}

fn bootstrap(
    plugins: &[Plugin],
    routes: &[(&str, &str)],
    clusters: &[(&str, SocketAddr)],
) -> Value {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let to = |cluster: &str| json!({"cluster": cluster});
    let keyed = routes.iter().map(|(key, cluster)| {
        let header = json!({"name": "x-waypoint-route-key", "string_match": {"exact": key}});
        json!({"match": {"prefix": "/", "headers": [header]}, "route": to(cluster)})
    });
    let rest = json!({"match": {"prefix": "/"}, "route": to(clusters[0].0)});
    let routes: Vec<Value> = keyed.chain([rest]).collect();
    let router = typed("envoy.extensions.filters.http.router.v3.Router", json!({}));
    let router = json!({"name": "envoy.filters.http.router", "typed_config": router});
    let filters: Vec<Value> = plugins.iter().map(Plugin::filter).chain([router]).collect();
    let manager = typed(
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        json!({
            "stat_prefix": "it",
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
            "http_filters": filters,
        }),
    );
    let manager =
        json!({"name": "envoy.filters.network.http_connection_manager", "typed_config": manager});
    json!({
        "admin": {"address": socket(any)},
        "static_resources": {
            "listeners": [{
                "name": "http",
                "address": socket(any),
                "filter_chains": [{"filters": [manager]}],
            }],
            "clusters": clusters.iter().map(|(name, at)| cluster(name, *at)).collect::<Vec<_>>(),
        },
    })
}

fn cluster(name: &str, address: SocketAddr) -> Value {
    let endpoint = json!({"endpoint": {"address": socket(address)}});
    let assignment = json!({"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]});
    json!({"name": name, "type": "STATIC", "load_assignment": assignment})
}

impl Plugin {
    fn filter(&self) -> Value {
        let mut config = json!({
            "name": self.name,
            "vm_config": {
                "vm_id": self.name,
                "runtime": "envoy.wasm.runtime.v8",
                "code": {"local": {"filename": self.module}},
            },
            "failure_policy": "FAIL_CLOSED",
            "allow_on_headers_stop_iteration": self.holds_heads,
        });
        if !self.config.is_null() {
            let text = json!({"value": self.config.to_string()});
            config["configuration"] = typed("google.protobuf.StringValue", text);
        }
        let wasm = typed("envoy.extensions.filters.http.wasm.v3.Wasm", json!({"config": config}));
        json!({"name": format!("envoy.filters.http.wasm.{}", self.name), "typed_config": wasm})
    }
}
