//! What rules of routes do by themselves: redirects, rewrites, cross-origin requests,
//! mirrors.

use bytes::Bytes;
use http::{Method, Response};

use crate::client::becomes;
use crate::harness::{Waypoint, gate, gateway_with, get, post_json, send_http1, service};
use crate::origin::{Origin, Speaks};
use crate::streams::{Client, request_with};

/// A rule for a prefix with one filter; `rest` is the rest of the rule.
fn rule(prefix: &str, filter: &str, rest: &str) -> String {
    format!("{{matches: [{{path: {{value: {prefix}}}}}], filters: [{{{filter}}}]{rest}}}")
}

const TO_ORIGIN: &str = ", backendRefs: [{name: origin, port: 80}]";

fn redirect(prefix: &str, spec: &str) -> String {
    rule(prefix, &format!("type: RequestRedirect, requestRedirect: {{{spec}}}"), "")
}

#[tokio::test]
async fn a_redirect_is_answered_without_an_upstream() {
    let rules = [
        redirect("/plain", ""),
        redirect("/secure", "scheme: https"),
        redirect("/moved", "statusCode: 301, hostname: new.test, port: 80"),
        redirect("/see", "statusCode: 303, path: {type: ReplaceFullPath, replaceFullPath: /all}"),
        redirect("/same", "statusCode: 307, scheme: https, port: 8443"),
        redirect(
            "/old",
            "statusCode: 308, path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}",
        ),
    ];
    let waypoint = Waypoint::start(&gateway_with(&rules.join(", "))).await;
    for speaks in [Speaks::Http1, Speaks::Http2] {
        let client = Client::connect(waypoint.http(), speaks).await;
        for (target, status, location) in [
            ("/plain/x?q=1", 302, "http://shop.test:8080/plain/x?q=1"),
            ("/secure/a/../b", 302, "https://shop.test/secure/b"),
            ("/moved", 301, "http://new.test/moved"),
            ("/see/this?q", 303, "http://shop.test:8080/all?q"),
            ("/same", 307, "https://shop.test:8443/same"),
            ("/old", 308, "http://shop.test:8080/new"),
            ("/old/a", 308, "http://shop.test:8080/new/a"),
        ] {
            let host = [("host", "Shop.test:9999")];
            let answer = client.fetch(request_with(Method::GET, target, &host)).await;
            assert_eq!(answer.status(), status, "{target}");
            assert_eq!(answer.headers()["location"], location, "{target}");
            assert!(answer.body().is_empty());
        }
    }
    let record = waypoint.record(|record| record["path"] == "/moved").await;
    assert_eq!(record["response_code_details"], "route_redirect");
    assert_eq!(record["response_flags"], "-");
    assert_eq!(record["route_name"], "default/all/2");
}

#[tokio::test]
async fn a_filter_of_the_route_sees_a_request_before_it_is_redirected() {
    let rules =
        ["{filters: [{type: ExtensionRef, extensionRef: {group: waypoint.rs, kind: Filter, \
                  name: gate}}, {type: RequestRedirect, requestRedirect: {scheme: https}}]}"
            .to_owned()];
    let waypoint = Waypoint::start(&(gateway_with(&rules.join(", ")) + &gate("[]"))).await;

    assert_eq!(get(waypoint.http(), "/").await.status(), 401);
}

#[tokio::test]
async fn the_upstream_gets_the_rewritten_host_and_path_and_the_log_the_original() {
    let origin = Origin::start(Speaks::Http1, |request| {
        let host = request.headers()["host"].to_str().expect("text");
        Response::new(Bytes::from(format!("{host} {}", request.uri())))
    })
    .await;
    let rewrite = |prefix: &str, spec: &str| {
        rule(prefix, &format!("type: URLRewrite, urlRewrite: {{{spec}}}"), TO_ORIGIN)
    };
    let rules = [
        rewrite("/host", "hostname: inner.test"),
        rewrite("/full", "path: {type: ReplaceFullPath, replaceFullPath: /all}"),
        rewrite(
            "/old/",
            "hostname: inner.test, path: {type: ReplacePrefixMatch, replacePrefixMatch: /new/}",
        ),
        rewrite("/gone", "path: {type: ReplacePrefixMatch, replacePrefixMatch: ''}"),
    ];
    let text = gateway_with(&rules.join(", ")) + &service("origin", "http", origin.address);
    let waypoint = Waypoint::start(&text).await;
    for (target, want) in [
        ("/host/a?q=1", "inner.test /host/a?q=1"),
        ("/full/a?q=1", "shop.test:9999 /all?q=1"),
        ("/old", "inner.test /new"),
        ("/old/", "inner.test /new/"),
        ("/old/./a/../b", "inner.test /new/b"),
        ("/gone", "shop.test:9999 /"),
        ("/gone/", "shop.test:9999 /"),
        ("/gone/a", "shop.test:9999 /a"),
    ] {
        let request = request_with(Method::GET, target, &[("host", "shop.test:9999")]);
        let answer = send_http1(waypoint.http(), request).await;
        assert_eq!(String::from_utf8_lossy(answer.body()), want, "{target}");
    }
    let record = waypoint.record(|record| record["path"] == "/old/b").await;
    assert_eq!(record["authority"], "shop.test:9999");
}

