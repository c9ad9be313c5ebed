//! Journeys and bodies that panic, on both protocols.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{Request, Response, Version};
use http_body::Frame;
use tokio::{net::TcpStream, sync::Notify};

use crate::codec::{
    Body, Refusal,
    testing::{Rig, Setup, patiently},
};

/// `/call` panics in the journey, `/body` after the first frame of the answer, when it is told to;
/// all else is answered.
fn fragile() -> (Rig, Arc<Notify>) {
    let now = Arc::new(Notify::new());
    let told = Arc::clone(&now);
    let rig = Rig::start(Setup::default(), move |request: Request<Body>, _| {
        let told = Arc::clone(&told);
        async move {
            match request.uri().path() {
                "/call" => panic!("a mistake in a journey"),
                "/body" => {
                    let first = stream::iter([Ok(Frame::data(Bytes::from_static(b"half")))]);
                    let rest = stream::once(async move {
                        told.notified().await;
                        panic!("a mistake in a body")
                    });
                    Response::new(Body::from_frames(first.chain(rest)))
                }
                _ => Response::new(Body::full("whole")),
            }
        }
    });
    (rig, now)
}

#[tokio::test]
async fn on_http1_a_journey_that_panics_is_answered_with_500_and_counted() {
    let (rig, _) = fragile();
    let mut client = rig.client().await;
    client.send("GET /call HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let answer = client.rest().await;
    assert!(
        answer.starts_with("HTTP/1.1 500 ") && answer.ends_with("\r\n\r\npanicked"),
        "{answer}"
    );
    assert_eq!(rig.refused(), [Refusal::Panicked]);

    let mut client = rig.client().await;
    client.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert!(client.rest().await.ends_with("\r\n\r\nwhole"));
}

#[tokio::test]
async fn on_http1_an_answer_whose_body_panics_is_cut_and_cannot_look_complete() {
    let (rig, now) = fragile();
    let mut client = rig.client().await;
    client.send("GET /body HTTP/1.1\r\nhost: a\r\n\r\n").await;
    client.until("half\r\n").await;
    now.notify_one();
    assert_eq!(client.rest().await, "", "no last chunk");
    assert_eq!(rig.refused(), [Refusal::Panicked]);
}

#[tokio::test]
async fn on_http2_a_panic_ends_its_stream_and_no_other() {
    let (rig, now) = fragile();
    let stream = TcpStream::connect(rig.address).await.expect("the server listens");
    let (client, connection) = h2::client::handshake(stream).await.expect("it speaks HTTP/2");
    tokio::spawn(async move { drop(connection.await) });
    let ask = async |path: &str| {
        let mut ready = patiently(client.clone().ready()).await.expect("the connection is open");
        let request = Request::get(format!("http://a{path}")).version(Version::HTTP_2);
        let request = request.body(()).expect("a request");
        let (answer, _) = ready.send_request(request, true).expect("a good request");
        patiently(answer).await.expect("an answer")
    };

    assert_eq!(ask("/call").await.status(), 500);
    let mut cut = ask("/body").await;
    assert_eq!(patiently(cut.body_mut().data()).await.expect("a frame").expect("data"), "half");
    now.notify_one();
    let end = patiently(cut.body_mut().data()).await.expect("no clean end");
    assert_eq!(end.expect_err("it is cut").reason(), Some(h2::Reason::INTERNAL_ERROR));
    assert_eq!(rig.refused(), [Refusal::Panicked; 2]);

    let mut whole = ask("/").await;
    assert_eq!(patiently(whole.body_mut().data()).await.expect("a frame").expect("data"), "whole");
}
