//! Which service gets a request, as the Gateway API says; what happens when none can.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Response};

use crate::harness::{
    PATIENCE, Waypoint, filter, gateway_to, get, send_http1, service, service_at,
};
use crate::origin::{Origin, Speaks};
use crate::streams::{Client, exchange, request_with, serve};

const GATEWAY: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: web}
spec:
  gatewayClassName: waypoint
  listeners: [{name: http, port: 8080, protocol: HTTP, allowedRoutes: {namespaces: {from: All}}}]
";

/// A route of the Gateway; `spec` is the rest of its spec, in flow form.
fn route(name: &str, spec: &str) -> String {
    format!(
        "
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {name}}}
spec: {{parentRefs: [{{name: web}}], {spec}}}
"
    )
}

/// A rule that tells the origin its name.
fn rule(name: &str, matches: &str) -> String {
    format!(
        "{{matches: [{matches}], backendRefs: [{{name: origin, port: 80}}], filters: [{{type: \
         RequestHeaderModifier, requestHeaderModifier: {{set: [{{name: x-rule, value: {name}}}]}}}}]}}"
    )
}

/// An origin that answers with the name of the rule that led to it.
async fn naming_origin() -> Origin {
    Origin::start(Speaks::Http1, |request| {
        let name = request.headers().get("x-rule").map_or(&b"none"[..], |name| name.as_bytes());
        Response::new(Bytes::copy_from_slice(name))
    })
    .await
}

/// The rule that a request took, or the status that it got instead.
async fn taken(client: &Client, method: &str, target: &str, headers: &[(&str, &str)]) -> String {
    let method = Method::from_bytes(method.as_bytes()).expect("a method");
    let answer = client.fetch(request_with(method, target, headers)).await;
    match answer.status().as_u16() {
        200 => String::from_utf8(answer.into_body().to_vec()).expect("text"),
        status => status.to_string(),
    }
}

#[tokio::test]
async fn the_most_specific_hostname_takes_a_request() {
    let origin = naming_origin().await;
    let rules = |name: &str| format!("rules: [{}]", rule(name, ""));
    let hosts = |hosts: &str, name: &str| format!("hostnames: [{hosts}], {}", rules(name));
    let resources = GATEWAY.to_owned()
        + &route("any", &rules("any"))
        + &route("exact", &hosts("api.example.test", "exact"))
        + &route("wide", &hosts("'*.example.test'", "wide"))
        + &route("narrow", &hosts("'*.shop.example.test'", "narrow"))
        + &service("origin", "http", origin.address);
    let waypoint = Waypoint::start(&resources).await;
    for speaks in [Speaks::Http1, Speaks::Http2] {
        let client = Client::connect(waypoint.http(), speaks).await;
        for (host, want) in [
            ("api.example.test", "exact"),
            ("API.Example.test:8080", "exact"),
            ("api.example.test.", "exact"),
            ("www.example.test", "wide"),
            ("a.b.example.test", "wide"),
            ("a.shop.example.test", "narrow"),
            ("shop.example.test", "wide"),
            ("example.test", "any"),
            ("elsewhere.test", "any"),
            ("127.0.0.1:8080", "any"),
        ] {
            assert_eq!(taken(&client, "GET", "/", &[("host", host)]).await, want, "{host}");
        }
    }
}

#[tokio::test]
async fn a_host_that_no_route_has_gets_404() {
    let origin = naming_origin().await;
    let only = format!("hostnames: [api.example.test], rules: [{}]", rule("only", ""));
    let resources =
        GATEWAY.to_owned() + &route("only", &only) + &service("origin", "http", origin.address);
    let waypoint = Waypoint::start(&resources).await;
    let client = Client::connect(waypoint.http(), Speaks::Http1).await;

    assert_eq!(taken(&client, "GET", "/", &[("host", "api.example.test")]).await, "only");
    for host in ["example.test", "apis.example.test", "x.api.example.test"] {
        assert_eq!(taken(&client, "GET", "/", &[("host", host)]).await, "404", "{host}");
    }
    assert_eq!(origin.seen().len(), 1);
}

