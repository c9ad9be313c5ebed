use super::*;

fn parse(head: &str) -> Result<Head, Refusal> {
    super::parse(&Bytes::copy_from_slice(head.as_bytes()), false, &CodecLimits::default())
}

#[test]
fn a_request_has_one_authority_one_path_and_no_host() {
    let cases = [
        ("GET /a?b HTTP/1.1\r\nHost: A.\r\n\r\n", "http://a/a?b"),
        ("GET http://a:80 HTTP/1.1\r\nHost: A:80\r\n\r\n", "http://a:80/"),
        ("GET https://a/%7Eb//c HTTP/1.0\r\n\r\n", "http://a/~b/c"),
        ("GET /..//x?y=%2f HTTP/1.1\r\nhost: [::1]:1\r\n\r\n", "http://[::1]:1/x?y=%2f"),
    ];
    for (head, want) in cases {
        let head = parse(head).expect("a good head");
        assert_eq!(head.request.uri().to_string(), want);
        assert!(head.request.headers().is_empty());
    }
    let asterisk = parse("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").expect("a good head");
    assert_eq!(asterisk.request.uri().path(), "*");
}

#[test]
fn whether_the_connection_stays_follows_from_version_and_connection() {
    let cases = [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: keep-alive, Close\r\n", false),
        ("1.0", "", false),
        ("1.0", "Connection: Keep-Alive\r\n", true),
    ];
    for (version, field, stays) in cases {
        let head = parse(&format!("GET / HTTP/{version}\r\nHost: a\r\n{field}\r\n"));
        assert_eq!(head.expect("a good head").stays, stays, "{version} {field:?}");
    }
}

#[test]
fn every_check_stands_in_the_way_of_a_head() {
    use Refusal as R;
    let cases = [
        ("GET / HTTP/3.0", "Host: a", R::VersionUnsupported),
        ("GET /\u{1} HTTP/1.1", "Host: a", R::TargetMalformed),
        ("GET /ä HTTP/1.1", "Host: a", R::TargetNotAscii),
        ("GET /a#b HTTP/1.1", "Host: a", R::TargetFragment),
        ("GET /a\\b HTTP/1.1", "Host: a", R::TargetBackslash),
        ("GET * HTTP/1.1", "Host: a", R::AsteriskWithoutOptions),
        ("GET a:80 HTTP/1.1", "Host: a", R::TargetMalformed),
        ("CONNECT a:80 HTTP/1.1", "Host: a", R::ConnectRefused),
        ("GET gopher://a/ HTTP/1.1", "Host: a", R::SchemeUnsupported),
        ("GET /%2f HTTP/1.1", "Host: a", R::PathEncodedSlash),
        ("GET http://u@a/ HTTP/1.1", "Host: a", R::HostUserinfo),
        ("GET http://b/ HTTP/1.1", "Host: a", R::HostMismatch),
        ("GET http://a/ HTTP/1.1", "x: y", R::HostMissing),
        ("GET / HTTP/1.0", "x: y", R::HostMissing),
        ("GET / HTTP/1.1", "Host: a\r\nHost: a", R::HostRepeated),
        ("GET / HTTP/1.1", "Host: a, b", R::HostList),
        ("GET / HTTP/1.1", "Host:", R::HostMissing),
        ("GET / HTTP/1.1", "Host: a:99999", R::HostPort),
        ("GET / HTTP/1.1", "Host: a\r\n x: y", R::FoldedField),
        ("GET / HTTP/1.1", "Host : a", R::WhitespaceBeforeColon),
        ("GET / HTTP/1.1", "Host: a\r\n: y", R::FieldNameEmpty),
        ("GET / HTTP/1.1", "Host: a\r\nä: y", R::FieldNameMalformed),
        ("GET / HTTP/1.1", "Host: a\r\nx: \0", R::ControlCharacter),
        ("GET / HTTP/1.1", "Host: a\r\nx_y: z", R::FieldNameUnderscore),
        ("GET / HTTP/1.1", "Host: a\r\nx", R::FieldMalformed),
        ("GET / HTTP/1.1", "Host: a\r\nExpect: x", R::ExpectUnsupported),
        ("GET / HTTP/1.1", "Host: a\r\nConnection: host", R::ConnectionNamesField),
        ("GET / HTTP/1.1", "Host: a\r\nContent-Length: +1", R::ContentLengthMalformed),
        ("GET / HTTP/1.1", "Host: a\r\nTransfer-Encoding: x", R::TransferEncodingUnsupported),
    ];
    for (line, fields, want) in cases {
        let refused = parse(&format!("{line}\r\n{fields}\r\n\r\n")).map(|head| head.request);
        assert_eq!(refused.err(), Some(want), "{line} {fields:?}");
    }
}

#[test]
fn a_target_past_its_limit_is_refused_within_a_whole_head_too() {
    let long = "a".repeat(CodecLimits::default().target_bytes_max);
    let refused = parse(&format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"));
    assert_eq!(refused.err(), Some(Refusal::TargetTooLong));
}
