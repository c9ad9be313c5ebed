use super::*;

fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    let field = |(name, value): &(&'static str, &'static str)| {
        (HeaderName::from_static(name), HeaderValue::from_static(value))
    };
    fields.iter().map(field).collect()
}

fn take(fields: &[(&'static str, &'static str)]) -> (Result<Hop, Refusal>, HeaderMap) {
    let mut headers = headers(fields);
    let hop = take_hop(&Method::GET, Version::HTTP_11, Framing::None, &mut headers);
    (hop, headers)
}

#[test]
fn fields_of_this_hop_are_removed_with_what_connection_names() {
    let (hop, left) = take(&[
        ("connection", "close, x-once"),
        ("connection", "TE"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("te", "gzip, trailers"),
        ("upgrade", "h2c"),
        ("http2-settings", "AAMAAABkAARAAAAAAAIAAAAA"),
        ("x-once", "1"),
        ("accept", "*/*"),
    ]);
    assert_eq!(hop, Ok(Hop { close: true, keep_alive: false, upgrade: None }));
    assert_eq!(left, headers(&[("accept", "*/*"), ("te", "trailers")]));
}

#[test]
fn connection_may_not_name_what_frames_routes_or_authenticates() {
    for name in ["host", "Content-Length", "transfer-encoding", "authorization", "cookie"] {
        assert_eq!(take(&[("connection", name)]).0, Err(Refusal::ConnectionNamesField), "{name}");
    }
    assert_eq!(take(&[("connection", "a b")]).0, Err(Refusal::FieldMalformed));
}

#[test]
fn only_a_websocket_upgrade_without_a_body_is_one() {
    let websocket = ("upgrade", "WebSocket");
    let asked = ("connection", "Keep-Alive, Upgrade");
    let upgrade = |fields: &[_]| take(fields).0.map(|hop| hop.upgrade);
    assert_eq!(upgrade(&[asked, websocket]), Ok(Some(Upgrade::WebSocket)));
    assert_eq!(upgrade(&[websocket]), Ok(None));
    assert_eq!(upgrade(&[asked, ("upgrade", "h2c")]), Ok(None));
    assert_eq!(upgrade(&[asked, ("upgrade", "websocket, h2c")]), Ok(None));
    assert_eq!(upgrade(&[asked, websocket, websocket]), Ok(None));
    let taken = |method, version, framing| {
        take_hop(&method, version, framing, &mut headers(&[asked, websocket])).map(|h| h.upgrade)
    };
    assert_eq!(taken(Method::POST, Version::HTTP_11, Framing::None), Ok(None));
    assert_eq!(taken(Method::GET, Version::HTTP_10, Framing::None), Ok(None));
    let with_body = taken(Method::GET, Version::HTTP_11, Framing::Length(1));
    assert_eq!(with_body, Err(Refusal::UpgradeWithBody));
}

#[test]
fn only_100_continue_may_be_expected() {
    let expects = |version, value: &'static str| {
        let mut headers = headers(&[("expect", value)]);
        let expects = expects_continue(version, &mut headers);
        assert!(headers.is_empty());
        expects
    };
    assert_eq!(expects(Version::HTTP_11, "100-Continue"), Ok(true));
    assert_eq!(expects(Version::HTTP_10, "100-continue"), Ok(false));
    assert_eq!(expects(Version::HTTP_11, "200-ok"), Err(Refusal::ExpectUnsupported));
    assert_eq!(expects(Version::HTTP_11, ""), Err(Refusal::ExpectUnsupported));
    assert_eq!(expects_continue(Version::HTTP_11, &mut HeaderMap::new()), Ok(false));
}

#[test]
fn fields_of_connections_are_refused_on_http2() {
    for (name, value) in [
        ("connection", "close"),
        ("keep-alive", "1"),
        ("proxy-connection", "close"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "websocket"),
        ("te", "gzip"),
    ] {
        let refused = refuse_connection_specific(&headers(&[(name, value)]));
        assert_eq!(refused, Err(Refusal::ConnectionSpecificField), "{name}");
    }
    assert_eq!(refuse_connection_specific(&headers(&[("te", "trailers")])), Ok(()));
}

#[test]
fn cut_cookies_are_joined_in_order() {
    let mut pieces = headers(&[("cookie", "a=1"), ("accept", "*/*"), ("cookie", "b=2")]);
    join_cookies(&mut pieces);
    assert_eq!(pieces.get(header::COOKIE), Some(&HeaderValue::from_static("a=1; b=2")));
    assert_eq!(pieces.len(), 2);
}

#[test]
fn trailers_may_not_frame_route_or_authenticate() {
    for name in ["content-length", "transfer-encoding", "host", "authorization", "te", "trailer"] {
        let refused = trailer_fields(&headers(&[(name, "x")]));
        assert_eq!(refused, Err(Refusal::TrailerForbidden), "{name}");
    }
    assert_eq!(trailer_fields(&headers(&[("grpc-status", "0"), ("x-sum", "1")])), Ok(()));
    assert_eq!(trailer_fields(&headers(&[("x_y", "1")])), Err(Refusal::FieldNameUnderscore));
}
