//! For whom a request is, and for what.

use super::{Made, Want, controls};
use Want::{Agreed, Answered, Closes, Passes, Refused};

/// `Host` in every form.
pub(super) fn hosts(all: &mut Made) {
    let mut host =
        |value: &str, want: Want| all.put(&format!("GET / HTTP/1.1~Host: {value}~~"), want);
    for good in [
        "a",
        "A.B",
        "a.",
        "a:80",
        "a:1",
        "a:65535",
        "127.0.0.1:8080",
        "[::1]",
        "[::1]:80",
        "a-b",
        "xn--a",
    ] {
        host(good, Passes);
    }
    for empty in ["", " ", "\t"] {
        host(empty, Refused("host_missing"));
    }
    for port in [
        "a:", "a:0", "a:080", "a:99999", "a:65536", "a:+80", "a:-1", "a:x", "a:80x", "a:80:80",
        "a::80", "[::1]:", "[::1]:x", "::1", "[::1", "a:443/",
    ] {
        host(port, Refused("host_port"));
    }
    for list in ["a, b", "a,b", "a b", "a\tb", "a,", ",a", "a:80, b"] {
        host(list, Refused("host_list"));
    }
    for userinfo in ["u@a", "@a", "a@", "u:p@a:80", "a@b@c", "a%40b@c"] {
        host(userinfo, Refused("host_userinfo"));
    }
    for bad in [
        "a/b",
        "a/",
        "a?b",
        "a#b",
        "a\\b",
        "http://a",
        "a%00",
        "a%2eb",
        ".a",
        "a..b",
        "..",
        ".",
        "a:8\u{b3}",
        "::1]",
        "[]",
        "[::g]",
        "[1.2.3.4]",
        "[::1%25eth0]",
        "a\u{e4}",
        "a\"",
        "<a>",
        "a;b",
        "a&b",
        "a=b",
        "*",
        "a|b",
        "{a}",
        "a!",
        "$a",
        "'a'",
        "(a)",
    ] {
        let port = bad.matches(':').count() > 0 && !bad.starts_with('[');
        host(
            bad,
            if port {
                Want::RefusedByAny(&["host_port", "host_malformed"])
            } else {
                Refused("host_malformed")
            },
        );
    }
    for control in controls() {
        host(&format!("a{control}b"), Refused("control_character"));
    }
    for (one, other) in [("a", "a"), ("a", "b"), ("", "a"), ("a", ""), ("A", "a")] {
        let repeated = Refused("host_repeated");
        all.put(&format!("GET / HTTP/1.1~Host: {one}~Host: {other}~~"), repeated);
        all.put(&format!("GET / HTTP/1.1~Host: {one}~X: y~hOST: {other}~~"), repeated);
        all.put(&format!("GET / HTTP/1.0~Host: {one}~Host: {other}~~"), repeated);
    }
    all.put("GET / HTTP/1.1~~", Refused("host_missing"));
    all.put("GET / HTTP/1.1~X-Host: a~X-Forwarded-Host: a~~", Refused("host_missing"));
}

