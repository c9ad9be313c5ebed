//! A small HTTP/1 server for the operator's ports, on hyper.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::drain::{Closing, Tasks};

/// Connections of one port at a time; past it, accepting waits.
const CONNECTIONS_MAX: usize = 64;
/// How long a request's head may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves one of the operator's ports until the drain is over: health and metrics are asked for
/// while requests finish.
pub async fn serve<A, F>(listener: TcpListener, answer: A, closing: Closing, tasks: Tasks)
where
    A: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let accepted = crate::drain::unless(closing.closing(), listener.accept()).await;
        let stream = match accepted {
            None => return,
            Some(Ok((stream, _))) => stream,
            Some(Err(_)) => {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let answer = answer.clone();
        let closing = closing.clone();
        tasks.spawn(async move {
            let service = service_fn(move |request| {
                let answer = answer(request);
                async move { Ok::<_, Infallible>(answer.await) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .keep_alive(true)
                .serve_connection(TokioIo::new(stream), service);
            let mut connection = std::pin::pin!(connection);
            if crate::drain::unless(closing.closing(), connection.as_mut()).await.is_none() {
                connection.as_mut().graceful_shutdown();
                // A peer that keeps its connection open is cut with the rest.
                let _ = crate::drain::unless(closing.cut(), connection).await;
            }
            drop(slot);
        });
    }
}
