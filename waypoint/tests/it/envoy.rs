//! A real Envoy beside the proxy: the same modules, configurations and requests, and what origins
//! and clients see of them.

mod callbacks;
mod filters;
mod process;
mod signatures;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::Full;
use serde_json::Value;
use tempfile::TempDir;

use self::process::{Envoy, Plugin};
use crate::guests::Guest;
use crate::harness::{Waypoint, filter, gateway_to, send_http1, service};
use crate::origin::Origin;

/// Headers that a proxy adds or sets by itself, whatever its filters do. `x-envoy-…` and
/// `x-forwarded-…` of a caller are what Waypoint removes and Envoy may set.
const PROXYS_OWN: [&str; 7] = [
    "connection",
    "content-length",
    "date",
    "server",
    "traceparent",
    "transfer-encoding",
    "x-request-id",
];

/// What is seen of a message: its first line, its headers, its body.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Message {
    line: String,
    headers: BTreeMap<String, Vec<String>>,
    body: Bytes,
}

impl Message {
    fn new(line: String, headers: &HeaderMap, body: &Bytes) -> Self {
        let mut kept: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in headers {
            let own = ["x-envoy-", "x-forwarded-"].iter().any(|own| name.as_str().starts_with(own));
            if !own && !PROXYS_OWN.contains(&name.as_str()) {
                let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
                kept.entry(name.as_str().to_owned()).or_default().push(value);
            }
        }
        Self { line, headers: kept, body: body.clone() }
    }

    fn header(&self, name: &str) -> Vec<&str> {
        self.headers.get(name).into_iter().flatten().map(String::as_str).collect()
    }
}

/// What one request came to: what reached origins, and the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Exchange {
    reached: Vec<Message>,
    answer: Message,
}

/// Both proxies, with the same filters before the same origins.
struct Beside {
    waypoint: Waypoint,
    envoy: Envoy,
    origins: Vec<(&'static str, Origin)>,
    _dir: TempDir,
}

impl Beside {
    /// `routes` are pairs of a route key and its origin; the first origin takes the rest.
    async fn start(
        dir: TempDir,
        plugins: &[Plugin],
        routes: &[(&str, &str)],
        origins: Vec<(&'static str, Origin)>,
    ) -> Self {
        let mut resources = gateway_to(origins[0].0);
        for (key, name) in routes {
            resources += &key_route(key, name);
        }
        for (name, origin) in &origins {
            resources += &service(name, "http", origin.address);
        }
        for (index, plugin) in plugins.iter().enumerate() {
            let bodies = if plugin.holds_heads { "BeforeHeaders" } else { "AfterHeaders" };
            let mut spec = format!("  priority: -{index}\n  bodies: {bodies}");
            if !plugin.config.is_null() {
                let _ = write!(spec, "\n  config: {}", plugin.config);
            }
            let url = format!("file://{}", plugin.module.display());
            resources += &filter(plugin.name, &url, &spec);
        }
        let clusters: Vec<_> = origins.iter().map(|(name, at)| (*name, at.address)).collect();
        let envoy = Envoy::start(&dir, plugins, routes, &clusters).await;
        let waypoint = Waypoint::start(&resources).await;
        Self { waypoint, envoy, origins, _dir: dir }
    }

    /// One filter before one origin.
    async fn one(dir: TempDir, plugin: Plugin, origin: Origin) -> Self {
        Self::start(dir, &[plugin], &[], vec![("origin", origin)]).await
    }

    async fn through(&self, envoy: bool, request: Request<Full<Bytes>>) -> Exchange {
        let address = if envoy { self.envoy.address } else { self.waypoint.http() };
        let before: Vec<usize> =
            self.origins.iter().map(|(_, origin)| origin.seen().len()).collect();
        let answer = send_http1(address, request).await;
        let mut reached = Vec::new();
        for ((name, origin), before) in self.origins.iter().zip(before) {
            for seen in origin.seen().drain(before..) {
                let line = format!("{name}: {} {}", seen.method(), seen.uri());
                reached.push(Message::new(line, seen.headers(), seen.body()));
            }
        }
        let line = answer.status().to_string();
        Exchange { reached, answer: Message::new(line, answer.headers(), answer.body()) }
    }

    /// Sends a request through both, and gives what it came to.
    async fn same(&self, request: Request<Full<Bytes>>) -> Exchange {
        let said = format!("{} {} {:?}", request.method(), request.uri(), request.headers());
        let ours = self.through(false, request.clone()).await;
        let theirs = self.through(true, request).await;
        assert_eq!(ours, theirs, "left ours, right Envoy's: {said}\n{}", self.envoy.complaints());
        ours
    }
}

/// A route of requests with this route key.
fn key_route(key: &str, service: &str) -> String {
    format!(
        "
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: key-{key}}}
spec:
  parentRefs: [{{name: web}}]
  rules:
    - matches: [{{headers: [{{name: x-waypoint-route-key, value: {key}}}]}}]
      backendRefs: [{{name: {service}, port: 80}}]
"
    )
}

/// A guest of the tests.
fn guest(dir: &TempDir, name: &'static str, guest: Guest) -> Plugin {
    guest.write(dir.path(), name);
    let module = dir.path().join(format!("{name}.wasm"));
    Plugin { name, module, config: Value::Null, holds_heads: false }
}