#[tokio::test]
async fn a_rule_is_chosen_in_the_precedence_of_the_gateway_api() {
    let origin = naming_origin().await;
    let rules = [
        rule("root", "{path: {type: PathPrefix, value: /}}"),
        rule("prefix", "{path: {type: PathPrefix, value: /shop}}"),
        rule("longer", "{path: {type: PathPrefix, value: /shop/cart}}"),
        rule("exact", "{path: {type: Exact, value: /shop/cart}}"),
        rule("regex", "{path: {type: RegularExpression, value: '/item/[0-9]+'}}"),
        rule("method", "{path: {type: PathPrefix, value: /shop}, method: PUT}"),
        rule(
            "header",
            "{path: {type: PathPrefix, value: /shop}, headers: [{name: X-Beta, value: 'yes'}]}",
        ),
        rule(
            "query",
            "{path: {type: PathPrefix, value: /shop}, queryParams: [{name: beta, value: 'yes'}]}",
        ),
    ];
    let resources = GATEWAY.to_owned()
        + &route("all", &format!("rules: [{}]", rules.join(", ")))
        + &service("origin", "http", origin.address);
    let waypoint = Waypoint::start(&resources).await;
    let client = Client::connect(waypoint.http(), Speaks::Http1).await;
    let beta: &[(&str, &str)] = &[("x-beta", "yes")];
    for (method, target, headers, want) in [
        ("GET", "/", &[][..], "root"),
        ("GET", "/shopping", &[], "root"),
        ("GET", "/shop", &[], "prefix"),
        ("GET", "/shop/", &[], "prefix"),
        ("GET", "/shop/cart/1", &[], "longer"),
        ("GET", "/shop/cart", &[], "exact"),
        ("GET", "/shop/./x/../cart", &[], "exact"),
        ("GET", "/item/17", &[], "regex"),
        ("GET", "/item/17x", &[], "root"),
        ("PUT", "/shop", beta, "method"),
        ("GET", "/shop?beta=yes", beta, "header"),
        ("GET", "/shop", &[("x-beta", "no")], "prefix"),
        ("GET", "/shop?beta=yes", &[], "query"),
        ("GET", "/shop?beta=no", &[], "prefix"),
        ("GET", "/shop/cart/1?beta=yes", beta, "longer"),
    ] {
        let took = taken(&client, method, target, headers).await;
        assert_eq!(took, want, "{method} {target} {headers:?}");
    }
}

#[tokio::test]
async fn requests_are_divided_by_weight_and_weight_zero_gets_none() {
    let mut resources = GATEWAY.to_owned();
    let mut refs = Vec::new();
    for (name, weight) in [("most", 3), ("some", 1), ("none", 0)] {
        let origin = Origin::named(Speaks::Http1, name).await;
        resources += &service(name, "http", origin.address);
        refs.push(format!("{{name: {name}, port: 80, weight: {weight}}}"));
    }
    resources += &route("all", &format!("rules: [{{backendRefs: [{}]}}]", refs.join(", ")));
    let waypoint = Waypoint::start(&resources).await;
    let client = Client::connect(waypoint.http(), Speaks::Http1).await;

    let mut counts = BTreeMap::new();
    for _ in 0..400 {
        *counts.entry(taken(&client, "GET", "/", &[]).await).or_insert(0) += 1;
    }

    assert_eq!(counts.keys().collect::<Vec<_>>(), ["most", "some"]);
    // Six standard deviations about 300.
    assert!((248..=352).contains(&counts["most"]), "{counts:?}");
}

#[tokio::test]
async fn a_rule_without_a_weight_answers_500() {
    let origin = Origin::named(Speaks::Http1, "origin").await;
    let resources = GATEWAY.to_owned()
        + &route("all", "rules: [{backendRefs: [{name: origin, port: 80, weight: 0}]}]")
        + &service("origin", "http", origin.address);
    let waypoint = Waypoint::start(&resources).await;

    assert_eq!(get(waypoint.http(), "/").await.status(), 500);
    assert!(origin.seen().is_empty());
}

