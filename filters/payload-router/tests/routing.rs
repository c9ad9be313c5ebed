//! The filter as a host sees it.
#![allow(clippy::unwrap_used, reason = "a test")]

use waypoint_filter_payload_router::PayloadRouter;
use waypoint_sdk::Flow::{Continue, Pause};
use waypoint_sdk::testing::{Tester, with};
use waypoint_sdk::{Direction, RequestId};

const JSON: (&str, &str) = ("content-type", "application/json; charset=utf-8");

type Pairs = [(&'static str, &'static str)];

fn start(config: &str) -> Tester<PayloadRouter> {
    Tester::start_with(config, |host| host.foreign("clear_route_cache", |_| Ok(Vec::new())))
        .unwrap()
}

fn key(tester: &Tester<PayloadRouter>, id: RequestId) -> Option<String> {
    let mut keys = tester.stream(id).request_headers.into_iter();
    let (_, value) = keys.find(|(name, _)| name == "x-waypoint-route-key")?;
    assert!(keys.all(|(name, _)| name != "x-waypoint-route-key"), "the header occurs once");
    Some(String::from_utf8(value).unwrap())
}

/// One request with a whole body, in chunks.
fn route(config: &str, head: &[(&str, &str)], body: &str, chunk: usize) -> (Option<String>, u16) {
    let mut tester = start(config);
    let id = tester.open();
    let mut flow = tester.request_headers(id, head, body.is_empty());
    let chunks = body.len().div_ceil(chunk);
    let mut passed = Vec::new();
    for (n, piece) in body.as_bytes().chunks(chunk).enumerate() {
        let (next, out) = tester.request_body(id, piece, n + 1 == chunks);
        flow = next;
        passed.extend(out);
        if tester.stream(id).reply.is_some() {
            break;
        }
    }
    let status = tester.stream(id).reply.map_or(0, |reply| reply.status);
    if status == 0 {
        assert_eq!(flow, Continue);
        assert_eq!(passed, body.as_bytes(), "the body passes unchanged");
        assert!(with(|host| !host.foreign_calls.is_empty()), "the route is chosen again");
    }
    (key(&tester, id), status)
}