/// Headers whose names begin with `access-control`, and `vary`, in order.
fn shared(answer: &Response<Bytes>) -> Vec<String> {
    let mut lines: Vec<String> = answer
        .headers()
        .iter()
        .filter(|(name, _)| name.as_str().starts_with("access-control") || *name == "vary")
        .map(|(name, value)| format!("{name}: {}", value.to_str().expect("text")))
        .collect();
    lines.sort();
    lines
}

#[tokio::test]
async fn a_preflight_is_answered_without_an_upstream_and_says_what_is_allowed() {
    let cors = |prefix: &str, spec: &str| {
        rule(prefix, &format!("type: CORS, cors: {{{spec}}}"), TO_ORIGIN)
    };
    let rules = [
        cors(
            "/named",
            "allowOrigins: ['https://*.shop.test'], allowMethods: [GET, PUT], allowHeaders: \
             [X-One, x-two], exposeHeaders: [x-seen], allowCredentials: true, maxAge: 60",
        ),
        cors("/open", "allowOrigins: ['*'], allowMethods: ['*'], allowHeaders: ['*']"),
        cors(
            "/starred",
            "allowOrigins: ['*'], allowMethods: ['*'], allowHeaders: ['*'], exposeHeaders: ['*'], \
             allowCredentials: true",
        ),
    ];
    // There is no Service: a preflight does not need one.
    let waypoint = Waypoint::start(&gateway_with(&rules.join(", "))).await;
    let client = Client::connect(waypoint.http(), Speaks::Http1).await;
    let named = [
        "access-control-allow-credentials: true",
        "access-control-allow-headers: x-one, x-two",
        "access-control-allow-methods: GET, PUT",
        "access-control-allow-origin: https://a.shop.test",
        "access-control-max-age: 60",
        "vary: origin",
    ];
    let open = [
        "access-control-allow-headers: *",
        "access-control-allow-methods: *",
        "access-control-allow-origin: *",
        "access-control-max-age: 5",
    ];
    let starred = [
        "access-control-allow-credentials: true",
        "access-control-allow-headers: x-three",
        "access-control-allow-methods: PUT",
        "access-control-allow-origin: https://a.shop.test",
        "access-control-max-age: 5",
        "vary: origin",
    ];
    for (path, origin, want) in [
        ("/named", "https://a.shop.test", &named[..]),
        ("/named", "https://shop.test", &["vary: origin"]),
        ("/named", "null", &["vary: origin"]),
        ("/open", "https://a.shop.test", &open),
        ("/starred", "https://a.shop.test", &starred),
    ] {
        let asked = [
            ("origin", origin),
            ("access-control-request-method", "PUT"),
            ("access-control-request-headers", "x-three"),
        ];
        let answer = client.fetch(request_with(Method::OPTIONS, path, &asked)).await;
        assert_eq!(answer.status(), 204, "{path} {origin}");
        assert_eq!(shared(&answer), want, "{path} {origin}");
    }
    let record = waypoint.record(|record| record["path"] == "/named").await;
    assert_eq!(record["response_code_details"], "cors_preflight");
}

