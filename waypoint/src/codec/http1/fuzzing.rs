//! What must hold of HTTP/1 for every input, with hyper as the second opinion.

mod answers;
mod bodies;
mod heads;

use std::{
    cell::{OnceCell, RefCell},
    convert::Infallible,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub use self::{answers::answer, bodies::chunks, heads::request_head};

/// What is sent behind a message: whoever finds it where it is agrees on where the message ended.
const SECOND: &[u8] = b"GET /second HTTP/1.1\r\nHost: second\r\n\r\n";

/// A message as a reader has understood it.
#[derive(Debug, PartialEq)]
struct Read<T> {
    head: T,
    body: Vec<u8>,
    trailers: HeaderMap,
}

thread_local! {
    static RUNTIME: OnceCell<tokio::runtime::Runtime> = const { OnceCell::new() };
}

/// Runs what does not wait for the time or for another thread.
pub(super) fn block_on<T>(work: impl Future<Output = T>) -> T {
    let build = || tokio::runtime::Builder::new_current_thread().enable_io().build();
    RUNTIME.with(|runtime| runtime.get_or_init(|| build().expect("a runtime")).block_on(work))
}

/// The requests that hyper reads from bytes, up to the first that it does not read to its end.
fn as_server(bytes: Vec<u8>) -> Vec<Read<Request<()>>> {
    let seen = Rc::<RefCell<Vec<_>>>::default();
    let service = service_fn(|request: Request<Incoming>| {
        let seen = Rc::clone(&seen);
        async move {
            let (parts, body) = request.into_parts();
            if let Ok(whole) = body.collect().await {
                let trailers = whole.trailers().cloned().unwrap_or_default();
                let body = whole.to_bytes().to_vec();
                seen.borrow_mut().push(Read {
                    head: Request::from_parts(parts, ()),
                    body,
                    trailers,
                });
            }
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let mut server = hyper::server::conn::http1::Builder::new();
    let serving =
        server.half_close(true).serve_connection(TokioIo::new(Script::new(bytes)), service);
    // How it ends does not matter: what was seen does.
    let _ = block_on(serving);
    seen.take()
}

/// A peer that says what it says and listens to anything.
struct Script {
    bytes: Bytes,
    /// Until it has heard something.
    waits: bool,
}

impl Script {
    fn new(bytes: impl Into<Bytes>) -> Self {
        Self { bytes: bytes.into(), waits: false }
    }
}

impl AsyncRead for Script {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.waits {
            return Poll::Pending;
        }
        let length = self.bytes.len().min(buffer.remaining());
        buffer.put_slice(&self.bytes.split_to(length));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Script {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if std::mem::take(&mut self.waits) {
            cx.waker().wake_by_ref();
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
