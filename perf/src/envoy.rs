//! Envoy as a peer: the same proxying, and the same three modules on its Wasm runtime.

use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::peers::{Peer, Process, Result, free_port};
use crate::resources;

/// An Envoy with two workers.
pub(crate) struct Envoy {
    process: Process,
    _dir: TempDir,
}

impl Envoy {
    /// A plain proxy of the origin.
    pub(crate) fn plain(binary: &Path, origin: u16) -> Result<Self> {
        Self::start(binary, origin, |_| Ok(Vec::new()))
    }

    /// The same with the three bundled filters, configured as the waypoint's are.
    pub(crate) fn chain(binary: &Path, origin: u16) -> Result<Self> {
        Self::start(binary, origin, |dir| {
            let filters = resources::filters();
            filters.into_iter().map(|(name, config)| wasm(dir, name, &config)).collect()
        })
    }

    fn start(
        binary: &Path,
        origin: u16,
        filters: impl FnOnce(&Path) -> Result<Vec<Value>>,
    ) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let port = free_port()?;
        let file = dir.path().join("envoy.json");
        let bootstrap = bootstrap(port, origin, filters(dir.path())?);
        std::fs::write(&file, bootstrap.to_string())?;
        let arguments = ["--concurrency", "2", "--log-level", "error", "--use-dynamic-base-id"];
        let process = Process::start(binary, port, |command| {
            command.args(arguments).arg("--config-path").arg(&file)
        })?;
        Ok(Self { process, _dir: dir })
    }
}

impl Peer for Envoy {
    fn process(&self) -> &Process {
        &self.process
    }
}

fn typed(kind: &str, mut message: Value) -> Value {
    message["@type"] = format!("type.googleapis.com/{kind}").into();
    message
}

fn socket(port: u16) -> Value {
    json!({"socket_address": {"address": "127.0.0.1", "port_value": port}})
}

fn bootstrap(port: u16, origin: u16, mut filters: Vec<Value>) -> Value {
    let router = typed("envoy.extensions.filters.http.router.v3.Router", json!({}));
    filters.push(json!({"name": "envoy.filters.http.router", "typed_config": router}));
    let route = json!({"match": {"prefix": "/"}, "route": {"cluster": "origin"}});
    let manager = typed(
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        json!({
            "stat_prefix": "perf",
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
            "http_filters": filters,
        }),
    );
    let manager =
        json!({"name": "envoy.filters.network.http_connection_manager", "typed_config": manager});
    let endpoint = json!({"lb_endpoints": [{"endpoint": {"address": socket(origin)}}]});
    json!({"static_resources": {
        "listeners": [{"address": socket(port), "filter_chains": [{"filters": [manager]}]}],
        "clusters": [{
            "name": "origin",
            "type": "STATIC",
            "load_assignment": {"cluster_name": "origin", "endpoints": [endpoint]},
        }],
    }})
}

fn wasm(dir: &Path, name: &str, config: &Value) -> Result<Value> {
    let file = dir.join(format!("{name}.wasm"));
    std::fs::write(&file, waypoint_filters::module(name).ok_or("no such bundled filter")?)?;
    let config = json!({
        "name": name,
        "vm_config": {
            "vm_id": name,
            "runtime": "envoy.wasm.runtime.v8",
            "code": {"local": {"filename": file}},
        },
        // What `bodies: BeforeHeaders` is there.
        "allow_on_headers_stop_iteration": name == "payload-router",
        "configuration": typed("google.protobuf.StringValue", json!({"value": config.to_string()})),
    });
    let filter = typed("envoy.extensions.filters.http.wasm.v3.Wasm", json!({"config": config}));
    Ok(json!({"name": format!("envoy.filters.http.wasm.{name}"), "typed_config": filter}))
}
