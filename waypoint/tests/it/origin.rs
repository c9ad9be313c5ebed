//! Upstreams of the tests: hyper servers that answer what a closure says, and record what they saw.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpSocket};

/// A running origin; its connections end with the test's runtime.
#[derive(Clone)]
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Request<Bytes>>>>,
}

/// The protocol that an origin speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaks {
    Http1,
    Http2,
}

/// Connections that may wait for an origin to accept them. Tokio's listeners have 128; the kernel
/// passes over what comes when that is full, and on a busy machine a crowd's connections then are
/// not made in time.
const BACKLOG: u32 = 4096;

/// A socket that listens where a crowd may come, on a port of the kernel's choice.
pub(crate) fn listener() -> TcpListener {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port");
    socket.listen(BACKLOG).expect("a listening socket")
}

impl Origin {
    /// An origin that answers with `answer` and records each whole request.
    pub(crate) async fn start(
        speaks: Speaks,
        answer: impl Fn(&Request<Bytes>) -> Response<Bytes> + Clone + Send + Sync + 'static,
    ) -> Self {
        Self::on(listener(), speaks, answer)
    }

    /// As [`Origin::start`], on a socket of the test's own.
    pub(crate) fn on(
        listener: TcpListener,
        speaks: Speaks,
        answer: impl Fn(&Request<Bytes>) -> Response<Bytes> + Clone + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().expect("an address");
        let seen: Arc<Mutex<Vec<Request<Bytes>>>> = Arc::default();
        let origin = Self { address, seen: Arc::clone(&seen) };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, seen) = (answer.clone(), Arc::clone(&seen));
                let service = service_fn(move |request: Request<Incoming>| {
                    let (answer, seen) = (answer.clone(), Arc::clone(&seen));
                    async move {
                        let (parts, body) = request.into_parts();
                        // A request that is cut half-way is not a request that was seen.
                        let Ok(body) = body.collect().await else {
                            return Ok::<_, Infallible>(Response::new(Full::default()));
                        };
                        let request = Request::from_parts(parts, body.to_bytes());
                        let response = answer(&request);
                        seen.lock().push(request);
                        Ok(response.map(Full::new))
                    }
                });
                let io = TokioIo::new(stream);
                match speaks {
                    Speaks::Http1 => {
                        let server = hyper::server::conn::http1::Builder::new();
                        tokio::spawn(server.serve_connection(io, service).with_upgrades());
                    }
                    Speaks::Http2 => {
                        let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                        tokio::spawn(server.serve_connection(io, service));
                    }
                }
            }
        });
        origin
    }

    /// An origin that answers 200 with its name.
    pub(crate) async fn named(speaks: Speaks, name: &'static str) -> Self {
        Self::start(speaks, move |_| Response::new(Bytes::from_static(name.as_bytes()))).await
    }

    /// An origin that answers 200 with the body it got.
    pub(crate) async fn echo(speaks: Speaks) -> Self {
        Self::start(speaks, |request| {
            let mut response = Response::new(request.body().clone());
            if let Some(kind) = request.headers().get("content-type") {
                response.headers_mut().insert("content-type", kind.clone());
            }
            response
        })
        .await
    }

    /// The requests seen so far.
    pub(crate) fn seen(&self) -> Vec<Request<Bytes>> {
        let copy = |request: &Request<Bytes>| {
            let mut copy = Request::builder()
                .method(request.method().clone())
                .uri(request.uri().clone())
                .version(request.version())
                .body(request.body().clone())
                .expect("a request");
            *copy.headers_mut() = request.headers().clone();
            copy
        };
        self.seen.lock().iter().map(copy).collect()
    }
}

/// An HTTP/1.1 origin that holds its answers until the test lets them go, oldest first.
pub(crate) struct Holding {
    pub(crate) address: SocketAddr,
    arrived: Arc<tokio::sync::Semaphore>,
    released: Arc<tokio::sync::Semaphore>,
}

impl Holding {
    /// Answers 200 with `body` as JSON.
    pub(crate) async fn start(body: &'static str) -> Self {
        let listener = listener();
        let address = listener.local_addr().expect("an address");
        let closed = || Arc::new(tokio::sync::Semaphore::new(0));
        let (arrived, released) = (closed(), closed());
        let origin =
            Self { address, arrived: Arc::clone(&arrived), released: Arc::clone(&released) };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (arrived, released) = (Arc::clone(&arrived), Arc::clone(&released));
                let service = service_fn(move |_: Request<Incoming>| {
                    let (arrived, released) = (Arc::clone(&arrived), Arc::clone(&released));
                    async move {
                        arrived.add_permits(1);
                        released.acquire().await.expect("never closed").forget();
                        let response =
                            Response::builder().header("content-type", "application/json");
                        let response =
                            response.body(Full::new(Bytes::from_static(body.as_bytes())));
                        Ok::<_, Infallible>(response.expect("a response"))
                    }
                });
                let server = hyper::server::conn::http1::Builder::new();
                tokio::spawn(server.serve_connection(TokioIo::new(stream), service));
            }
        });
        origin
    }

    /// Waits until one more request has come.
    pub(crate) async fn arrived(&self) {
        let arrived = tokio::time::timeout(crate::harness::PATIENCE, self.arrived.acquire()).await;
        arrived.expect("in time").expect("never closed").forget();
    }

    /// Lets `count` answers go.
    pub(crate) fn release(&self, count: usize) {
        self.released.add_permits(count);
    }
}
