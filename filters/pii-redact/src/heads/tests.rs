//! Which headers are scanned, what becomes of them, and which bodies are scanned.

use super::*;
use crate::config::Config;

fn settings(config: &str) -> (Settings, Rules) {
    serde_json::from_str::<Config>(config).unwrap().check().unwrap()
}

fn values() -> Values {
    Values::new(Rc::new(settings("{}").1))
}

#[test]
fn headers_are_scanned_unless_they_are_safe_or_not_chosen() {
    let (all, _) = settings(r#"{"safeHeaders":["X-Tenant"]}"#);
    for name in ["x-user", "cookie", "set-cookie", "location", "referer", "x-mail"] {
        assert!(is_scanned(&all, name), "{name}");
    }
    for name in [":path", ":authority", "host", "user-agent", "x-forwarded-for", "x-tenant"] {
        assert!(!is_scanned(&all, name), "{name}");
    }
    let (none, _) = settings(r#"{"locations":{"headers":"none"}}"#);
    assert!(!is_scanned(&none, "x-user"));
    let (some, _) = settings(r#"{"locations":{"headers":["X-User","user-agent"]}}"#);
    assert!(is_scanned(&some, "x-user") && is_scanned(&some, "user-agent"));
    assert!(!is_scanned(&some, "cookie"));
}

#[test]
fn header_values_are_redacted_with_their_name_as_context() {
    let cases = [
        ("x-user", "taro@example.com", "<EMAIL>"),
        ("x-user", "taro%40example.com; a=%zz", "<EMAIL>; a=%zz"),
        (
            "referer",
            "https://x.example/?m=taro%40example.com&b=1",
            "https://x.example/?m=%3CEMAIL%3E&b=1",
        ),
        ("x-my-number", "123456789018", "<MY_NUMBER>"),
        ("x-order", "123456789018", "123456789018"),
    ];
    let mut values = values();
    for (name, value, want) in cases {
        let out = values.header(name, value.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), want, "{name}");
    }
}

#[test]
fn only_the_query_of_a_path_is_redacted() {
    let cases = [
        ("/users/taro@example.com", "/users/taro@example.com"),
        ("/a?m=taro%40example.com&x=1%20", "/a?m=%3CEMAIL%3E&x=1%20"),
        ("/a?tel=+819012345678&ip=1.2.3.4?", "/a?tel=%3CPHONE%3E&ip=%3CIP%3E?"),
        ("/a?", "/a?"),
        ("*", "*"),
    ];
    for (path, want) in cases {
        let out = values().path(path.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), want);
    }
}

fn decide(config: &str, content_type: &str, encoding: &str, partial: bool) -> &'static str {
    let facts = Facts {
        content_type: (!content_type.is_empty()).then(|| content_type.into()),
        content_encoding: encoding.into(),
        partial,
        upgraded: false,
    };
    match plan(&settings(config).0, &facts) {
        Plan::Pass => "pass",
        Plan::Scan(Manner { coding: None, .. }) => "scan",
        Plan::Scan(Manner { coding: Some(Coding::Gzip), .. }) => "gunzip",
        Plan::Scan(Manner { coding: Some(Coding::Deflate), .. }) => "inflate",
        Plan::Refuse(_) => "refuse",
    }
}

#[test]
fn a_body_is_scanned_passed_or_refused_by_its_head_and_the_policies() {
    let decode = r#"{"contentEncoding":"decode"}"#;
    let pass = r#"{"contentEncoding":"pass","unknownContent":"pass","charset":"pass","partialContent":"pass"}"#;
    let strict = r#"{"unknownContent":"refuse"}"#;
    let cases = [
        ("{}", "application/json", "", false, "scan"),
        ("{}", "application/json", "identity,", false, "scan"),
        ("{}", "application/json", "gzip", false, "refuse"),
        (decode, "application/json", "gzip,", false, "gunzip"),
        (decode, "application/json", "X-GZIP", false, "gunzip"),
        (decode, "application/json", "deflate", false, "inflate"),
        (decode, "application/json", "gzip, gzip", false, "refuse"),
        (decode, "application/json", "br", false, "refuse"),
        (pass, "application/json", "zstd", false, "pass"),
        ("{}", "image/png", "", true, "pass"),
        ("{}", "image/png", "gzip", false, "pass"),
        ("{}", "", "", false, "scan"),
        ("{}", "application/octet-stream", "", false, "scan"),
        (pass, "application/octet-stream", "", false, "pass"),
        (strict, "application/octet-stream", "", false, "refuse"),
        (strict, "", "", false, "refuse"),
        ("{}", "application/grpc", "", false, "pass"),
        (strict, "application/grpc+proto", "", false, "refuse"),
        ("{}", "text/plain; charset=utf-16", "", false, "refuse"),
        (pass, "text/plain; charset=utf-16", "", false, "pass"),
        ("{}", "text/plain", "", true, "refuse"),
        (pass, "text/plain", "", true, "pass"),
        (r#"{"locations":{"body":false}}"#, "text/plain", "gzip", true, "pass"),
    ];
    for (config, content_type, encoding, partial, want) in cases {
        let got = decide(config, content_type, encoding, partial);
        assert_eq!(got, want, "{config} {content_type} {encoding} {partial}");
    }
}

#[test]
fn what_follows_an_upgrade_is_no_body() {
    let facts = Facts { upgraded: true, ..Facts::default() };
    assert!(matches!(plan(&settings(r#"{"unknownContent":"refuse"}"#).0, &facts), Plan::Pass));
}