#[tokio::test]
async fn an_answer_to_an_allowed_origin_says_so_and_the_upstream_does_not() {
    let origin = Origin::start(Speaks::Http1, |_| {
        let mut answer = Response::new(Bytes::new());
        answer
            .headers_mut()
            .insert("access-control-allow-origin", http::HeaderValue::from_static("*"));
        answer
    })
    .await;
    let rules = [rule(
        "/",
        "type: CORS, cors: {allowOrigins: ['https://shop.test'], exposeHeaders: [x-seen]}",
        TO_ORIGIN,
    )];
    let text = gateway_with(&rules.join(", ")) + &service("origin", "http", origin.address);
    let waypoint = Waypoint::start(&text).await;
    let ask = async |waypoint: &Waypoint, method: Method, origin: &str| {
        let request = request_with(method, "/", &[("origin", origin)]);
        send_http1(waypoint.http(), request).await
    };
    let allowed = [
        "access-control-allow-origin: https://shop.test",
        "access-control-expose-headers: x-seen",
        "vary: origin",
    ];

    assert_eq!(shared(&ask(&waypoint, Method::GET, "https://shop.test").await), allowed);
    assert_eq!(shared(&ask(&waypoint, Method::GET, "https://evil.test").await), ["vary: origin"]);
    // Without `access-control-request-method` it is not a preflight.
    assert_eq!(shared(&ask(&waypoint, Method::OPTIONS, "https://shop.test").await), allowed);
    assert_eq!(origin.seen().len(), 3);

    // What the proxy answers once the route is known can be read, too.
    let gone = std::net::TcpListener::bind("127.0.0.1:0").and_then(|gone| gone.local_addr());
    let gone = service("origin", "http", gone.expect("an address"));
    waypoint.reload(&(gateway_with(&rules.join(", ")) + &gone)).await;
    let answer = ask(&waypoint, Method::GET, "https://shop.test").await;
    assert_eq!(answer.status(), 503);
    assert_eq!(shared(&answer), allowed);
}

/// A rule whose requests are copied; `spec` is that of the mirror.
fn mirrored(prefix: &str, spec: &str) -> String {
    rule(prefix, &format!("type: RequestMirror, requestMirror: {{backendRef: {spec}}}"), TO_ORIGIN)
}

#[tokio::test]
async fn a_mirror_gets_a_copy_with_its_body_and_the_client_the_upstreams_answer() {
    let origin = Origin::named(Speaks::Http1, "origin").await;
    let copies = Origin::named(Speaks::Http1, "copies").await;
    let rules = [
        mirrored("/all", "{name: copies, port: 80}"),
        mirrored("/none", "{name: copies, port: 80}, percent: 0"),
    ];
    let text = gateway_with(&rules.join(", "))
        + &service("origin", "http", origin.address)
        + &service("copies", "http", copies.address);
    let waypoint = Waypoint::start(&text).await;

    for path in ["/none", "/all/get"] {
        assert_eq!(get(waypoint.http(), path).await.body(), "origin");
    }
    let answer = post_json(waypoint.http(), "/all/post", "{\"a\": 1}").await;
    assert_eq!(answer.body(), "origin");

    becomes(&waypoint, "waypoint_mirrored_requests_total{result=\"answered\"}", 2).await;
    let mut seen = copies.seen();
    seen.sort_by_key(|request| request.uri().path().to_owned());
    assert_eq!(
        seen.iter().map(|one| one.uri().path()).collect::<Vec<_>>(),
        ["/all/get", "/all/post"]
    );
    assert_eq!(seen[1].body(), "{\"a\": 1}");
    assert_eq!(seen[1].headers()["content-length"], "8");
    assert_eq!(seen[1].headers()["content-type"], "application/json");
}

#[tokio::test]
async fn a_mirror_that_is_silent_or_gone_neither_delays_nor_fails_a_request() {
    let origin = Origin::echo(Speaks::Http1).await;
    // It is connected to by the kernel, and never accepts.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let gone = std::net::TcpListener::bind("127.0.0.1:0").and_then(|gone| gone.local_addr());
    let gone = gone.expect("an address");
    let rules = [
        mirrored("/silent", "{name: silent, port: 80}"),
        mirrored("/gone", "{name: gone, port: 80}"),
    ];
    let text = gateway_with(&rules.join(", "))
        + &service("origin", "http", origin.address)
        + &service("silent", "http", silent.local_addr().expect("an address"))
        + &service("gone", "http", gone);
    let waypoint = Waypoint::start(&text).await;

    // Longer than what is copied: the copy is shed, the request is whole.
    let long = "x".repeat(300 << 10);
    for path in ["/silent", "/gone"] {
        for body in ["short", &long] {
            let answer = post_json(waypoint.http(), path, body).await;
            assert_eq!(answer.status(), 200, "{path}");
            assert_eq!(answer.body().len(), body.len(), "{path}");
        }
    }
    becomes(&waypoint, "waypoint_mirrored_requests_total{result=\"shed_body\"}", 2).await;
    becomes(&waypoint, "waypoint_mirrored_requests_total{result=\"failed\"}", 1).await;
}
