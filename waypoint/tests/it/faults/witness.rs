//! Origins that write down what they see of each numbered request, and answer it in their manner.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::oracle::{Kind, Ledger, Numbered};
use crate::faults::Seeded;
use crate::origin::{Speaks, listener};
use crate::streams::{AnyBody, body_of, full};

/// Requests that share a connection of HTTP/2 at a time, about.
const SHARED_BY: u64 = 4;

/// Answers of a connection before another one is made, which may refuse everything.
const BEFORE_REFUSED: u64 = 40;

/// How an origin behaves.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// Answers.
    Good,
    /// Answers with this status, and nothing else.
    Status(u16),
    /// Reads and never answers.
    Silent,
    /// Ends each connection in an orderly way after so many answers, a moment later: FIN, or GOAWAY
    /// after a few times as many.
    Retiring(u64),
    /// Of HTTP/2, every so-manieth connection has processed nothing and says so; the others retire
    /// after a few answers. Of HTTP/1: answers.
    Refusing(u64),
}

/// A recording origin.
#[derive(Clone)]
pub(super) struct Witness {
    pub(super) address: SocketAddr,
    seed: u64,
    ledger: Arc<Ledger>,
    manner: Manner,
    speaks: Speaks,
}

impl Witness {
    pub(super) async fn start(
        speaks: Speaks,
        manner: Manner,
        seed: u64,
        ledger: &Arc<Ledger>,
    ) -> Self {
        let listener = listener();
        let address = listener.local_addr().expect("an address");
        let witness = Self { address, seed, ledger: Arc::clone(ledger), manner, speaks };
        let serving = witness.clone();
        tokio::spawn(async move {
            let mut connections = 0;
            while let Ok((stream, _)) = listener.accept().await {
                connections += 1;
                tokio::spawn(serving.clone().serve(stream, connections));
            }
        });
        witness
    }

    async fn serve(self, stream: TcpStream, number: u64) {
        let _ = stream.set_nodelay(true);
        if let Manner::Refusing(every) = self.manner
            && self.speaks == Speaks::Http2
            && number.is_multiple_of(every)
        {
            return refuse_all(stream).await;
        }
        let (answers, retires) = (Arc::new(AtomicU64::new(0)), Arc::new(Notify::new()));
        let (speaks, manner, seed) = (self.speaks, self.manner, self.seed);
        let told = Arc::clone(&retires);
        let service = service_fn(move |request| {
            let (witness, told) = (self.clone(), Arc::clone(&told));
            let answers = Arc::clone(&answers);
            async move {
                let answer = witness.answer(request).await;
                let given = answers.fetch_add(1, Ordering::Relaxed) + 1;
                let retires = match manner {
                    Manner::Retiring(answers) if speaks == Speaks::Http1 => given == answers,
                    Manner::Retiring(answers) => given == SHARED_BY * answers,
                    Manner::Refusing(_) => speaks == Speaks::Http2 && given == BEFORE_REFUSED,
                    _ => false,
                };
                if retires {
                    told.notify_one();
                }
                Ok::<_, Infallible>(answer)
            }
        });
        let moment = Duration::from_micros(Seeded::new(seed, number).below(3_000));
        let retirement = async {
            retires.notified().await;
            // So that the end meets the next request, now and then.
            tokio::time::sleep(moment).await;
        };
        let io = TokioIo::new(stream);
        // What is left of a connection that retires: its requests in flight.
        macro_rules! until_retired {
            ($connection:expr) => {{
                let mut connection = std::pin::pin!($connection);
                tokio::select! {
                    _ = connection.as_mut() => {}
                    () = retirement => {
                        connection.as_mut().graceful_shutdown();
                        let _ = connection.await;
                    }
                }
            }};
        }
        match speaks {
            Speaks::Http1 => {
                let server = hyper::server::conn::http1::Builder::new();
                until_retired!(server.serve_connection(io, service));
            }
            Speaks::Http2 => {
                let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                until_retired!(server.serve_connection(io, service));
            }
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<AnyBody> {
        let id = request.uri().path().rsplit('/').next().and_then(|id| id.parse().ok());
        let Some(id) = id else { return Response::new(full("")) };
        self.ledger.head(id);
        let numbered = Numbered::new(self.seed, id);
        match request.into_body().collect().await {
            Ok(body) => self.ledger.whole(id, body.to_bytes() == numbered.body()),
            // What is cut half-way is answered to nobody.
            Err(_) => return Response::new(full("")),
        }
        match self.manner {
            Manner::Silent => std::future::pending().await,
            Manner::Status(status) => {
                let answer = Response::builder().status(status).body(full(""));
                return answer.expect("a response");
            }
            Manner::Good | Manner::Retiring(_) | Manner::Refusing(_) => {}
        }
        self.ledger.answered(id);
        if numbered.kind != Kind::Call {
            return Response::new(full(numbered.answer()));
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().expect("a value"));
        let all = numbered.answer();
        let mut frames: Vec<_> = all
            .chunks(all.len() / 3)
            .map(|part| Ok(Frame::data(Bytes::copy_from_slice(part))))
            .collect();
        frames.push(Ok(Frame::trailers(trailers)));
        let answer = Response::builder().header("content-type", "application/grpc");
        answer.body(body_of(futures_util::stream::iter(frames))).expect("a response")
    }
}

/// Takes whatever comes and says that none of it was processed.
async fn refuse_all(mut stream: TcpStream) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    /// SETTINGS without a setting.
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    /// GOAWAY: last stream 0, NO_ERROR.
    const GOAWAY: [u8; 17] = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut read = vec![0; 16 * 1024];
    let begun = stream.write_all(&SETTINGS).await.is_ok();
    // The preface and its settings, and whatever requests are with them or after them.
    for _ in 0..2 {
        if !begun || !matches!(stream.read(&mut read).await, Ok(1..)) {
            return;
        }
    }
    let _ = stream.write_all(&GOAWAY).await;
    let _ = stream.shutdown().await;
    // A close with bytes unread would be a reset, and lose the GOAWAY.
    while matches!(stream.read(&mut read).await, Ok(1..)) {}
}
