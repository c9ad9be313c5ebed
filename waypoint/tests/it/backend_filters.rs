//! Filters of single backends of a rule: they act when their backend is drawn, after the rule's.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{Method, Request, Response};

use crate::client::becomes;
use crate::harness::{Waypoint, gate, gateway_with, get, send_http1, service};
use crate::origin::{Origin, Speaks};
use crate::streams::{Client, request_with};

/// Requests of one test. That a backend with half of the weight gets none of them: once in 2^64.
const DRAWS: usize = 64;

/// Answers with what it got: its name, host, URI, and the marks of the header filters.
async fn telling(name: &'static str) -> Origin {
    Origin::start(Speaks::Http1, move |request: &Request<Bytes>| {
        let text = |header: &str| {
            let values = request.headers().get_all(header).iter();
            values.map(|value| value.to_str().expect("text")).collect::<Vec<_>>().join("+")
        };
        let told = format!("{name} {} {} {}", text("host"), request.uri(), text("x-mark"));
        let mut answer = Response::new(Bytes::from(told));
        answer.headers_mut().insert("x-from", http::HeaderValue::from_static("upstream"));
        answer
    })
    .await
}

#[tokio::test]
async fn filters_of_the_drawn_backend_act_after_those_of_the_rule_and_no_others() {
    let (one, two, copies) = (telling("one").await, telling("two").await, telling("copies").await);
    let rule = "{
        matches: [{path: {value: /old}}],
        filters: [
          {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-mark, value: rule}]}},
          {type: ResponseHeaderModifier, responseHeaderModifier: {add: [{name: x-from, value: rule}]}},
          {type: URLRewrite, urlRewrite: {hostname: rule.test,
            path: {type: ReplacePrefixMatch, replacePrefixMatch: /rule}}}],
        backendRefs: [
          {name: one, port: 80, filters: [
            {type: RequestHeaderModifier, requestHeaderModifier: {add: [{name: x-mark, value: one}]}},
            {type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: x-from, value: one}]}},
            {type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /one}}}]},
          {name: two, port: 80, filters: [
            {type: URLRewrite, urlRewrite: {hostname: two.test}},
            {type: RequestMirror, requestMirror: {backendRef: {name: copies, port: 80}}}]},
          {name: one, port: 80, weight: 0, filters: [
            {type: RequestRedirect, requestRedirect: {}}]}]}";
    let text = gateway_with(rule)
        + &service("one", "http", one.address)
        + &service("two", "http", two.address)
        + &service("copies", "http", copies.address);
    let waypoint = Waypoint::start(&text).await;
    let client = Client::connect(waypoint.http(), Speaks::Http2).await;
    let mut told: BTreeMap<(String, String), usize> = BTreeMap::new();
    for _ in 0..DRAWS {
        let answer = client.fetch(request_with(Method::GET, "/old/a?q", &[])).await;
        assert_eq!(answer.status(), 200);
        let from = answer.headers().get_all("x-from").iter();
        let from: Vec<_> = from.map(|value| value.to_str().expect("text")).collect();
        let body = String::from_utf8(answer.body().to_vec()).expect("text");
        *told.entry((body, from.join("+"))).or_default() += 1;
    }

    let kinds: Vec<_> = told.keys().map(|(body, from)| (body.as_str(), from.as_str())).collect();
    assert_eq!(
        kinds,
        [
            // The path is the backend's own, the host the rule's; the rule edits the answer last.
            ("one rule.test /one/a?q rule+one", "one+rule"),
            ("two two.test /rule/a?q rule", "upstream+rule"),
        ]
    );
    let of_two = two.seen().len();
    becomes(&waypoint, "waypoint_mirrored_requests_total{result=\"answered\"}", of_two as u64)
        .await;
    assert_eq!(copies.seen().len(), of_two, "only what goes to its backend is copied");
    assert!(copies.seen().iter().all(|copy| copy.uri() == "/rule/a?q"));
}

#[tokio::test]
async fn a_backend_redirects_answers_preflights_or_is_guarded_for_its_share_alone() {
    let plain = Origin::named(Speaks::Http1, "plain").await;
    let rule = "{
        matches: [{path: {value: /old}}],
        backendRefs: [
          {name: plain, port: 80},
          {name: plain, port: 80, filters: [{type: RequestRedirect, requestRedirect:
            {hostname: new.test, port: 80, path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}}}]},
          {name: plain, port: 80, filters: [{type: ExtensionRef, extensionRef:
            {group: waypoint.rs, kind: Filter, name: gate}}]}]}";
    let text = gateway_with(rule) + &gate("[]") + &service("plain", "http", plain.address);
    let waypoint = Waypoint::start(&text).await;
    let client = Client::connect(waypoint.http(), Speaks::Http1).await;
    let mut answers: BTreeMap<u16, usize> = BTreeMap::new();
    for _ in 0..2 * DRAWS {
        let answer = client.fetch(request_with(Method::GET, "/old/a", &[])).await;
        *answers.entry(answer.status().as_u16()).or_default() += 1;
        if answer.status() == 302 {
            assert_eq!(answer.headers()["location"], "http://new.test/new/a");
        }
    }
    assert_eq!(answers.keys().copied().collect::<Vec<_>>(), [200, 302, 401]);
    assert_eq!(plain.seen().len(), answers[&200], "nothing else reached the upstream");

    let cors = "{backendRefs: [{name: plain, port: 80, filters: [
        {type: CORS, cors: {allowOrigins: ['https://shop.test']}}]}]}";
    let text = gateway_with(cors) + &service("plain", "http", plain.address);
    assert_ne!(waypoint.reload(&text).await["result"], "refused");
    let before = plain.seen().len();
    let asked = [("origin", "https://shop.test"), ("access-control-request-method", "GET")];
    let answer = send_http1(waypoint.http(), request_with(Method::OPTIONS, "/", &asked)).await;
    assert_eq!(answer.status(), 204);
    assert_eq!(answer.headers()["access-control-allow-origin"], "https://shop.test");
    assert_eq!(plain.seen().len(), before, "a preflight is answered without an upstream");
    let answer = send_http1(waypoint.http(), request_with(Method::GET, "/", &asked[..1])).await;
    assert_eq!(answer.headers()["access-control-allow-origin"], "https://shop.test");
    assert_eq!(answer.body(), "plain");
}

#[tokio::test]
async fn a_backend_whose_filter_is_missing_answers_500_for_its_share_and_passes_nothing() {
    let plain = Origin::named(Speaks::Http1, "plain").await;
    let right = gateway_with("{backendRefs: [{name: plain, port: 80}]}")
        + &service("plain", "http", plain.address);
    let wrong = gateway_with(
        "{backendRefs: [{name: plain, port: 80, filters: [
            {type: ExtensionRef, extensionRef: {group: waypoint.rs, kind: Filter, name: gone}}]},
          {name: plain, port: 80}]}",
    ) + &service("plain", "http", plain.address);
    // A refused route keeps its last good version; without one it is served as far as it is right.
    let waypoint = Waypoint::start_with(&wrong, &["--partial"]).await;
    let mut answers: BTreeMap<u16, usize> = BTreeMap::new();
    for _ in 0..DRAWS {
        *answers.entry(get(waypoint.http(), "/").await.status().as_u16()).or_default() += 1;
    }
    assert_eq!(answers.keys().copied().collect::<Vec<_>>(), [200, 500]);
    assert_eq!(plain.seen().len(), answers[&200]);

    assert_ne!(waypoint.reload(&right).await["result"], "refused");
    assert_eq!(get(waypoint.http(), "/").await.status(), 200);
}