#[tokio::test]
async fn headers_are_modified_both_ways_by_the_rule_and_by_its_backend() {
    let origin = Origin::start(Speaks::Http1, |_| {
        let mut answer = Response::new(Bytes::new());
        for (name, value) in [("x-gone", "1"), ("x-kept", "1"), ("x-set", "old")] {
            answer.headers_mut().insert(name, value.parse().expect("a value"));
        }
        answer
    })
    .await;
    let edits =
        "{set: [{name: X-Set, value: new}], add: [{name: X-Kept, value: '2'}], remove: [X-Gone]}";
    let both = format!(
        "{{type: RequestHeaderModifier, requestHeaderModifier: {edits}}}, \
         {{type: ResponseHeaderModifier, responseHeaderModifier: {edits}}}"
    );
    let backend = "filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-backend, value: origin}]}}]";
    let rules = format!(
        "rules: [{{filters: [{both}], backendRefs: [{{name: origin, port: 80, {backend}}}]}}]"
    );
    let resources =
        GATEWAY.to_owned() + &route("all", &rules) + &service("origin", "http", origin.address);
    let waypoint = Waypoint::start(&resources).await;

    let sent = [("x-gone", "1"), ("x-kept", "1"), ("x-set", "old"), ("x-backend", "forged")];
    let answer = send_http1(waypoint.http(), request_with(Method::GET, "/", &sent)).await;

    let seen = origin.seen().remove(0);
    assert_eq!(seen.headers()["x-backend"], "origin");
    for headers in [seen.headers(), answer.headers()] {
        assert!(!headers.contains_key("x-gone"), "{headers:?}");
        assert_eq!(headers["x-set"], "new");
        assert_eq!(headers.get_all("x-kept").iter().collect::<Vec<_>>(), ["1", "2"]);
    }
}

#[tokio::test]
async fn a_service_that_does_not_answer_in_time_gets_a_504_within_the_bound() {
    // It is connected to by the kernel, and never accepts.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("an address");
    let rules = "rules: [\
        {matches: [{path: {value: /request}}], timeouts: {request: 300ms}, backendRefs: [{name: silent, port: 80}]}, \
        {matches: [{path: {value: /backend}}], timeouts: {request: 20s, backendRequest: 300ms}, backendRefs: [{name: silent, port: 80}]}]";
    let resources = GATEWAY.to_owned() + &route("all", rules) + &service("silent", "http", address);
    let waypoint = Waypoint::start(&resources).await;

    for (path, details) in
        [("/request", "upstream_response_timeout"), ("/backend", "upstream_response_timeout")]
    {
        let began = Instant::now();
        let answer = get(waypoint.http(), path).await;
        let took = began.elapsed();
        assert_eq!(answer.status(), 504, "{path}");
        let bound = Duration::from_millis(290)..Duration::from_secs(3);
        assert!(bound.contains(&took), "{path} took {took:?}");
        let record = waypoint.record(|record| record["path"] == path).await;
        assert_eq!(record["response_flags"], "UT");
        assert_eq!(record["response_code_details"], details);
    }
}

#[tokio::test]
async fn a_request_timeout_cuts_an_answer_that_goes_on_too_long() {
    let endless = serve(Speaks::Http1, |_| async {
        let first = futures_util::stream::iter([Ok(http_body::Frame::data(Bytes::from("first")))]);
        let never = futures_util::StreamExt::chain(first, futures_util::stream::pending());
        Response::new(crate::streams::body_of(never))
    })
    .await;
    let rules = "rules: [{timeouts: {request: 1s}, backendRefs: [{name: origin, port: 80}]}]";
    let resources = GATEWAY.to_owned() + &route("all", rules) + &service("origin", "http", endless);
    let waypoint = Waypoint::start(&resources).await;

    for speaks in [Speaks::Http1, Speaks::Http2] {
        let client = Client::connect(waypoint.http(), speaks).await;
        let answer = client.send(request_with(Method::GET, "/", &[])).await;
        assert_eq!(answer.status(), 200);
        let body = http_body_util::BodyExt::collect(answer.into_body());
        let body = tokio::time::timeout(PATIENCE, body).await.expect("in time");
        assert!(body.is_err(), "an answer that was cut is not a whole one");
    }
}

#[tokio::test]
async fn a_backend_of_another_namespace_needs_a_grant() {
    let near = Origin::named(Speaks::Http1, "near").await;
    let far = Origin::named(Speaks::Http1, "far").await;
    let grant = "
---
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {name: grant, namespace: bank}
spec:
  from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: default}]
  to: [{group: '', kind: Service}]