/// Targets in origin-form, and what is none.
pub(super) fn targets(all: &mut Made) {
    let mut target =
        |text: &str, want: Want| all.put(&format!("GET {text} HTTP/1.1~Host: a~~"), want);
    for good in [
        "/",
        "/a",
        "/a/b?c=d",
        "//a",
        "/a//b",
        "/./a",
        "/a/../b",
        "/../../a",
        "/%7e",
        "/%41",
        "/a;b=c",
        "/a?b?c",
        "/?",
        "/a?%2f..%5c",
        "/%c3%a4",
        "/a%20b",
        "/%25",
        "/%252e%252e/",
        "/a:b@c",
        "/!$&'()*+,;=",
        "/a|b",
        "/{a}",
        "/%2e%2E/a",
        "/...",
        "/a?http://b/",
        "/http://b/",
        "/[a]",
    ] {
        target(good, Passes);
    }
    for (bad, check) in [
        ("/a#b", "target_fragment"),
        ("/#", "target_fragment"),
        ("/a?b#c", "target_fragment"),
        ("/a\\b", "target_backslash"),
        ("\\", "target_backslash"),
        ("/..\\a", "target_backslash"),
        ("/a%2fb", "path_encoded_slash"),
        ("/a%2Fb", "path_encoded_slash"),
        ("/a%5cb", "path_encoded_slash"),
        ("/%5C..%5Ca", "path_encoded_slash"),
        ("/%2e%2e%2fa", "path_encoded_slash"),
        ("/%00", "path_nul"),
        ("/a%00.html", "path_nul"),
        ("/%", "path_escape_malformed"),
        ("/%2", "path_escape_malformed"),
        ("/%zz", "path_escape_malformed"),
        ("/%u002f", "path_escape_malformed"),
        ("/%c0%a", "path_escape_malformed"),
        ("/..;/a", "path_dot_parameters"),
        ("/a/.;b/", "path_dot_parameters"),
        ("/a/%2e%2e;x/b", "path_dot_parameters"),
        ("/..%3bx/", "path_dot_parameters"),
        ("*", "asterisk_without_options"),
        ("**", "target_malformed"),
        ("a", "target_malformed"),
        ("a:80", "target_malformed"),
        ("a.b", "target_malformed"),
        ("?a", "target_malformed"),
        ("./a", "target_malformed"),
        ("../a", "target_malformed"),
        (":80", "target_malformed"),
        ("%2fa", "target_malformed"),
        ("http:/a", "target_malformed"),
        ("http:a", "target_malformed"),
        ("://a", "scheme_unsupported"),
        ("ftp://a/", "scheme_unsupported"),
        ("file:///a", "scheme_unsupported"),
        ("ws://a/", "scheme_unsupported"),
        ("javascript://a/", "scheme_unsupported"),
        ("/`", "target_malformed"),
        ("/<a>", "target_malformed"),
        ("/`/../a", "target_malformed"),
        ("/<a>/../%7e", "target_malformed"),
        ("/\u{c3}\u{a4}", "target_not_ascii"),
        ("/\u{e4}", "target_not_ascii"),
        ("/a\u{80}", "target_not_ascii"),
        ("/a\u{ff}b?c", "target_not_ascii"),
    ] {
        target(bad, Refused(check));
    }
    for place in
        ["a:443", "169.254.169.254:80", "[::1]:80", "a", "127.0.0.1:15000", "/", "*", "http://a/"]
    {
        let tunnel = format!("CONNECT {place} HTTP/1.1~Host: a~~");
        all.put(&tunnel, Refused("connect_refused"));
    }
    all.put("OPTIONS * HTTP/1.1~Host: a~~", Answered);
    all.put("OPTIONS / HTTP/1.1~Host: a~~", Passes);
    all.put("OPTIONS a HTTP/1.1~Host: a~~", Refused("target_malformed"));
}

/// Absolute-form, beside a `Host` that says the same or something else.
pub(super) fn absolute(all: &mut Made) {
    for (target, host, want) in [
        ("http://a/", "a", Passes),
        ("http://A/", "a", Passes),
        ("http://a./x", "A", Passes),
        ("HTTP://a/", "a", Passes),
        ("https://a/", "a", Passes),
        ("http://a", "a", Passes),
        ("http://a?b", "a", Passes),
        ("http://a:80/", "a:80", Passes),
        ("http://a:80/", "a", Refused("host_mismatch")),
        ("http://a/", "a:80", Refused("host_mismatch")),
        ("http://b/", "a", Refused("host_mismatch")),
        ("http://a.b/", "a", Refused("host_mismatch")),
        ("http://a/", "b", Refused("host_mismatch")),
        ("http:///", "a", Refused("host_missing")),
        ("http://", "a", Refused("host_missing")),
        ("http:///a", "a", Refused("host_missing")),
        ("http://u@a/", "a", Refused("host_userinfo")),
        ("http://a@b/", "a", Refused("host_userinfo")),
        ("http://a:99999/", "a", Refused("host_port")),
        ("http://a:/", "a", Refused("host_port")),
        ("http://a,b/", "a", Refused("host_list")),
        ("http://a\\b/", "a", Refused("target_backslash")),
        ("http://a#b/", "a", Refused("target_fragment")),
        ("http://[::1/", "a", Refused("host_port")),
        ("http://a%2fb/", "a", Refused("host_malformed")),
        ("http://a/%2f", "a", Refused("path_encoded_slash")),
        ("http://a//b/../c", "a", Passes),
        ("http://http://a/", "http", Refused("host_port")),
    ] {
        all.put(&format!("GET {target} HTTP/1.1~Host: {host}~~"), want);
    }
    // A host is demanded even so (RFC 9112, 3.2).
    all.put("GET http://a/ HTTP/1.1~~", Refused("host_missing"));
    all.put("GET http://a/ HTTP/1.1~Host:~~", Refused("host_missing"));
    all.put("GET http://a/ HTTP/1.0~~", Closes);
    all.put("OPTIONS http://a HTTP/1.1~Host: a~~", Answered);
    all.put("GET http://a/ HTTP/1.1~Host: a~Host: a~~", Refused("host_repeated"));
    all.put("GET http://a/ HTTP/1.1~X-Original-URL: /b~X-Rewrite-URL: /c~Host: a~~", Agreed);
}
