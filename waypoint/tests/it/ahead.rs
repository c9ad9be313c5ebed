//! What endpoints may send ahead of a client that opens all its streams and reads none of them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::{future::poll_fn, sync::Mutex};

use bytes::Bytes;
use futures_util::future::{join_all, try_join_all};
use h2::server::SendResponse;
use http::{Method, Request, Response, Version};
use http_body_util::BodyExt;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::harness::{PATIENCE, Waypoint, gateway_to, service};
use crate::origin::{Origin, Speaks, listener};
use crate::streams::{Client, request_with};

/// Streams that a client may open at a time.
const STREAMS: usize = 100;
/// What the architecture page says: the window of every stream, and what they have together besides.
const LEAST_BYTES: usize = 1024;
const ALLOWANCE_BYTES: usize = 128 * 1024;
/// More than any window.
const BODY_BYTES: usize = 100 * 1024;

/// An origin of HTTP/2 that sends each answer as far as it may.
pub(crate) struct Eager {
    pub(crate) address: SocketAddr,
    sent: Arc<AtomicUsize>,
    /// Answers whose window is closed.
    held_up: Arc<AtomicUsize>,
    changed: Arc<Notify>,
}

impl Eager {
    pub(crate) async fn start() -> Self {
        let listener = listener();
        let address = listener.local_addr().unwrap();
        let (sent, held_up) = Default::default();
        let origin = Arc::new(Self { address, sent, held_up, changed: Arc::default() });
        let eager = Self {
            address,
            sent: Arc::clone(&origin.sent),
            held_up: Arc::clone(&origin.held_up),
            changed: Arc::clone(&origin.changed),
        };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let origin = Arc::clone(&origin);
                tokio::spawn(async move {
                    let mut connection = h2::server::handshake(stream).await.unwrap();
                    while let Some(Ok((_, respond))) = connection.accept().await {
                        tokio::spawn(Arc::clone(&origin).answer(respond));
                    }
                });
            }
        });
        eager
    }

    async fn answer(self: Arc<Self>, mut respond: SendResponse<Bytes>) {
        let head = Response::builder().header("content-length", BODY_BYTES);
        let mut stream = respond.send_response(head.body(()).unwrap(), false).unwrap();
        stream.reserve_capacity(BODY_BYTES);
        let (mut left, mut counted) = (BODY_BYTES, false);
        while left > 0 {
            let room = poll_fn(|cx| match stream.poll_capacity(cx) {
                Poll::Pending if !counted && left < BODY_BYTES => {
                    counted = true;
                    self.held_up.fetch_add(1, Ordering::SeqCst);
                    self.changed.notify_one();
                    Poll::Pending
                }
                polled => polled,
            });
            let Some(Ok(room)) = room.await else { return };
            let room = room.min(left);
            stream.send_data(Bytes::from(vec![b'x'; room]), room == left).unwrap();
            left -= room;
            self.sent.fetch_add(room, Ordering::SeqCst);
        }
    }

    /// Resolves when so many answers wait for their windows.
    async fn held_up(&self, answers: usize) {
        while self.held_up.load(Ordering::SeqCst) < answers {
            let changed = timeout(PATIENCE, self.changed.notified()).await;
            assert!(changed.is_ok(), "{:?} of {answers} wait", self.held_up);
        }
    }
}

/// The answers to all streams of a client that takes no byte of a body.
pub(crate) async fn unread(address: SocketAddr) -> Vec<Response<h2::RecvStream>> {
    let mut client = h2::client::Builder::new();
    client.initial_window_size(0);
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = client.handshake::<_, Bytes>(stream).await.unwrap();
    tokio::spawn(connection);
    let mut answers = Vec::new();
    for _ in 0..STREAMS {
        sender = sender.ready().await.unwrap();
        let request = Request::get("http://a.test/").version(Version::HTTP_2).body(()).unwrap();
        answers.push(sender.send_request(request, true).unwrap().0);
    }
    timeout(PATIENCE, try_join_all(answers)).await.expect("all heads").unwrap()
}

#[tokio::test]
async fn endpoints_send_little_ahead_on_all_streams_together_of_a_client_that_reads_nothing() {
    let origin = Eager::start().await;
    let waypoint = Waypoint::start(
        &(gateway_to("origin") + &service("origin", "kubernetes.io/h2c", origin.address)),
    )
    .await;

    let heads = unread(waypoint.http()).await;
    assert!(heads.iter().all(|head| head.status() == 200));
    origin.held_up(STREAMS).await;

    let sent = origin.sent.load(Ordering::SeqCst);
    let least = STREAMS * LEAST_BYTES;
    assert!((least + ALLOWANCE_BYTES / 2..=least + ALLOWANCE_BYTES).contains(&sent), "{sent}");
}

/// What a path is answered with: more than any window, and another one for each path.
fn body_of(path: &str) -> Vec<u8> {
    path.bytes().cycle().take(BODY_BYTES).collect()
}

#[tokio::test]
async fn a_hundred_answers_at_a_time_arrive_whole() {
    for (speaks, protocol) in [(Speaks::Http1, "http"), (Speaks::Http2, "kubernetes.io/h2c")] {
        let origin = Origin::start(speaks, |request| {
            Response::new(Bytes::from(body_of(request.uri().path())))
        })
        .await;
        let resources = gateway_to("origin") + &service("origin", protocol, origin.address);
        let waypoint = Waypoint::start(&resources).await;
        let client = Client::connect(waypoint.http(), Speaks::Http2).await;

        // All are asked for before any is read.
        let paths: Vec<String> = (0..STREAMS).map(|number| format!("/{number}")).collect();
        let asked = paths.iter().map(|path| client.send(request_with(Method::GET, path, &[])));
        let answers = join_all(asked).await;
        let wrong = Mutex::new(Vec::new());
        join_all(paths.iter().zip(answers).map(async |(path, answer)| {
            let body = timeout(PATIENCE, answer.into_body().collect()).await;
            let body = body.ok().and_then(Result::ok).map(|body| body.to_bytes());
            if body.as_deref() != Some(&body_of(path)[..]) {
                wrong.lock().unwrap().push(path.clone());
            }
        }))
        .await;

        assert_eq!(*wrong.lock().unwrap(), Vec::<String>::new(), "{speaks:?}");
    }
}
