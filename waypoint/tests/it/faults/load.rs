//! The load: numbered requests at a fixed rate, each with the time at which it had to be sent.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join;
use http::{Method, Request, Response};
use http_body::Frame;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::oracle::{Fate, Kind, Ledger, Numbered, Report, Sealed};
use crate::faults::Length;
use crate::origin::Speaks;
use crate::streams::{AnyBody, body_of, full};

/// What has not come by then is lost.
const LOST_AFTER: Duration = Duration::from_secs(60);
/// Connections of HTTP/2 that the load shares.
const SHARED: usize = 8;

/// A run in the making.
pub(super) struct Load {
    pub(super) address: SocketAddr,
    pub(super) seed: u64,
    pub(super) ledger: Arc<Ledger>,
    pub(super) rate: u32,
    pub(super) time: Duration,
}

/// How far a run has come.
#[derive(Default)]
pub(super) struct Progress {
    sent: AtomicU64,
    total: u64,
    more: Notify,
}

impl Progress {
    /// Resolves when `percent` of the requests have been sent.
    pub(super) async fn at(&self, percent: u64) {
        loop {
            let mut more = std::pin::pin!(self.more.notified());
            more.as_mut().enable();
            if self.total * percent <= 100 * self.sent.load(Ordering::Relaxed) {
                return;
            }
            more.await;
        }
    }
}

impl Load {
    pub(super) fn new(
        address: SocketAddr,
        seed: u64,
        ledger: &Arc<Ledger>,
        length: Length,
    ) -> Self {
        let (rate, time) = (length.rate(), length.time());
        Self { address, seed, ledger: Arc::clone(ledger), rate, time }
    }

    /// Sends every request at its time, with `fault` beside it, and waits for all of them.
    pub(super) async fn run(self, fault: impl AsyncFnOnce(&Progress)) -> Report {
        let total = u64::from(self.rate) * self.time.as_millis() as u64 / 1_000;
        let progress = Progress { total, ..Progress::default() };
        let clients = Arc::new(Clients::new(self.address));
        let begun = Instant::now();
        let sending = async {
            let mut all = Vec::new();
            for id in 0..total {
                let due = begun + Duration::from_secs(id) / self.rate;
                tokio::time::sleep_until(due).await;
                all.push(tokio::spawn(sealed(
                    Arc::clone(&clients),
                    Numbered::new(self.seed, id),
                    due,
                )));
                progress.sent.fetch_add(1, Ordering::Relaxed);
                progress.more.notify_waiters();
            }
            let mut sealed = Vec::new();
            for one in all {
                sealed.push(one.await.expect("no client panics"));
            }
            sealed
        };
        let (all, ()) = join(sending, fault(&progress)).await;
        Report::new(self.seed, all, &self.ledger)
    }
}

async fn sealed(clients: Arc<Clients>, request: Numbered, due: Instant) -> Sealed {
    let fate = timeout(LOST_AFTER, clients.send(&request)).await.unwrap_or(Fate::Lost);
    Sealed { request, fate, after: due.elapsed() }
}

/// The connections of a run.
struct Clients {
    address: SocketAddr,
    idle: Mutex<Vec<http1::SendRequest<AnyBody>>>,
    shared: [tokio::sync::Mutex<Option<http2::SendRequest<AnyBody>>>; SHARED],
}

impl Clients {
    fn new(address: SocketAddr) -> Self {
        Self { address, idle: Mutex::default(), shared: Default::default() }
    }

    async fn send(&self, numbered: &Numbered) -> Fate {
        match numbered.client {
            Speaks::Http1 => self.send_http1(numbered).await,
            Speaks::Http2 => self.send_http2(numbered).await,
        }
    }

    async fn send_http1(&self, numbered: &Numbered) -> Fate {
        loop {
            let idle = self.idle.lock().pop();
            let mut sender = match idle {
                Some(sender) => sender,
                None => match self.connect_http1().await {
                    Ok(sender) => sender,
                    Err(error) => return Fate::Broken(error),
                },
            };
            if sender.ready().await.is_err() {
                continue; // It was closed while it was idle: nothing was sent on it.
            }
            let (fate, unsent) =
                fate_of(sender.send_request(request(numbered)).await, numbered).await;
            if unsent {
                continue;
            }
            if fate != Fate::Lost && sender.ready().await.is_ok() {
                self.idle.lock().push(sender);
            }
            return fate;
        }
    }

