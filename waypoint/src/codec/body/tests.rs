use super::*;
use futures_util::stream;
use http::HeaderMap;
use http_body::Body as _;

#[tokio::test]
async fn a_full_body_gives_its_bytes_once_and_knows_its_size() {
    let mut body = Body::full("abc");
    assert_eq!(body.size_hint().exact(), Some(3));
    let frame = body.frame().await.expect("one frame").expect("no error");
    assert_eq!(frame.into_data().ok(), Some(Bytes::from("abc")));
    assert!(body.is_end_stream());
    assert!(body.frame().await.is_none());
}

#[test]
fn a_full_body_of_no_bytes_is_empty() {
    assert!(Body::full("").is_end_stream());
    assert_eq!(Body::default().size_hint().exact(), Some(0));
}

#[tokio::test]
async fn frames_of_a_stream_come_in_order_with_trailers_last() {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
    let frames = [Ok(Frame::data(Bytes::from("x"))), Ok(Frame::trailers(trailers))];
    let mut body = Body::from_frames(stream::iter(frames));
    assert_eq!(body.size_hint().exact(), None);
    assert!(body.frame().await.expect("data").expect("no error").is_data());
    assert!(body.frame().await.expect("trailers").expect("no error").is_trailers());
    assert!(body.frame().await.is_none());
}
