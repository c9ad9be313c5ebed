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
use tokio::net::TcpListener;

/// A running origin; its connections end with the test's runtime.
#[derive(Clone)]
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Request<Bytes>>>>,
}

/// The protocol that an origin speaks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speaks {
    Http1,
    Http2,
}

impl Origin {
    /// An origin that answers with `answer` and records each whole request.
    pub(crate) async fn start(
        speaks: Speaks,
        answer: impl Fn(&Request<Bytes>) -> Response<Bytes> + Clone + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
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

/// Whatever an error is.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Whatever a body is.
pub(crate) type AnyBody = http_body_util::combinators::UnsyncBoxBody<Bytes, std::io::Error>;

/// A body of these frames.
pub(crate) fn body_of(
    frames: impl futures_util::Stream<Item = std::io::Result<http_body::Frame<Bytes>>> + Send + 'static,
) -> AnyBody {
    http_body_util::StreamBody::new(frames).boxed_unsync()
}

/// A whole body, with its length.
pub(crate) fn full(bytes: impl Into<Bytes>) -> AnyBody {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// An origin whose answers see the request's body as it comes, and stream their own.
pub(crate) async fn serve<A>(
    speaks: Speaks,
    answer: impl Fn(Request<Incoming>) -> A + Clone + Send + 'static,
) -> SocketAddr
where
    A: Future<Output = Response<AnyBody>> + Send + 'static,
{
    serve_raw(move |stream| {
        let (io, answer) = (TokioIo::new(stream), answer.clone());
        let service = service_fn(move |request| {
            let answer = answer(request);
            async move { Ok::<_, Infallible>(answer.await) }
        });
        async move {
            let _ = match speaks {
                Speaks::Http1 => {
                    let server = hyper::server::conn::http1::Builder::new();
                    server.serve_connection(io, service).await
                }
                Speaks::Http2 => {
                    let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    server.serve_connection(io, service).await
                }
            };
        }
    })
    .await
}

/// An origin that speaks in bytes: each connection runs what `talk` makes of it.
pub(crate) async fn serve_raw<T>(
    talk: impl Fn(tokio::net::TcpStream) -> T + Send + 'static,
) -> SocketAddr
where
    T: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(talk(stream));
        }
    });
    address
}

/// Reads one head of HTTP/1, up to its empty line.
pub(crate) async fn read_head(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    use tokio::io::AsyncReadExt as _;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("a whole head"));
    }
    String::from_utf8(head).expect("text")
}