    async fn connect_http1(&self) -> Result<http1::SendRequest<AnyBody>, String> {
        let stream = TcpStream::connect(self.address).await.map_err(|error| error.to_string())?;
        let made = http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = made.map_err(|error| error.to_string())?;
        tokio::spawn(connection);
        Ok(sender)
    }

    async fn send_http2(&self, numbered: &Numbered) -> Fate {
        loop {
            let mut sender = match self.shared(numbered.id).await {
                Ok(sender) => sender,
                Err(error) => return Fate::Broken(error),
            };
            let (fate, unsent) =
                fate_of(sender.send_request(request(numbered)).await, numbered).await;
            if !unsent {
                return fate;
            }
        }
    }

    async fn shared(&self, id: u64) -> Result<http2::SendRequest<AnyBody>, String> {
        let mut place = self.shared[id as usize % SHARED].lock().await;
        if let Some(sender) = place.as_mut()
            && sender.ready().await.is_ok()
        {
            return Ok(sender.clone());
        }
        let stream = TcpStream::connect(self.address).await.map_err(|error| error.to_string())?;
        let made = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
        let (sender, connection) = made.map_err(|error| error.to_string())?;
        tokio::spawn(connection);
        Ok(place.insert(sender).clone())
    }
}

fn request(numbered: &Numbered) -> Request<AnyBody> {
    let method = match numbered.kind {
        Kind::Get | Kind::Denied => Method::GET,
        Kind::Upload => Method::PUT,
        Kind::Post | Kind::Call => Method::POST,
    };
    let prefix = match (numbered.kind, numbered.endpoint) {
        (Kind::Denied, _) => "denied",
        (_, Speaks::Http1) => "one",
        (_, Speaks::Http2) => "two",
    };
    let mut uri = format!("/{prefix}/{}", numbered.id);
    let mut request = Request::builder().method(method);
    match numbered.client {
        Speaks::Http1 => request = request.header("host", "example.test"),
        Speaks::Http2 => uri.insert_str(0, "http://example.test"),
    }
    if numbered.kind != Kind::Call {
        return request.uri(uri).body(full(numbered.body())).expect("a request");
    }
    let all = numbered.body();
    let frames: Vec<_> = all
        .chunks(all.len() / 3)
        .map(|part| Ok(Frame::data(Bytes::copy_from_slice(part))))
        .collect();
    let request =
        request.uri(uri).header("content-type", "application/grpc").header("te", "trailers");
    request.body(body_of(futures_util::stream::iter(frames))).expect("a request")
}

/// What became of a request, and whether it was never sent and may be sent anew.
async fn fate_of(answer: hyper::Result<Response<Incoming>>, numbered: &Numbered) -> (Fate, bool) {
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => return (Fate::Broken(format!("{error:?}")), error.is_canceled()),
    };
    let status = answer.status().as_u16();
    let early = grpc_status(answer.headers());
    let fate = match answer.into_body().collect().await {
        Err(error) => Fate::Cut(format!("{status}, then {error:?}")),
        Ok(body) => {
            let late = body.trailers().and_then(grpc_status);
            match (status, numbered.kind, early.or(late)) {
                (429 | 503 | 504, ..) => Fate::Shed(status),
                // DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, UNAVAILABLE.
                (200, Kind::Call, Some(4 | 8 | 14)) => Fate::Shed(status),
                (200, Kind::Call, Some(0)) | (200, Kind::Get | Kind::Upload | Kind::Post, _) => {
                    match body.to_bytes() == numbered.answer() {
                        true => Fate::Whole,
                        false => Fate::Differs,
                    }
                }
                _ => Fate::Status(status),
            }
        }
    };
    (fate, false)
}

fn grpc_status(headers: &http::HeaderMap) -> Option<u32> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}