#[test]
fn rules_are_tried_in_order_and_the_first_key_decides() {
    let config = r#"{
        "rules": [
            {"jsonPointer": "/order/region", "values": {"eu": "europe", "us": "america"}},
            {"formField": "region"},
            {"grpc": "service"},
            {"jsonPointer": "/tenant"},
            {"header": "X-Tenant"}
        ],
        "maxBodyBytes": 64,
        "defaultKey": "none"
    }"#;
    let form = ("content-type", "application/x-www-form-urlencoded");
    let grpc = ("content-type", "application/grpc+proto");
    let spoof = ("x-waypoint-route-key", "spoofed");
    let tenant = ("x-tenant", "t9");
    let far = format!("{{\"pad\": \"{}\", \"tenant\": \"t1\"}}", "x".repeat(80));
    let cases: [(&Pairs, &str, &str); 16] = [
        (&[JSON], r#"{"order": {"region": "eu"}}"#, "europe"),
        (&[spoof, JSON, spoof], r#"{"order": {"region": "us"}}"#, "america"),
        (&[JSON], r#"{"tenant": "t1", "order": {"region": "eu"}}"#, "europe"),
        (&[JSON], r#"{"tenant": "t1", "order": {"region": "mars"}}"#, "t1"),
        (&[JSON], r#"{"tenant": 17}"#, "17"),
        (&[JSON, tenant], r#"{"order": 1}"#, "t9"),
        (&[JSON, tenant], r#"{"order": "#, "t9"),
        (&[JSON, tenant], &far, "t9"),
        (&[JSON], r#"{"tenant": "a\r\nb"}"#, "none"),
        (&[JSON], r#"{"tenant": " a"}"#, "none"),
        (&[JSON, ("content-encoding", "gzip")], r#"{"tenant": "t1"}"#, "none"),
        (&[("content-type", "text/plain")], r#"{"tenant": "t1"}"#, "none"),
        (&[form], "a=b&region=eu", "eu"),
        (&[grpc, (":path", "/shop.v1.Orders/Create")], "\0\0\0\0\0", "shop.v1.Orders"),
        (&[tenant, tenant], "", "none"),
        (&[spoof], "", "none"),
    ];
    for (head, body, want) in cases {
        for chunk in [1, 2, 3, 7, 1000] {
            let (got, _) = route(config, head, body, chunk);
            assert_eq!(got.as_deref(), Some(want), "{head:?} {body} by {chunk}");
        }
    }
}

#[test]
fn what_yields_no_key_is_rejected_if_the_operator_says_so() {
    let config = r#"{"rules": [{"jsonPointer": "/a"}], "maxBodyBytes": 32, "onMissing": "reject"}"#;
    let far = format!("{{\"b\": \"{}\"}}", "x".repeat(40));
    let cases = [
        (r#"{"a": "x"}"#, Some("x"), 0),
        (r#"{"b": "x"}"#, None, 400),
        (r#"{"a": "#, None, 400),
        (&far, None, 413),
        ("", None, 400),
    ];
    for (body, want, status) in cases {
        for chunk in [1, 5, 1000] {
            let got = route(config, &[JSON], body, chunk);
            assert_eq!(got, (want.map(str::to_owned), status), "{body} by {chunk}");
        }
    }
}

#[test]
fn no_more_of_the_body_is_held_than_the_key_needs() {
    let mut tester = start(r#"{"rules": [{"jsonPointer": "/a"}]}"#);
    let id = tester.open();
    assert_eq!(tester.request_headers(id, &[JSON], false), Pause);
    assert_eq!(tester.request_body(id, br#"{"a": "#, false), (Pause, Vec::new()));
    assert_eq!(tester.request_body(id, br#""x", "#, false), (Continue, br#"{"a": "x", "#.to_vec()));
    assert_eq!(key(&tester, id).as_deref(), Some("x"));
    assert_eq!(tester.request_body(id, b"anything", true), (Continue, b"anything".to_vec()));
    assert_eq!(with(|host| host.foreign_calls.len()), 1);
}

#[test]
fn trailers_are_the_end_of_a_body_that_decides_nothing() {
    let mut tester = start(r#"{"rules": [{"jsonPointer": "/a"}], "defaultKey": "d"}"#);
    let id = tester.open();
    assert_eq!(tester.request_headers(id, &[JSON], false), Pause);
    assert_eq!(tester.request_body(id, br#"{"a""#, false), (Pause, Vec::new()));
    assert_eq!(tester.trailers(id, Direction::Request, &[("t", "1")]), Continue);
    assert_eq!(key(&tester, id).as_deref(), Some("d"));
}

#[test]
fn a_head_that_decides_waits_for_no_body() {
    let mut tester = start(r#"{"rules": [{"header": "x-tenant"}, {"jsonPointer": "/a"}]}"#);
    let id = tester.open();
    assert_eq!(tester.request_headers(id, &[JSON, ("x-tenant", "t")], false), Continue);
    assert_eq!(key(&tester, id).as_deref(), Some("t"));
}

#[test]
fn a_host_that_cannot_choose_a_route_again_is_tolerated() {
    let mut tester =
        Tester::<PayloadRouter>::start(r#"{"rules": [{"header": "x-tenant"}]}"#).unwrap();
    let id = tester.open();
    assert_eq!(tester.request_headers(id, &[("x-tenant", "t")], true), Continue);
    assert_eq!(key(&tester, id).as_deref(), Some("t"));
}

#[test]
fn a_bad_configuration_is_refused_with_its_place() {
    let cases = [
        ("{}", "missing field `rules`"),
        (r#"{"rules": []}"#, "rules: expected 1 to 16 rules"),
        (r#"{"rules": [{}]}"#, "rules[0]: expected exactly one of jsonPointer"),
        (r#"{"rules": [{"header": "a", "grpc": "method"}]}"#, "rules[0]: expected exactly one"),
        (
            r#"{"rules": [{"jsonPointer": "a"}]}"#,
            r#"rules[0].jsonPointer: "a" is not a JSON pointer"#,
        ),
        (r#"{"rules": [{"jsonPointr": "/a"}]}"#, "rules[0].jsonPointr: unknown field"),
        (r#"{"rules": [{"grpc": "path"}]}"#, "rules[0].grpc: unknown variant `path`, expected"),
        (r#"{"rules": [{"header": "a b"}]}"#, r#"rules[0].header: "a b" is not a header name"#),
        (r#"{"rules": [{"header": "X-Waypoint-Route-Key"}]}"#, "rules[0].header: is the header"),
        (r#"{"rules": [{"header": "a", "values": {"b": ""}}]}"#, "rules[0].values.b: expected"),
        (r#"{"rules": [{"header": "a"}], "maxBodyBytes": 0}"#, "maxBodyBytes: expected 1 to"),
        (r#"{"rules": [{"header": "a"}], "onMissing": "deny"}"#, "onMissing: unknown variant"),
        (
            r#"{"rules": [{"header": "a"}], "onMissing": "reject", "defaultKey": "d"}"#,
            "defaultKey: has",
        ),
    ];
    for (config, want) in cases {
        let error = Tester::<PayloadRouter>::start(config).err().unwrap();
        assert!(error.contains(want), "{config}: {error}");
    }
}
