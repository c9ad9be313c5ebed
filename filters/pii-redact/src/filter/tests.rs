//! The filter against the SDK's stand-in for a host.

use waypoint_sdk::testing::{FakeStream, Tester, with};

use super::*;

fn start(config: &str) -> Tester<PiiRedact> {
    Tester::start(config).unwrap()
}

fn header<'a>(headers: &'a [(String, Vec<u8>)], name: &str) -> Option<&'a str> {
    let value = headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_slice());
    value.map(|value| std::str::from_utf8(value).unwrap())
}

const POST: [(&str, &str); 9] = [
    (":method", "POST"),
    (":path", "/a?m=taro%40example.com"),
    (":authority", "shop"),
    ("content-type", "application/json"),
    ("content-length", "30"),
    ("content-digest", "sha-256=:x:"),
    ("accept-encoding", "gzip, br"),
    ("range", "bytes=0-9"),
    ("x-mail", "a@b.com"),
];

#[test]
fn a_request_is_redacted_in_its_query_headers_and_body() {
    let mut tester = start("{}");
    let id = tester.open();
    assert_eq!(tester.request_headers(id, &POST, false), Flow::Continue);
    let FakeStream { request_headers: headers, .. } = tester.stream(id);
    assert_eq!(header(&headers, ":path"), Some("/a?m=%3CEMAIL%3E"));
    assert_eq!(header(&headers, "x-mail"), Some("<EMAIL>"));
    assert_eq!(header(&headers, "accept-encoding"), Some("identity"));
    for gone in ["content-length", "content-digest", "range"] {
        assert_eq!(header(&headers, gone), None, "{gone}");
    }
    let (flow, first) = tester.request_body(id, br#"{"mail":"x taro@exam"#, false);
    assert_eq!((flow, &first[..]), (Flow::Continue, &br#"{"mail":"x "#[..]));
    let (flow, rest) = tester.request_body(id, br#"ple.com","n":1}"#, true);
    assert_eq!((flow, &rest[..]), (Flow::Continue, &br#"<EMAIL>","n":1}"#[..]));
    assert_eq!(with(|fake| fake.metrics["pii_redact_matches_email"]), 3);
}

#[test]
fn a_response_is_redacted_and_loses_what_no_longer_holds() {
    let mut tester = start("{}");
    let id = tester.open();
    let head = [
        (":status", "200"),
        ("content-type", "text/plain"),
        ("content-length", "7"),
        ("etag", "\"x\""),
        ("accept-ranges", "bytes"),
        ("set-cookie", "a=1"),
        ("set-cookie", "m=a@b.com"),
    ];
    assert_eq!(tester.response_headers(id, &head, false), Flow::Continue);
    let FakeStream { response_headers: headers, .. } = tester.stream(id);
    for gone in ["content-length", "etag", "accept-ranges"] {
        assert_eq!(header(&headers, gone), None, "{gone}");
    }
    let cookies: Vec<_> = headers.iter().filter(|(key, _)| key == "set-cookie").collect();
    assert_eq!(cookies[0].1, b"a=1");
    assert_eq!(cookies[1].1, b"m=<EMAIL>");
    assert_eq!(tester.response_body(id, b"1.2.3.4", false).1, b"");
    assert_eq!(tester.response_body(id, b"", true).1, b"<IP>");
}

#[test]
fn what_cannot_be_scanned_is_refused_with_its_status() {
    let mut tester = start("{}");
    let id = tester.open();
    let head = [(":path", "/"), ("content-type", "text/plain"), ("content-encoding", "gzip")];
    assert_eq!(tester.request_headers(id, &head, false), Flow::Pause);
    assert_eq!(tester.stream(id).reply.unwrap().status, 415);
    let id = tester.open();
    let head = [(":status", "206"), ("content-type", "text/plain")];
    assert_eq!(tester.response_headers(id, &head, false), Flow::Pause);
    assert_eq!(tester.stream(id).reply.unwrap().status, 502);
    let id = tester.open();
    let head = [(":status", "304"), ("content-type", "text/plain"), ("content-encoding", "br")];
    assert_eq!(tester.response_headers(id, &head, true), Flow::Continue);
    assert_eq!(with(|fake| fake.metrics["pii_redact_refused"]), 2);
}

#[test]
fn a_blocked_match_ends_the_exchange_before_it_leaves() {
    let mut tester = start(r#"{"action":"block"}"#);
    let id = tester.open();
    assert_eq!(tester.request_headers(id, &[(":path", "/?a=a@b.com")], true), Flow::Pause);
    assert_eq!(tester.stream(id).reply.unwrap().status, 403);
    let id = tester.open();
    let head = [(":path", "/"), ("content-type", "text/plain")];
    assert_eq!(tester.request_headers(id, &head, false), Flow::Continue);
    assert_eq!(tester.request_body(id, b"x a@b.com y", false), (Flow::Pause, Vec::new()));
    let stream = tester.stream(id);
    assert_eq!(stream.reply.unwrap().status, 403);
    assert!(stream.request_body.is_empty());
    assert_eq!(tester.request_body(id, b"more", true), (Flow::Pause, Vec::new()));
    assert!(tester.stream(id).request_body.is_empty());
}

#[test]
fn a_response_whose_head_has_left_is_cut() {
    let mut tester = start(r#"{"action":"block"}"#);
    let id = tester.open();
    let head = [(":status", "200"), ("content-type", "text/plain")];
    assert_eq!(tester.response_headers(id, &head, false), Flow::Continue);
    assert_eq!(tester.response_body(id, b"a@b.com ", false).0, Flow::Pause);
    let stream = tester.stream(id);
    assert!(stream.reset && stream.reply.is_none());
    let id = tester.open();
    let head = [(":status", "200"), ("x-mail", "a@b.com")];
    assert_eq!(tester.response_headers(id, &head, false), Flow::Pause);
    assert_eq!(tester.stream(id).reply.unwrap().status, 502);
}

#[test]
fn trailers_are_redacted_and_end_the_body() {
    let mut tester = start("{}");
    let id = tester.open();
    let head = [(":status", "200"), ("content-type", "application/json")];
    let _ = tester.response_headers(id, &head, false);
    assert_eq!(tester.response_body(id, b"[\"a@b.com\"]", false).1, b"[\"<EMAIL>\"]");
    let flow = tester.trailers(id, Direction::Response, &[("x-mail", "a@b.com")]);
    assert_eq!(flow, Flow::Continue);
    assert_eq!(header(&tester.stream(id).response_trailers, "x-mail"), Some("<EMAIL>"));
}

#[test]
fn a_body_that_trailers_end_within_a_possible_match_is_cut() {
    let mut tester = start("{}");
    let id = tester.open();
    let _ =
        tester.response_headers(id, &[(":status", "200"), ("content-type", "text/plain")], false);
    assert_eq!(tester.response_body(id, b"call 090-1234-5678", false).1, b"call ");
    assert_eq!(tester.trailers(id, Direction::Response, &[]), Flow::Pause);
    assert!(tester.stream(id).reset);
}

#[test]
fn a_direction_that_is_not_chosen_is_let_be() {
    let mut tester = start(r#"{"directions":["response"]}"#);
    let id = tester.open();
    assert_eq!(tester.request_headers(id, &POST, false), Flow::Continue);
    let headers = tester.stream(id).request_headers;
    assert_eq!(header(&headers, "x-mail"), Some("a@b.com"));
    assert_eq!(header(&headers, "content-length"), Some("30"));
    assert_eq!(header(&headers, "accept-encoding"), Some("identity"));
    assert_eq!(tester.request_body(id, b"\"a@b.com\"", true).1, b"\"a@b.com\"");
}

#[test]
fn a_bad_configuration_is_refused_with_its_field() {
    let error =
        Tester::<PiiRedact>::start(r#"{"entities":[{"type":"ip","operator":"hash"}]}"#).err();
    assert!(error.unwrap().contains("entities[0].operator: hash needs a salt"));
}
