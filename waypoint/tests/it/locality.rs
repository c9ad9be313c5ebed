//! Endpoints that are near are preferred, and those that end are a last resort.

use std::net::SocketAddr;

use crate::harness::{Waypoint, gateway_to, get, slice};
use crate::origin::{Origin, Speaks};

/// A Service `origin` with this specification, and a slice for each endpoint: its address, and
/// what else stands there, in flow form.
fn service(spec: &str, endpoints: &[(SocketAddr, &str)]) -> String {
    let mut text = format!(
        "{}
---
apiVersion: v1
kind: Service
metadata: {{name: origin}}
spec: {{{spec} ports: [{{name: main, port: 80, appProtocol: http}}]}}
",
        gateway_to("origin")
    );
    for (number, (address, rest)) in endpoints.iter().enumerate() {
        text += &slice("origin", number, *address, rest);
    }
    text
}

/// Who answers so many requests, each name once.
async fn answering(waypoint: &Waypoint, count: usize) -> Vec<String> {
    let mut names = Vec::new();
    for _ in 0..count {
        let answer = get(waypoint.http(), "/").await;
        names.push(format!(
            "{} {}",
            answer.status().as_u16(),
            String::from_utf8_lossy(answer.body())
        ));
    }
    names.sort();
    names.dedup();
    names
}

#[tokio::test]
async fn endpoints_of_our_node_and_zone_are_preferred_as_the_service_asks() {
    let here = Origin::named(Speaks::Http1, "here").await;
    let near = Origin::named(Speaks::Http1, "near").await;
    let far = Origin::named(Speaks::Http1, "far").await;
    let endpoints = [
        (far.address, "zone: b, nodeName: n3"),
        (near.address, "zone: a, nodeName: n2"),
        (here.address, "zone: a, nodeName: n1"),
    ];
    let hinted = [
        (far.address, "zone: b, hints: {forZones: [{name: a}]}"),
        (near.address, "zone: a, hints: {forZones: [{name: b}]}"),
    ];
    let place = ["--zone", "a", "--node", "n1"];
    let waypoint = Waypoint::start_with(&service("", &endpoints), &place).await;
    assert_eq!(answering(&waypoint, 64).await, ["200 far", "200 here", "200 near"]);
    let cases = [
        ("trafficDistribution: PreferSameNode,", &endpoints[..], &["200 here"][..]),
        ("trafficDistribution: PreferClose,", &endpoints, &["200 here", "200 near"]),
        ("trafficDistribution: PreferSameZone,", &endpoints[..1], &["200 far"]),
        ("", &hinted, &["200 far"]),
    ];
    for (spec, endpoints, want) in cases {
        assert_ne!(waypoint.reload(&service(spec, endpoints)).await["result"], "refused");
        assert_eq!(answering(&waypoint, 32).await, want, "{spec}");
    }
    let model = waypoint.page("/config_dump").await;
    let groups = &model["services"][0]["groups"];
    assert_eq!(groups[0][0], far.address.to_string());
    assert_eq!(groups[1][0], near.address.to_string());
    let spilled = "waypoint_upstream_spilled_total{service=\"default/origin:80\"}";
    assert_eq!(waypoint.series(spilled).await, Some(0));
}

#[tokio::test]
async fn near_endpoints_that_are_gone_lose_no_request_and_the_metric_says_where_they_went() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").and_then(|gone| gone.local_addr());
    let far = Origin::named(Speaks::Http1, "far").await;
    let endpoints = [(gone.unwrap(), "zone: a"), (far.address, "zone: b")];
    let text = service("trafficDistribution: PreferSameZone,", &endpoints);
    let waypoint = Waypoint::start_with(&text, &["--zone", "a"]).await;
    assert_eq!(answering(&waypoint, 20).await, ["200 far"]);
    let spilled = "waypoint_upstream_spilled_total{service=\"default/origin:80\"}";
    assert_eq!(waypoint.series(spilled).await, Some(20));
}

#[tokio::test]
async fn an_endpoint_that_ends_and_still_serves_is_used_while_no_other_is_ready() {
    let ready = Origin::named(Speaks::Http1, "ready").await;
    let ending = Origin::named(Speaks::Http1, "ending").await;
    let gone = Origin::named(Speaks::Http1, "gone").await;
    const ENDING: &str = "conditions: {ready: false, serving: true, terminating: true}";
    const GONE: &str = "conditions: {ready: false, serving: false, terminating: true}";
    const STARTING: &str = "conditions: {ready: false, serving: true}";
    let all = [
        (gone.address, GONE),
        (ending.address, ENDING),
        (ready.address, "conditions: {ready: true}"),
    ];
    let waypoint = Waypoint::start(&service("", &all)).await;
    assert_eq!(answering(&waypoint, 32).await, ["200 ready"]);
    waypoint.reload(&service("", &all[..2])).await;
    assert_eq!(answering(&waypoint, 32).await, ["200 ending"]);
    waypoint.reload(&service("", &[(gone.address, GONE), (ready.address, STARTING)])).await;
    assert_eq!(answering(&waypoint, 1).await, ["503 no_healthy_upstream\n"]);
}
