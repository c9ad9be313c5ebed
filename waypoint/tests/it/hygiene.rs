//! What is refused, removed and made anew before anyone else sees a request.

use http::Method;
use serde_json::Value;

use crate::harness::{Waypoint, gate, gateway_to, get, send_http1, service};
use crate::origin::{Origin, Speaks};
use crate::streams::{Client, exchange, request_with};

/// Part of every request below; it must never appear in a record.
const MARK: &str = "zq7peer";

async fn waypoint(arguments: &[&str]) -> (Waypoint, Origin) {
    let origin = Origin::named(Speaks::Http1, "origin").await;
    let resources = gateway_to("origin") + &service("origin", "http", origin.address);
    (Waypoint::start_with(&resources, arguments).await, origin)
}

/// Requests that are refused: bytes, status, the check's name. `~` is CRLF.
const REFUSED: &[(&str, &str, &str)] = &[
    // Where the body ends.
    (
        "POST /zq7peer HTTP/1.1~Host: a~Content-Length: 3~Transfer-Encoding: chunked~~0~~",
        "400",
        "content_length_with_transfer_encoding",
    ),
    (
        "POST /zq7peer HTTP/1.1~Host: a~Content-Length: 3~Content-Length: 3~~abc",
        "400",
        "content_length_repeated",
    ),
    ("POST /zq7peer HTTP/1.1~Host: a~Content-Length: 3, 3~~abc", "400", "content_length_repeated"),
    ("POST /zq7peer HTTP/1.1~Host: a~Content-Length: +3~~abc", "400", "content_length_malformed"),
    (
        "POST /zq7peer HTTP/1.1~Host: a~Transfer-Encoding: chunked~Transfer-Encoding: chunked~~0~~",
        "400",
        "transfer_encoding_repeated",
    ),
    (
        "POST /zq7peer HTTP/1.1~Host: a~Transfer-Encoding: gzip, chunked~~0~~",
        "400",
        "transfer_encoding_repeated",
    ),
    (
        "POST /zq7peer HTTP/1.1~Host: a~Transfer-Encoding: identity~~",
        "501",
        "transfer_encoding_unsupported",
    ),
    (
        "POST /zq7peer HTTP/1.0~Host: a~Transfer-Encoding: chunked~~0~~",
        "400",
        "transfer_encoding_on_http10",
    ),
    // The head as bytes.
    ("GET /zq7peer HTTP/1.1\nHost: a~~", "400", "bare_line_feed"),
    ("GET /zq7peer HTTP/1.1~Host: a~X: b\n~~", "400", "bare_line_feed"),
    ("GET /zq7peer HTTP/1.1~Host: a~X: b\rc~~", "400", "bare_carriage_return"),
    ("GET /zq7peer HTTP/1.1~Host: a~X: b~ folded~~", "400", "folded_field"),
    ("GET /zq7peer HTTP/1.1~Host: a~X : b~~", "400", "whitespace_before_colon"),
    ("GET /zq7peer HTTP/1.1~Host: a~X: b\0c~~", "400", "control_character"),
    ("GET /zq7peer HTTP/1.1~Host: a~X_zq7peer: b~~", "400", "field_name_underscore"),
    ("GET /zq7peer HTTP/1.1~Host: a~zq7peer~~", "400", "field_malformed"),
    ("GET /zq7peer HTTP/2.0~Host: a~~", "505", "version_unsupported"),
    // For whom it is.
    ("GET /zq7peer HTTP/1.1~~", "400", "host_missing"),
    ("GET /zq7peer HTTP/1.1~Host: a~Host: a~~", "400", "host_repeated"),
    ("GET /zq7peer HTTP/1.1~Host: a, b~~", "400", "host_list"),
    ("GET /zq7peer HTTP/1.1~Host: zq7peer@a~~", "400", "host_userinfo"),
    ("GET http://zq7peer@a/ HTTP/1.1~Host: a~~", "400", "host_userinfo"),
    ("GET http://b/zq7peer HTTP/1.1~Host: a~~", "400", "host_mismatch"),
    // The target.
    ("GET /zq7peer#x HTTP/1.1~Host: a~~", "400", "target_fragment"),
    ("GET /zq7peer\\x HTTP/1.1~Host: a~~", "400", "target_backslash"),
    ("GET /zq7peer%00 HTTP/1.1~Host: a~~", "400", "path_nul"),
    ("GET /zq7peer%2Fx HTTP/1.1~Host: a~~", "400", "path_encoded_slash"),
    ("GET /zq7peer%5cx HTTP/1.1~Host: a~~", "400", "path_encoded_slash"),
    ("GET /zq7peer%zz HTTP/1.1~Host: a~~", "400", "path_escape_malformed"),
    ("GET /zq7peer/..;x/ HTTP/1.1~Host: a~~", "400", "path_dot_parameters"),
    ("CONNECT zq7peer:443 HTTP/1.1~Host: zq7peer:443~~", "501", "connect_refused"),
    ("GET * HTTP/1.1~Host: zq7peer~~", "400", "asterisk_without_options"),
    // What is asked of this hop.
    ("GET /zq7peer HTTP/1.1~Host: a~Expect: zq7peer~~", "417", "expect_unsupported"),
    ("GET /zq7peer HTTP/1.1~Host: a~Connection: host~~", "400", "connection_names_field"),
    // The body.
    (
        "POST /zq7peer HTTP/1.1~Host: a~Transfer-Encoding: chunked~~zq7peer~~",
        "400",
        "chunk_size_malformed",
    ),
    (
        "POST /zq7peer HTTP/1.1~Host: a~Transfer-Encoding: chunked~~3~abcd~0~~",
        "400",
        "chunk_end_malformed",
    ),
    (
        "POST /zq7peer HTTP/1.1~Host: a~Transfer-Encoding: chunked~~0~Host: zq7peer~~",
        "400",
        "trailer_forbidden",
    ),
];

