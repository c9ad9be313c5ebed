//! The thin walk: one request through every stage.

use http::Method;

use crate::harness::{
    Waypoint, filter, gateway_to, get, post_json, request, send_http1, send_http2, service,
};
use crate::origin::{Origin, Speaks};

#[tokio::test]
async fn a_request_reaches_its_service_and_is_recorded() {
    let origin = Origin::named(Speaks::Http1, "origin").await;
    let resources = gateway_to("origin") + &service("origin", "http", origin.address);
    let waypoint = Waypoint::start(&resources).await;

    let answer = get(waypoint.http(), "/hello?name=value").await;

    assert_eq!((answer.status().as_u16(), &answer.body()[..]), (200, &b"origin"[..]));
    let seen = origin.seen();
    assert_eq!(seen[0].uri(), "/hello?name=value");
    assert_eq!(seen[0].headers()["host"], "example.test");
    assert_eq!(seen[0].headers()["x-forwarded-for"], "127.0.0.1");
    let record = waypoint.record(|record| record["path"] == "/hello?name=value").await;
    assert_eq!(record["response_code"], 200);
    assert_eq!(record["upstream_cluster"], "default/origin:80");
    let metrics = waypoint.metrics().await;
    assert!(metrics.contains("istio_requests_total{reporter=\"waypoint\""), "{metrics}");
}

#[tokio::test]
async fn every_pair_of_versions_walks() {
    for upstream in [Speaks::Http1, Speaks::Http2] {
        let origin = Origin::echo(upstream).await;
        let protocol = if upstream == Speaks::Http1 { "http" } else { "kubernetes.io/h2c" };
        let resources = gateway_to("origin") + &service("origin", protocol, origin.address);
        let waypoint = Waypoint::start(&resources).await;

        let one = send_http1(waypoint.http(), request(Method::POST, "/", "one")).await;
        let mut second = request(Method::POST, "/", "two");
        second.headers_mut().remove("host");
        *second.uri_mut() = "http://example.test/".parse().unwrap();
        let two = send_http2(waypoint.http(), second).await;

        assert_eq!((one.status().as_u16(), &one.body()[..]), (200, &b"one"[..]));
        assert_eq!((two.status().as_u16(), &two.body()[..]), (200, &b"two"[..]));
    }
}

#[tokio::test]
async fn a_bundled_filter_redacts_what_the_service_sees_and_answers() {
    let origin = Origin::echo(Speaks::Http1).await;
    let resources = gateway_to("origin")
        + &service("origin", "http", origin.address)
        + &filter("redact", "builtin://pii-redact", "  config: {entities: [email]}");
    let waypoint = Waypoint::start(&resources).await;

    let answer = post_json(waypoint.http(), "/", r#"{"mail":"alice@example.com"}"#).await;

    assert_eq!(answer.status(), 200);
    assert_eq!(&answer.body()[..], br#"{"mail":"<EMAIL>"}"#);
    assert_eq!(&origin.seen()[0].body()[..], br#"{"mail":"<EMAIL>"}"#);
}
