//! GRPCRoute on the data path: which calls reach which service.

use http::Method;

use crate::harness::{GATEWAY, Waypoint, service};
use crate::origin::{Origin, Speaks};
use crate::streams::{Client, request_with};

const ROUTES: &str = "
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: calls}
spec:
  parentRefs: [{name: web}]
  hostnames: [calls.test]
  rules:
  - name: cart
    matches: [{method: {service: shop.Cart}}]
    filters:
    - {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-rule, value: cart}]}}
    - {type: RequestMirror, requestMirror: {backendRef: {name: copies, port: 80}}}
    backendRefs: [{name: cart, port: 80}]
  - name: get
    matches: [{method: {method: Get}, headers: [{name: tenant, value: a}]}]
    backendRefs: [{name: get, port: 80}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: pages}
spec:
  parentRefs: [{name: web}]
  hostnames: [pages.test]
  rules: [{backendRefs: [{name: pages, port: 80}]}]
";

#[tokio::test]
async fn calls_and_pages_are_routed_beside_each_other_by_host_and_method() {
    let mut resources = GATEWAY.to_owned() + ROUTES;
    let mut origins = Vec::new();
    for (name, speaks, protocol) in [
        ("cart", Speaks::Http2, "grpc"),
        ("get", Speaks::Http2, "grpc"),
        ("copies", Speaks::Http2, "grpc"),
        ("pages", Speaks::Http1, "http"),
    ] {
        let origin = Origin::named(speaks, name).await;
        resources += &service(name, protocol, origin.address);
        origins.push(origin);
    }
    let waypoint = Waypoint::start(&resources).await;
    let client = Client::connect(waypoint.http(), Speaks::Http2).await;
    for (host, path, tenant, want) in [
        ("calls.test", "/shop.Cart/Get", "a", "cart"),
        ("calls.test", "/shop.Cart/Add", "b", "cart"),
        ("calls.test", "/shop.Desk/Get", "a", "get"),
        ("pages.test", "/shop.Cart/Get", "a", "pages"),
    ] {
        let headers = [("host", host), ("content-type", "application/grpc"), ("tenant", tenant)];
        let answer = client.fetch(request_with(Method::POST, path, &headers)).await;
        assert_eq!(answer.body(), want, "{host}{path}");
    }
    // A call that no rule takes is told so as a gRPC status.
    let headers = [("host", "calls.test"), ("content-type", "application/grpc"), ("tenant", "b")];
    let answer = client.fetch(request_with(Method::POST, "/shop.Desk/Get", &headers)).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["grpc-status"], "12");

    crate::client::becomes(&waypoint, "waypoint_mirrored_requests_total{result=\"answered\"}", 2)
        .await;
    assert_eq!(origins[2].seen()[0].headers()["x-rule"], "cart");
    let record = waypoint.record(|record| record["path"] == "/shop.Cart/Add").await;
    assert_eq!(record["route_name"], "default/calls/cart");
}
