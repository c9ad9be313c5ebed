use super::*;
use http::Request;

fn checked(request: http::request::Builder) -> Result<(String, Parts), Refusal> {
    let request = request.version(http::Version::HTTP_2).body(()).expect("a request");
    let (mut parts, ()) = request.into_parts();
    check(&mut parts, true, &CodecLimits::default())?;
    Ok((parts.uri.to_string(), parts))
}

fn get(uri: &str) -> http::request::Builder {
    Request::get(uri)
}

#[test]
fn a_request_has_one_authority_one_path_and_no_host() {
    let (uri, parts) =
        checked(get("https://A.:443//x/%2e?q").header("host", "a:443")).expect("a good head");
    assert_eq!(uri, "https://a:443/x/?q");
    assert!(parts.headers.is_empty());
    let (uri, _) = checked(get("/x").header("host", "B")).expect("host alone will do");
    assert_eq!(uri, "https://b/x");
    let (uri, _) = checked(get("http://b/x")).expect("the connection knows better");
    assert_eq!(uri, "https://b/x");
}

#[test]
fn every_check_stands_in_the_way_of_a_head() {
    use Refusal as R;
    let fields = |count| (0..count).fold(get("https://a/"), |r, i| r.header(format!("x-{i}"), "y"));
    let long = format!("https://a/{}", "x".repeat(8 * 1024));
    let cases = [
        (get("/"), R::HostMissing),
        (get("https://a/").header("host", "b"), R::HostMismatch),
        (get("/").header("host", "a").header("host", "a"), R::HostRepeated),
        (get("https://u@a/"), R::HostUserinfo),
        (get("https://a:99999/"), R::HostPort),
        (Request::builder().method("CONNECT").uri("a:443"), R::ConnectRefused),
        (get("*").header("host", "a"), R::AsteriskWithoutOptions),
        (get("ftp://a/"), R::SchemeUnsupported),
        (get("https://a/%2f"), R::PathEncodedSlash),
        (get(&long), R::TargetTooLong),
        (fields(101), R::TooManyFields),
        (get("https://a/").header("x_y", "z"), R::FieldNameUnderscore),
        (get("https://a/").header("x", " y"), R::FieldMalformed),
        (get("https://a/").header("x", "y\t"), R::FieldMalformed),
        (get("https://a/").header("connection", "close"), R::ConnectionSpecificField),
        (get("https://a/").header("te", "gzip"), R::ConnectionSpecificField),
        (get("https://a/").header("expect", "x"), R::ExpectUnsupported),
        (get("https://a/").header("content-length", "+1"), R::ContentLengthMalformed),
    ];
    for (request, want) in cases {
        let described = format!("{request:?}");
        assert_eq!(checked(request).err(), Some(want), "{described}");
    }
}

#[test]
fn a_length_and_an_expectation_are_read() {
    let request = Request::post("https://a/").header("content-length", "5");
    let (mut parts, ()) =
        request.header("expect", "100-continue").body(()).expect("x").into_parts();
    let checked = check(&mut parts, true, &CodecLimits::default());
    assert_eq!(checked, Ok(Checked { expects_continue: true, length: Some(5) }));
}