#[tokio::test]
async fn a_request_that_can_be_read_two_ways_is_refused_and_its_connection_closed() {
    let (waypoint, origin) = waypoint(&[]).await;
    for (bytes, status, check) in REFUSED {
        // What comes behind it must not be read as a request.
        let bytes = bytes.replace('~', "\r\n") + "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

        let answer = String::from_utf8(exchange(waypoint.http(), bytes.as_bytes()).await).unwrap();

        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{bytes:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{bytes:?}: {answer}");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.to_ascii_lowercase().contains("connection: close"), "{bytes:?}: {answer}");
        assert!(!body.contains(MARK), "{bytes:?}: {answer}");
        let named = |record: &Value| record["response_code_details"] == *check;
        let record = waypoint.record(named).await;
        assert_eq!(record["response_code"].to_string(), *status, "{record}");
    }
    assert!(origin.seen().is_empty(), "{:?}", origin.seen());
    let metrics = waypoint.metrics().await;
    for (_, _, check) in REFUSED {
        let count = REFUSED.iter().filter(|(_, _, other)| other == check).count();
        let line = format!("waypoint_refused_requests_total{{check=\"{check}\"}} {count}\n");
        assert!(metrics.contains(&line), "{line}{metrics}");
    }
}

#[tokio::test]
async fn a_refused_request_leaves_no_byte_of_the_peers_in_the_records() {
    let (waypoint, _) = waypoint(&["--log-level", "debug"]).await;
    let heads = REFUSED.iter().filter(|(bytes, ..)| !bytes.contains("chunked~~"));
    for (bytes, _, check) in heads {
        exchange(waypoint.http(), bytes.replace('~', "\r\n").as_bytes()).await;
        waypoint.record(|record| record["response_code_details"] == *check).await;
    }
    assert!(!waypoint.printed().contains(MARK), "{}", waypoint.printed());
    assert!(!waypoint.metrics().await.contains(MARK));
}

#[tokio::test]
async fn an_http2_request_that_breaks_the_rules_reaches_no_service() {
    let (waypoint, origin) = waypoint(&[]).await;
    let client = Client::connect(waypoint.http(), Speaks::Http2).await;
    for path in ["/a%2Fb", "/a%00", "/..;x/a", "/%zz"] {
        let answer = client.fetch(request_with(Method::GET, path, &[])).await;
        assert_eq!(answer.status(), 400, "{path}");
    }
    let te = request_with(Method::GET, "/", &[("x_zq7peer", "1")]);
    assert_eq!(client.fetch(te).await.status(), 400);
    assert!(origin.seen().is_empty());
    let answer = client.fetch(request_with(Method::GET, "/", &[])).await;
    assert_eq!(answer.status(), 200, "the other streams of the connection go on");
}

#[tokio::test]
async fn an_upgrade_to_h2c_is_answered_in_http1_and_reaches_no_service() {
    let (waypoint, origin) = waypoint(&[]).await;
    let bytes = b"GET /up HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\
        Connection: Upgrade, HTTP2-Settings, close\r\n\r\n";
    let answer = String::from_utf8(exchange(waypoint.http(), bytes).await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let headers = origin.seen()[0].headers().clone();
    for name in ["upgrade", "http2-settings"] {
        assert!(!headers.contains_key(name), "{name}: {headers:?}");
    }
}

#[tokio::test]
async fn fields_of_one_hop_end_at_it() {
    let (waypoint, origin) = waypoint(&[]).await;
    let bytes = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close, x-hop\r\nX-Hop: 1\r\n\
        Keep-Alive: 5\r\nProxy-Connection: close\r\nTE: gzip\r\nX-Kept: 1\r\n\r\n";
    let answer = exchange(waypoint.http(), bytes).await;
    assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
    let headers = origin.seen()[0].headers().clone();
    for name in ["x-hop", "keep-alive", "proxy-connection", "te"] {
        assert!(!headers.contains_key(name), "{name}: {headers:?}");
    }
    assert_eq!(headers["x-kept"], "1");
}

#[tokio::test]
async fn a_request_for_the_server_as_a_whole_is_answered_by_the_proxy_itself() {
    let (waypoint, origin) = waypoint(&[]).await;
    for target in ["*", "http://a"] {
        let bytes = format!("OPTIONS {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let answer = exchange(waypoint.http(), bytes.as_bytes()).await;
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{target}: {answer}");
        assert!(answer.contains("\r\ncontent-length: 0\r\n"), "{target}: {answer}");
    }
    let record = waypoint.record(|record| record["method"] == "OPTIONS").await;
    assert_eq!(record["response_code_details"], "final_recipient");
    assert_eq!(record["response_flags"], "-");
    assert!(origin.seen().is_empty(), "{:?}", origin.seen());

    let guarded = gateway_to("origin")
        + &service("origin", "http", origin.address)
        + &gate("[{group: gateway.networking.k8s.io, kind: Gateway, name: web}]");
    assert_ne!(waypoint.reload(&guarded).await["result"], "refused");
    let bytes = b"OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let answer = String::from_utf8(exchange(waypoint.http(), bytes).await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 401 "), "the Gateway's filters stand before it: {answer}");
}

#[tokio::test]
async fn a_request_goes_no_further_than_its_client_lets_it() {
    let (waypoint, origin) = waypoint(&[]).await;
    let ask = async |method: Method, forwards: &str| {
        let request = request_with(method, "/", &[("max-forwards", forwards)]);
        let answer = send_http1(waypoint.http(), request).await;
        let seen = origin.seen().last().map(|seen| seen.headers()["max-forwards"].clone());
        (answer, seen)
    };
    let (answer, seen) = ask(Method::OPTIONS, "0").await;
    assert_eq!((answer.status().as_u16(), seen), (200, None));
    let (answer, seen) = ask(Method::TRACE, "0").await;
    assert_eq!((answer.status().as_u16(), seen), (405, None));
    assert_eq!(answer.headers()["allow"], "OPTIONS");
    let (answer, seen) = ask(Method::OPTIONS, "2").await;
    assert_eq!((answer.body().as_ref(), seen.unwrap().as_bytes()), (&b"origin"[..], &b"1"[..]));
    let (answer, seen) = ask(Method::GET, "0").await;
    assert_eq!((answer.body().as_ref(), seen.unwrap().as_bytes()), (&b"origin"[..], &b"0"[..]));
}

#[tokio::test]
async fn forwarding_headers_are_believed_of_trusted_hops_only() {
    let claimed = [
        ("x-forwarded-for", "192.0.2.1, 192.0.2.2"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-client-cert", "By=spiffe://x"),
        ("baggage", "k8s.namespace.name=bank,tenant=a"),
    ];
    let (far, near) = (["--trusted-hops", "10.0.0.0/8"], ["--trusted-hops", "127.0.0.0/8"]);
    for (arguments, address, proto, baggage) in [
        (&[][..], "127.0.0.1", "http", "tenant=a"),
        (&far, "127.0.0.1", "http", "tenant=a"),
        (&near, "192.0.2.1, 192.0.2.2, 127.0.0.1", "https", claimed[3].1),
    ] {
        let (waypoint, origin) = waypoint(arguments).await;
        send_http1(waypoint.http(), request_with(Method::GET, "/", &claimed)).await;
        let headers = origin.seen()[0].headers().clone();
        assert_eq!(headers["x-forwarded-for"], address, "{arguments:?}");
        assert_eq!(headers["x-forwarded-proto"], proto, "{arguments:?}");
        assert_eq!(headers["baggage"], baggage, "{arguments:?}");
        assert!(!headers.contains_key("x-forwarded-client-cert"), "{arguments:?}");
    }
}

#[tokio::test]
async fn a_request_keeps_well_formed_ids_and_is_given_what_it_lacks() {
    let (waypoint, origin) = waypoint(&[]).await;
    let id = "123e4567-e89b-42d3-a456-426614174000";
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let kept = [("x-request-id", id), ("traceparent", parent), ("tracestate", "a=b")];
    let malformed = [("x-request-id", "alice@example.com"), ("traceparent", "1"), kept[2]];
    send_http1(waypoint.http(), request_with(Method::GET, "/kept", &kept)).await;
    send_http1(waypoint.http(), request_with(Method::GET, "/malformed", &malformed)).await;
    get(waypoint.http(), "/none").await;

    let seen = origin.seen();
    for (name, value) in kept {
        assert_eq!(seen[0].headers()[name], value);
    }
    for (path, request) in [("/malformed", &seen[1]), ("/none", &seen[2])] {
        let headers = request.headers();
        assert_eq!(headers["x-request-id"].len(), 36, "{headers:?}");
        assert_eq!(headers["traceparent"].len(), 55, "{headers:?}");
        assert!(!headers.contains_key("tracestate"), "state without its parent means nothing");
        let record = waypoint.record(|record| record["path"] == path).await;
        assert_eq!(record["request_id"], headers["x-request-id"].to_str().unwrap());
        assert_eq!(record["traceparent"], headers["traceparent"].to_str().unwrap());
    }
    assert_ne!(seen[1].headers()["x-request-id"], seen[2].headers()["x-request-id"]);
}

#[tokio::test]
async fn the_service_gets_the_path_that_the_route_was_chosen_by() {
    let private = Origin::named(Speaks::Http1, "private").await;
    let public = Origin::named(Speaks::Http1, "public").await;
    let resources = gateway_to("public").replace(
        "  rules: [",
        "  rules: [{matches: [{path: {value: /private}}], backendRefs: [{name: private, port: 80}]}, ",
    ) + &service("public", "http", public.address)
        + &service("private", "http", private.address);
    let waypoint = Waypoint::start(&resources).await;
    for (sent, want) in [
        ("/private", "/private"),
        ("/public/../private/x", "/private/x"),
        ("//private//x", "/private/x"),
        ("/./%70rivate/%7ex", "/private/~x"),
        ("/x/%2e%2E/private?q=%2F..", "/private?q=%2F.."),
        ("/../../private/%e4", "/private/%E4"),
    ] {
        let bytes = format!("GET {sent} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        exchange(waypoint.http(), bytes.as_bytes()).await;
        let seen = private.seen();
        assert_eq!(seen.last().unwrap().uri().to_string(), want, "{sent}");
    }
    assert!(public.seen().is_empty(), "{:?}", public.seen());
}
