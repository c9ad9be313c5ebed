//! Clients and origins whose bodies stream: each side sees frames as they come.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::harness::{PATIENCE, request, whole};
use crate::origin::{Speaks, listener};

/// A request to the Gateway with these headers; a `host` among them replaces the default.
pub(crate) fn request_with(
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
) -> Request<Full<Bytes>> {
    let mut request = request(method, path, "");
    for (name, value) in headers {
        let name = http::HeaderName::from_bytes(name.as_bytes()).expect("a name");
        request.headers_mut().insert(name, value.parse().expect("a value"));
    }
    request
}

/// Writes bytes to a new connection and reads what comes until the other side closes.
pub(crate) async fn exchange(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    // A refusal may close the connection before all is written.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let read = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.is_ok();
    assert!(read, "the connection is not closed after {}", String::from_utf8_lossy(&answer));
    answer
}

/// A connection that takes any body and gives the answer as it comes.
#[derive(Clone)]
pub(crate) enum Client {
    Http1(Arc<tokio::sync::Mutex<hyper::client::conn::http1::SendRequest<AnyBody>>>),
    Http2(hyper::client::conn::http2::SendRequest<AnyBody>),
}

impl Client {
    /// Connects in this protocol; HTTP/2 by prior knowledge.
    pub(crate) async fn connect(address: SocketAddr, speaks: Speaks) -> Self {
        let io = TokioIo::new(TcpStream::connect(address).await.expect("a connection"));
        match speaks {
            Speaks::Http1 => {
                let made = hyper::client::conn::http1::handshake(io).await;
                let (sender, connection) = made.expect("a handshake");
                tokio::spawn(connection);
                Self::Http1(Arc::new(tokio::sync::Mutex::new(sender)))
            }
            Speaks::Http2 => {
                let executor = TokioExecutor::new();
                let mut client = hyper::client::conn::http2::Builder::new(executor);
                // A reader that stands still is told from a fast one soon.
                client.initial_stream_window_size(64 << 10);
                let (sender, connection) = client.handshake(io).await.expect("a handshake");
                tokio::spawn(connection);
                Self::Http2(sender)
            }
        }
    }

    /// Sends a request in origin-form with a `host`; gives the answer's head with its body unread.
    pub(crate) async fn send<B>(&self, request: Request<B>) -> Response<hyper::body::Incoming>
    where
        B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        self.try_send(request).await.expect("an answer")
    }

    /// As [`Client::send`], where no answer is an answer.
    pub(crate) async fn try_send<B>(
        &self,
        request: Request<B>,
    ) -> hyper::Result<Response<hyper::body::Incoming>>
    where
        B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        let mut request = request.map(|body| body.map_err(std::io::Error::other).boxed_unsync());
        let answer = match self {
            Self::Http1(sender) => {
                let mut sender = sender.lock().await;
                sender.ready().await.expect("a connection");
                let answer = sender.send_request(request);
                timeout(PATIENCE, answer).await
            }
            Self::Http2(sender) => {
                let host = request.headers_mut().remove("host").expect("a host");
                let authority = host.to_str().expect("a host");
                let target = format!("http://{authority}{}", request.uri());
                *request.uri_mut() = target.parse().expect("a target");
                timeout(PATIENCE, sender.clone().send_request(request)).await
            }
        };
        answer.expect("in time")
    }

    /// As [`Client::send`], and reads the whole body.
    pub(crate) async fn fetch(&self, request: Request<Full<Bytes>>) -> Response<Bytes> {
        whole(self.send(request).await).await
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
    let listener = listener();
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