";
    let rules = "rules: [\
        {matches: [{path: {value: /near}}], backendRefs: [{name: near, port: 80}]}, \
        {matches: [{path: {value: /far}}], backendRefs: [{name: far, namespace: bank, port: 80}]}, \
        {matches: [{path: {value: /nowhere}}], backendRefs: [{name: nowhere, port: 80}]}, \
        {matches: [{path: {value: /port}}], backendRefs: [{name: near, port: 81}]}]";
    let bank = service("far", "http", far.address)
        .replace("metadata: {name: far}", "metadata: {namespace: bank, name: far}")
        .replace("  name: far-1", "  namespace: bank\n  name: far-1");
    let refused =
        GATEWAY.to_owned() + &route("all", rules) + &service("near", "http", near.address) + &bank;
    let waypoint = Waypoint::start(&refused).await;
    let statuses = async || {
        let mut statuses = Vec::new();
        for path in ["/near", "/far", "/nowhere", "/port"] {
            statuses.push(get(waypoint.http(), path).await.status().as_u16());
        }
        statuses
    };

    assert_eq!(statuses().await, [200, 500, 500, 500]);
    waypoint.reload(&(refused.clone() + grant)).await;
    assert_eq!(statuses().await, [200, 200, 500, 500]);
    waypoint.reload(&refused).await;
    assert_eq!(statuses().await, [200, 500, 500, 500], "a grant that is gone acts at once");
}

#[tokio::test]
async fn a_service_has_an_entrance_of_its_own_when_a_route_names_it_as_parent() {
    let origin = naming_origin().await;
    let mesh = format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: mesh}}
spec:
  parentRefs: [{{group: '', kind: Service, name: origin, port: 80}}]
  rules: [{}]
",
        rule("mesh", "{path: {type: PathPrefix, value: /mesh}}")
    );
    let resources = mesh + &service("origin", "http", origin.address);
    let bind = ["--bind", "service/default/origin:80=127.0.0.1:0"];
    let waypoint = Waypoint::start_with(&resources, &bind).await;
    let entrance = waypoint.address("service/default/origin:80");
    let client = Client::connect(entrance, Speaks::Http1).await;

    // The port names the service: no host is asked for.
    for host in ["origin", "origin.default.svc.cluster.local", "10.0.0.1"] {
        assert_eq!(taken(&client, "GET", "/mesh", &[("host", host)]).await, "mesh", "{host}");
    }
    assert_eq!(taken(&client, "GET", "/other", &[]).await, "404");
}

#[tokio::test]
async fn a_service_with_a_filter_and_no_route_is_led_to_directly() {
    let origin = Origin::echo(Speaks::Http1).await;
    let redact = filter("redact", "builtin://pii-redact", "  config: {entities: [email]}").replace(
        "group: gateway.networking.k8s.io, kind: Gateway, name: web",
        "group: '', kind: Service, name: origin",
    );
    let resources = service("origin", "http", origin.address) + &redact;
    let bind = ["--bind", "service/default/origin:80=127.0.0.1:0"];
    let waypoint = Waypoint::start_with(&resources, &bind).await;
    let entrance = waypoint.address("service/default/origin:80");

    let answer = crate::harness::post_json(entrance, "/", r#"{"mail":"alice@example.com"}"#).await;

    assert_eq!(&answer.body()[..], br#"{"mail":"<EMAIL>"}"#);
    assert_eq!(&origin.seen()[0].body()[..], br#"{"mail":"<EMAIL>"}"#);

    // The service is the server that is asked.
    let bytes = b"OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let answer = String::from_utf8(exchange(entrance, bytes).await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(origin.seen()[1].uri(), "*");
}

#[tokio::test]
async fn every_endpoint_of_a_service_gets_requests_and_a_service_without_one_gets_503() {
    let one = Origin::named(Speaks::Http1, "one").await;
    let two = Origin::named(Speaks::Http1, "two").await;
    let resources =
        |endpoints: &[_]| gateway_to("origin") + &service_at("origin", "http", endpoints);
    let waypoint = Waypoint::start(&resources(&[one.address, two.address])).await;

    for _ in 0..64 {
        assert_eq!(get(waypoint.http(), "/").await.status(), 200);
    }
    let (first_saw, second_saw) = (one.seen().len(), two.seen().len());
    assert_eq!(first_saw + second_saw, 64);
    assert!(10 <= first_saw && 10 <= second_saw, "{first_saw} and {second_saw}");

    waypoint.reload(&resources(&[])).await;
    let answer = get(waypoint.http(), "/none").await;
    assert_eq!(answer.status(), 503);
    let record = waypoint.record(|record| record["path"] == "/none").await;
    assert_eq!(record["response_flags"], "UH");
}
