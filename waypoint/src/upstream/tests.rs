//! The upstream side against real TCP origins: raw ones where a library would tidy up.

mod body;
mod churn;

mod health;
mod http1;
mod http2;
mod http2_faults;
mod lanes;
mod locality;
mod origin;
mod pool;
mod removal;
mod retry;
mod retry_budget;
mod slow_start;
mod tls;
mod websocket;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body::Frame;
use tokio::sync::mpsc;

use super::{
    Cluster, Deadlines, Protocol, Security, UpstreamError, UpstreamLimits, UpstreamPeer, Upstreams,
};
use crate::authorize::Permitted;
use crate::codec::body::{Body, BodyError};
use crate::drain::{Drain, Tasks};

/// Longer than anything here should take; reached only by a test that fails.
const PATIENCE: Duration = Duration::from_secs(10);

/// The running state under test and where its tasks go.
struct Bench {
    upstreams: Arc<Upstreams>,
    tasks: Tasks,
}

impl Bench {
    fn new(limits: UpstreamLimits) -> Self {
        let (_, tasks, _) = Drain::new();
        Self { upstreams: Upstreams::new(limits, tasks.clone()), tasks }
    }

    fn http1(&self, addresses: &[SocketAddr]) -> Cluster {
        self.upstreams.cluster(
            "ns/service".into(),
            Protocol::Http1,
            Security::Plain,
            &[addresses.to_vec()],
        )
    }

    fn http2(&self, addresses: &[SocketAddr]) -> Cluster {
        self.upstreams.cluster(
            "ns/service".into(),
            Protocol::Http2,
            Security::Plain,
            &[addresses.to_vec()],
        )
    }

    fn outstanding(&self) -> usize {
        self.upstreams.figures().iter().map(|figures| figures.outstanding).sum()
    }

    /// Runs a request on a task of its own.
    fn start(&self, cluster: &Cluster, request: Request<Body>) -> Pending {
        let (sender, receiver) = mpsc::channel(1);
        let cluster = cluster.clone();
        self.tasks.spawn(async move {
            let answered = cluster.send(Permitted::callout(request), Deadlines::default()).await;
            let _ = sender.send(answered.map(with_peer)).await;
        });
        Pending(receiver)
    }
}

struct Pending(mpsc::Receiver<Result<Response<Body>, UpstreamError>>);

impl Pending {
    async fn answer(&mut self) -> Result<Response<Body>, UpstreamError> {
        within(self.0.recv()).await.expect("the request's task answers")
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it happens in time")
}

/// Waits for a condition that another task brings about.
async fn until(mut condition: impl FnMut() -> bool) {
    within(async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

fn get(path: &str) -> Request<Body> {
    request(Method::GET, path, Body::empty())
}

fn post(path: &str, body: impl Into<Bytes>) -> Request<Body> {
    request(Method::POST, path, Body::full(body.into()))
}

fn request(method: Method, path: &str, body: Body) -> Request<Body> {
    let uri = format!("http://service.example:8080{path}");
    Request::builder().method(method).uri(uri).body(body).expect("a request")
}

async fn send(cluster: &Cluster, request: Request<Body>) -> Result<Response<Body>, UpstreamError> {
    let answered = within(cluster.send(Permitted::callout(request), Deadlines::default())).await;
    answered.map(with_peer)
}

/// The response with who answered as its extension.
fn with_peer((mut response, peer): (Response<Body>, UpstreamPeer)) -> Response<Body> {
    response.extensions_mut().insert(peer);
    response
}

/// Sends and reads all; the status and the body's text.
async fn fetch(cluster: &Cluster, request: Request<Body>) -> (StatusCode, String) {
    let response = send(cluster, request).await.expect("a response");
    let status = response.status();
    (status, text(response.into_body()).await.expect("a whole body"))
}

async fn text(body: Body) -> Result<String, BodyError> {
    let (bytes, end) = read(body).await;
    end.map(|()| String::from_utf8(bytes).expect("text"))
}

/// The body's bytes, and how it ended.
async fn read(mut body: Body) -> (Vec<u8>, Result<(), BodyError>) {
    let mut bytes = Vec::new();
    while let Some(frame) = within(body.frame()).await {
        match frame {
            Ok(frame) => bytes.extend_from_slice(frame.data_ref().unwrap_or(&Bytes::new())),
            Err(error) => return (bytes, Err(error)),
        }
    }
    (bytes, Ok(()))
}

/// A request body that the test feeds by hand.
fn fed() -> (mpsc::Sender<Result<Frame<Bytes>, BodyError>>, Body) {
    struct Fed(mpsc::Receiver<Result<Frame<Bytes>, BodyError>>);
    impl crate::codec::Source for Fed {}

    impl http_body::Body for Fed {
        type Data = Bytes;
        type Error = BodyError;
        fn poll_frame(
            mut self: std::pin::Pin<&mut Self>,
            cx: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<Frame<Bytes>, BodyError>>> {
            self.0.poll_recv(cx)
        }
    }
    let (sender, receiver) = mpsc::channel(64);
    (sender, Body::wrap(Fed(receiver)))
}

fn data(bytes: impl Into<Bytes>) -> Result<Frame<Bytes>, BodyError> {
    Ok(Frame::data(bytes.into()))
}
