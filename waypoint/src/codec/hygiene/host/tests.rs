use super::*;
use http::HeaderName;

#[test]
fn an_authority_has_one_spelling_or_is_refused() {
    use Refusal as R;
    let label = "a".repeat(300);
    let cases = [
        ("example.com", Ok("example.com")),
        ("EXAMPLE.com:8080", Ok("example.com:8080")),
        ("example.com.", Ok("example.com")),
        ("Example.com.:80", Ok("example.com:80")),
        ("my_service.ns", Ok("my_service.ns")),
        ("10.0.0.1:443", Ok("10.0.0.1:443")),
        ("[::1]", Ok("[::1]")),
        ("[2001:DB8::1]:80", Ok("[2001:db8::1]:80")),
        ("", Err(R::HostMissing)),
        ("a@b", Err(R::HostUserinfo)),
        ("user:pass@b", Err(R::HostUserinfo)),
        ("a, b", Err(R::HostList)),
        ("a,b", Err(R::HostList)),
        ("a b", Err(R::HostList)),
        ("a:", Err(R::HostPort)),
        ("a:0", Err(R::HostPort)),
        ("a:080", Err(R::HostPort)),
        ("a:+80", Err(R::HostPort)),
        ("a:99999", Err(R::HostPort)),
        ("a:http", Err(R::HostPort)),
        ("a:80:80", Err(R::HostPort)),
        ("::1", Err(R::HostPort)),
        ("[::1]x", Err(R::HostMalformed)),
        ("[::g]", Err(R::HostMalformed)),
        ("[fe80::1%eth0]", Err(R::HostMalformed)),
        (".", Err(R::HostMalformed)),
        ("a..b", Err(R::HostMalformed)),
        (".a", Err(R::HostMalformed)),
        ("a..", Err(R::HostMalformed)),
        ("a/b", Err(R::HostMalformed)),
        ("a\\b", Err(R::HostMalformed)),
        ("a%00", Err(R::HostMalformed)),
        ("ä", Err(R::HostMalformed)),
        (":80", Err(R::HostMalformed)),
        (label.as_str(), Err(R::HostMalformed)),
    ];
    for (text, want) in cases {
        let spelled = authority(text.as_bytes());
        assert_eq!(spelled.as_deref().map_err(|refusal| *refusal), want, "{text:?}");
        if let Ok(spelled) = spelled {
            assert_eq!(authority(spelled.as_bytes()).as_deref(), Ok(&*spelled), "twice");
        }
    }
}

#[test]
fn target_and_host_must_name_the_same_place() {
    use Refusal as R;
    let cases = [
        (None, None, Err(R::HostMissing)),
        (Some("A"), None, Ok("a")),
        (None, Some("A."), Ok("a")),
        (Some("a:80"), Some("A.:80"), Ok("a:80")),
        (Some("a"), Some("b"), Err(R::HostMismatch)),
        (Some("a"), Some("a:80"), Err(R::HostMismatch)),
        (Some("a"), Some("x@a"), Err(R::HostUserinfo)),
        (Some("a"), Some(""), Err(R::HostMissing)),
    ];
    for (target, host, want) in cases {
        let bytes = |text: Option<&'static str>| text.map(str::as_bytes);
        let named = authority_of(bytes(target), bytes(host));
        assert_eq!(named.as_deref().map_err(|refusal| *refusal), want, "{target:?} {host:?}");
    }
}

#[test]
fn two_hosts_are_refused_even_if_they_are_equal() {
    let host = |value| (header::HOST, HeaderValue::from_static(value));
    let two: HeaderMap<HeaderValue> = [host("a"), host("a")].into_iter().collect();
    assert_eq!(host_field(&two), Err(Refusal::HostRepeated));
    let other = (HeaderName::from_static("x"), HeaderValue::from_static("a"));
    assert_eq!(host_field(&[other].into_iter().collect()), Ok(None));
}
