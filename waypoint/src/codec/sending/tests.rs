use super::*;
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, header};

#[test]
fn how_a_body_is_sent_follows_from_method_version_status_and_length() {
    let open = || Body::from_frames(stream::empty());
    let known = || Body::full(Bytes::from_static(b"four"));
    let cases = [
        // method          version             status  declared  body      want
        (Method::GET, Version::HTTP_11, 200, None, known(), Sending::Length(4)),
        (Method::GET, Version::HTTP_11, 200, Some("9"), known(), Sending::Length(4)),
        (Method::GET, Version::HTTP_11, 200, Some("9"), open(), Sending::Length(9)),
        (Method::GET, Version::HTTP_11, 200, None, open(), Sending::Open),
        (Method::GET, Version::HTTP_2, 200, None, open(), Sending::Open),
        (Method::GET, Version::HTTP_10, 200, None, open(), Sending::UntilClose),
        (Method::GET, Version::HTTP_10, 200, None, known(), Sending::Length(4)),
        (Method::GET, Version::HTTP_11, 200, None, Body::empty(), Sending::Length(0)),
        (Method::GET, Version::HTTP_11, 200, Some("+1"), open(), Sending::Open),
        (Method::HEAD, Version::HTTP_11, 200, Some("9"), known(), Sending::Nothing),
        (Method::GET, Version::HTTP_11, 204, Some("9"), known(), Sending::Nothing),
        (Method::GET, Version::HTTP_11, 304, Some("9"), open(), Sending::Nothing),
    ];
    for (method, version, status, declared, body, want) in cases {
        let mut headers = HeaderMap::new();
        if let Some(declared) = declared {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static(declared));
        }
        let status = StatusCode::from_u16(status).expect("a status");
        let sending = Sending::of(&method, version, status, &headers, &body);
        assert_eq!(sending, want, "{method} {version:?} {status} {declared:?}");
    }
}

#[test]
fn a_body_of_declared_length_may_be_neither_longer_nor_shorter() {
    let mut remainder = Sending::Length(3).remainder();
    assert_eq!(remainder.take(2), Ok(()));
    assert_eq!(remainder.end(), Err(WrongLength));
    assert_eq!(remainder.take(2), Err(WrongLength));
    assert_eq!(remainder.take(1), Ok(()));
    assert_eq!(remainder.end(), Ok(()));
    let mut open = Sending::Open.remainder();
    assert_eq!((open.take(1 << 20), open.end()), (Ok(()), Ok(())));
}
