//! payload-router in the real proxy.
#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::client::{Raw, post_with, values};
use crate::harness::{Waypoint, filter, gateway_to, send_http1, service};
use crate::origin::{Origin, Speaks};

/// A filter with these rules, and a route to `NAME` for each key `NAME` of `services`.
fn routed(rules: Value, services: &[&str]) -> String {
    let mut resources = gateway_to("other");
    for name in services {
        resources += &format!(
            "
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: to-{name}}}
spec:
  parentRefs: [{{name: web}}]
  rules:
    - matches: [{{headers: [{{name: x-waypoint-route-key, value: {name}}}]}}]
      backendRefs: [{{name: {name}, port: 80}}]
"
        );
    }
    let spec = format!("  bodies: BeforeHeaders\n  config: {}", json!({ "rules": rules }));
    resources + &filter("router", "builtin://payload-router", &spec)
}

struct Scene {
    waypoint: Waypoint,
    us: Origin,
    other: Origin,
}

async fn scene(rules: Value) -> Scene {
    let us = Origin::named(Speaks::Http1, "us").await;
    let other = Origin::named(Speaks::Http1, "other").await;
    let resources = routed(rules, &["us"])
        + &service("us", "http", us.address)
        + &service("other", "http", other.address);
    Scene { waypoint: Waypoint::start(&resources).await, us, other }
}

impl Scene {
    /// Which service answers.
    async fn chosen(&self, request: Request<Full<bytes::Bytes>>) -> String {
        let answer = send_http1(self.waypoint.http(), request).await;
        assert_eq!(answer.status(), 200);
        String::from_utf8(answer.body().to_vec()).unwrap()
    }
}

const JSON: (&str, &str) = ("content-type", "application/json");
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
const GRPC: (&str, &str) = ("content-type", "application/grpc");

#[tokio::test]
async fn a_json_pointer_a_form_field_a_grpc_method_or_a_header_decides() {
    let scene = scene(json!([
        {"header": "x-region"},
        {"jsonPointer": "/order/items/1/region"},
        {"formField": "region"},
        {"grpc": "method", "values": {"shop.Orders/Place": "us"}},
    ]))
    .await;
    let deep = r#"{"order":{"note":"region","items":[{"region":"eu"},{"region":"us"}]}}"#;
    for (path, body, headers, wanted) in [
        ("/", deep, vec![JSON], "us"),
        ("/", r#"{"order":{"items":[{"region":"us"}]}}"#, vec![JSON], "other"),
        ("/", "{not json", vec![JSON], "other"),
        ("/", "a=1&region=us&b=2", vec![FORM], "us"),
        ("/", "a=region%3Dus&regions=us", vec![FORM], "other"),
        ("/shop.Orders/Place", "\0\0\0\0\0", vec![GRPC], "us"),
        ("/shop.Orders/Cancel", "\0\0\0\0\0", vec![GRPC], "other"),
        ("/", "", vec![("x-region", "us")], "us"),
    ] {
        let chosen = scene.chosen(post_with(path, body, &headers)).await;
        assert_eq!(chosen, wanted, "{path} {body:?} {headers:?}");
    }
    // What was read to decide has not been lost.
    assert_eq!(scene.us.seen()[0].body(), deep);
}

#[tokio::test]
async fn the_callers_own_route_key_decides_nothing() {
    let scene = scene(json!([{"jsonPointer": "/region"}])).await;
    let forged = [JSON, ("x-waypoint-route-key", "us"), ("X-Waypoint-Route-Key", "us")];

    assert_eq!(scene.chosen(post_with("/", r#"{"a":1}"#, &forged)).await, "other");
    assert_eq!(scene.chosen(post_with("/", r#"{"region":"eu"}"#, &forged)).await, "other");
    assert_eq!(scene.chosen(post_with("/", "", &[forged[1]])).await, "other");

    let keys = |n: usize| values(scene.other.seen()[n].headers(), "x-waypoint-route-key");
    assert_eq!([keys(0), keys(1), keys(2)], [vec![], vec!["eu".to_owned()], vec![]]);
}

#[tokio::test]
async fn no_more_of_a_body_is_read_than_decides() {
    let sink = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let other = Origin::named(Speaks::Http1, "other").await;
    let resources = routed(json!([{"jsonPointer": "/order/region"}]), &["us"])
        + &service("us", "http", sink.local_addr().unwrap())
        + &service("other", "http", other.address);
    let waypoint = Waypoint::start(&resources).await;
    let padding = "x".repeat(30 * 1024);
    let begin = format!(r#"{{"pad":"{padding}","order":{{"region":"us","#);
    let rest = format!(r#""more":"{padding}"}}}}"#);
    let mut client = Raw::connect(waypoint.http()).await;
    client.send("POST / HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\n").await;
    client.send("transfer-encoding: chunked\r\n\r\n").await;
    for piece in begin.as_bytes().chunks(7_001) {
        client.chunk(piece).await;
    }

    // The service has the head and all of the beginning; the client has not sent the rest.
    let mut upstream = Raw::over(sink.accept().await.unwrap().0);
    let head = upstream.until("\r\n\r\n").await;
    assert!(head.contains("x-waypoint-route-key: us\r\n"), "{head}");
    upstream.until(r#""region":"us","#).await;

    client.chunk(rest).await;
    client.send("0\r\n\r\n").await;
    upstream.until("0\r\n\r\n").await;
    upstream.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let answer = client.until("\r\n\r\nok").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn a_head_that_waits_for_a_body_that_does_not_come_is_given_up() {
    let us = Origin::named(Speaks::Http1, "us").await;
    let resources = routed(json!([{"jsonPointer": "/region"}]), &["us"])
        .replace("  bodies: BeforeHeaders", "  bodies: BeforeHeaders\n  limits: {bodyWait: 200ms}")
        + &service("us", "http", us.address)
        + &service("other", "http", us.address);
    let waypoint = Waypoint::start(&resources).await;
    let mut client = Raw::connect(waypoint.http()).await;
    client.send("POST / HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\n").await;
    client.send("content-length: 100\r\n\r\n{\"region\":").await;

    let answer = client.until("\r\n\r\n").await;

    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(us.seen().is_empty());
}
