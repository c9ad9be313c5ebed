//! HTTP/2 connections of one endpoint, shared by requests as far as their streams go.
//!
//! A stream in use is a [`StreamLease`]. Connections are made and driven by tasks of their own, so
//! a request that is dropped takes no connection away from others. A connection that the endpoint
//! is closing (GOAWAY) gets no new stream; its streams end where they are.

use std::future::poll_fn;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{Ping, PingPong};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};
use tracing::debug;

use super::Queue;
use crate::upstream::balance::{Connections, Endpoint};
use crate::upstream::connect::ConnectError;
use crate::upstream::http2::{self, Driver, StreamWindow, Windows};
use crate::upstream::retry::Plan;
use crate::upstream::{UpstreamError, UpstreamLimits};

pub(in crate::upstream) struct Http2Pool {
    state: Mutex<State>,
    connections_max: usize,
    streams_max: usize,
    idle_timeout: Duration,
}

struct State {
    /// Connections that take new streams.
    lines: Vec<Line>,
    /// Connections that exist or are being made, those that take no new stream included.
    open: usize,
    /// Those of them that are being made.
    connecting: usize,
    queue: Queue<Grant>,
    /// Whether connections without a stream are still kept.
    keeping: bool,
    next_id: u64,
}

struct Line {
    id: u64,
    sender: SendRequest<Bytes>,
    settings: Arc<Settings>,
    windows: Arc<Windows>,
    streams: usize,
    /// Whether a stream has ended on it.
    used: bool,
    idle_since: Instant,
}

/// The right to one stream of one connection, until dropped.
pub(in crate::upstream) struct StreamLease {
    pub(in crate::upstream) sender: SendRequest<Bytes>,
    /// Whether an earlier request has ended on the connection.
    pub(in crate::upstream) reused: bool,
    pub(in crate::upstream) settings: Arc<Settings>,
    windows: Arc<Windows>,
    line: u64,
    endpoint: Option<Arc<Endpoint>>,
}

/// The SETTINGS that an endpoint begins a connection with. They come some time after the connection
/// is made; few requests need to know what they say.
pub(in crate::upstream) struct Settings {
    /// `None` once they have come.
    ping: tokio::sync::Mutex<Option<PingPong>>,
}

/// What one who waited is given.
type Grant = Result<StreamLease, ConnectError>;

// === impl StreamLease ===

impl StreamLease {
    /// A stream on a connection that has room, or on one that is made for it.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the queue; a connection being made is kept for others.
    pub(in crate::upstream) async fn take(endpoint: &Arc<Endpoint>) -> Result<Self, UpstreamError> {
        let granted = match Http2Pool::of(endpoint).turn(endpoint)? {
            Turn::Now(lease) => return Ok(lease),
            Turn::Wait(granted) => granted,
        };
        let wait = endpoint.shared.limits.queue_wait;
        match timeout(wait, granted).await {
            Ok(Ok(Ok(lease))) => Ok(lease),
            Ok(Ok(Err(error))) => Err(error.into()),
            Ok(Err(_)) | Err(_) => Err(UpstreamError::QueueTimeout { wait }),
        }
    }

    /// The window of the stream on which a request has just been sent.
    pub(in crate::upstream) fn window(&self, stream: h2::StreamId, plan: &Plan) -> StreamWindow {
        StreamWindow::open(Arc::clone(&self.windows), stream.as_u32(), plan.ahead.as_ref())
    }
}

impl Drop for StreamLease {
    fn drop(&mut self) {
        if let Some(endpoint) = self.endpoint.take() {
            Http2Pool::of(&endpoint).release(&endpoint, self.line);
        }
    }
}

// === impl Settings ===

impl Settings {
    fn awaited(connection: &mut Driver) -> Arc<Self> {
        Arc::new(Self { ping: tokio::sync::Mutex::new(connection.ping_pong()) })
    }

    /// Resolves when they have come: an endpoint sends them before it answers a PING (RFC 9113,
    /// 3.4). A connection that ends resolves it too.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the PING under way; the next caller waits for its answer.
    pub(in crate::upstream) async fn received(&self) {
        let mut ping = self.ping.lock().await;
        let Some(waiting) = ping.as_mut() else { return };
        // It fails if an earlier caller's is still under way, which is as good.
        let _ = waiting.send_ping(Ping::opaque());
        let _ = poll_fn(|cx| waiting.poll_pong(cx)).await;
        *ping = None;
    }
}

enum Turn {
    Now(StreamLease),
    Wait(oneshot::Receiver<Grant>),
}

// === impl Http2Pool ===

impl Http2Pool {
    pub(in crate::upstream) fn new(limits: &UpstreamLimits) -> Self {
        let state = State {
            lines: Vec::new(),
            open: 0,
            connecting: 0,
            queue: Queue::new(limits.queue_max),
            keeping: true,
            next_id: 0,
        };
        Self {
            state: Mutex::new(state),
            connections_max: limits.http2_connections_max,
            streams_max: limits.http2_streams_max,
            idle_timeout: limits.idle_timeout,
        }
    }

    fn of(endpoint: &Endpoint) -> &Self {
        match &endpoint.connections {
            Connections::Http2(pool) => pool,
            Connections::Http1(_) => unreachable!("a stream is taken at HTTP/2 endpoints"),
        }
    }

    fn turn(&self, endpoint: &Arc<Endpoint>) -> Result<Turn, UpstreamError> {
        let mut state = self.state.lock();
        if state.queue.len() == 0
            && let Some(lease) = state.lease(endpoint, self)
        {
            return Ok(Turn::Now(lease));
        }
        let Some(granted) = state.queue.join() else {
            return Err(UpstreamError::QueueFull { queue_max: state.queue.max });
        };
        self.serve(state, endpoint);
        Ok(Turn::Wait(granted))
    }

    /// Gives streams to those who wait; makes a connection if some still do. Called whenever a
    /// stream or a connection came or went.
    fn serve(&self, mut state: parking_lot::MutexGuard<'_, State>, endpoint: &Arc<Endpoint>) {
        while 0 < state.queue.len()
            && let Some(lease) = state.lease(endpoint, self)
        {
            if let Err(Ok(mut lease)) = state.queue.give(Ok(lease)) {
                lease.endpoint = None; // Not through its drop: the lock is held.
                state.end_stream(lease.line);
            }
        }
        if !state.keeping {
            state.lines.retain(|line| 0 < line.streams);
        }
        // Every connection being made brings room for a whole set of streams.
        let coming = state.connecting * self.streams_max;
        if coming < state.queue.len() && state.open < self.connections_max {
            state.connecting += 1;
            state.open += 1;
            drop(state);
            endpoint.shared.tasks.spawn(run(Arc::downgrade(endpoint)));
        }
    }

    fn release(&self, endpoint: &Arc<Endpoint>, line: u64) {
        let mut state = self.state.lock();
        state.end_stream(line);
        self.serve(state, endpoint);
    }

    /// A connection has been made.
    fn joined(
        &self,
        endpoint: &Arc<Endpoint>,
        sender: SendRequest<Bytes>,
        settings: Arc<Settings>,
        windows: Arc<Windows>,
    ) -> u64 {
        let mut state = self.state.lock();
        state.connecting -= 1;
        let id = state.next_id;
        state.next_id += 1;
        let idle_since = Instant::now();
        let line = Line { id, sender, settings, windows, streams: 0, used: false, idle_since };
        state.lines.push(line);
        self.serve(state, endpoint);
        id
    }

    /// No connection could be made: who waits learns why, unless a stream can still come free.
    fn failed(&self, endpoint: &Arc<Endpoint>, error: &ConnectError) {
        let mut state = self.state.lock();
        state.connecting -= 1;
        state.open -= 1;
        if state.lines.is_empty() && state.connecting == 0 {
            while state.queue.give(Err(error.clone())).is_ok() {}
        }
        self.serve(state, endpoint);
    }

    /// A connection is gone.
    fn ended(&self, endpoint: &Arc<Endpoint>, id: u64) {
        let mut state = self.state.lock();
        state.open -= 1;
        state.lines.retain(|line| line.id != id);
        self.serve(state, endpoint);
    }

    /// Closes connections that had no stream for too long.
    pub(in crate::upstream) fn expire_idle(&self) {
        let now = Instant::now();
        let kept = |line: &Line| 0 < line.streams || now < line.idle_since + self.idle_timeout;
        self.state.lock().lines.retain(kept);
    }

    /// Closes connections without a stream, and from now on each when its last stream ends.
    pub(in crate::upstream) fn close_idle(&self) {
        let mut state = self.state.lock();
        state.keeping = false;
        state.lines.retain(|line| 0 < line.streams);
    }

    /// No connection that there is gets a new stream; each is closed when its last stream ends.
    pub(in crate::upstream) fn retire(&self) {
        self.state.lock().lines.clear();
    }

    /// Connections, those of them without a stream, and requests that wait.
    pub(in crate::upstream) fn figures(&self) -> (usize, usize, usize) {
        let state = self.state.lock();
        let idle = state.lines.iter().filter(|line| line.streams == 0).count();
        (state.open, idle, state.queue.len())
    }
}

// === impl State ===

impl State {
    /// A stream on the first connection with room. Forgets connections that take no more.
    fn lease(&mut self, endpoint: &Arc<Endpoint>, pool: &Http2Pool) -> Option<StreamLease> {
        self.lines.retain_mut(|line| !line.is_closing());
        let has_room = |line: &&mut Line| line.streams < line.streams_max(pool.streams_max);
        let line = self.lines.iter_mut().find(has_room)?;
        line.streams += 1;
        Some(StreamLease {
            sender: line.sender.clone(),
            reused: line.used,
            settings: Arc::clone(&line.settings),
            line: line.id,
            windows: Arc::clone(&line.windows),
            endpoint: Some(Arc::clone(endpoint)),
        })
    }

    fn end_stream(&mut self, id: u64) {
        let Some(line) = self.lines.iter_mut().find(|line| line.id == id) else { return };
        line.streams -= 1;
        line.used = true;
        if line.streams == 0 {
            line.idle_since = Instant::now();
        }
    }
}

impl Line {
    /// The endpoint has sent GOAWAY, or the connection has failed.
    fn is_closing(&mut self) -> bool {
        let ready = self.sender.poll_ready(&mut Context::from_waker(Waker::noop()));
        matches!(ready, Poll::Ready(Err(_)))
    }

    fn streams_max(&self, ours: usize) -> usize {
        self.sender.current_max_send_streams().min(ours)
    }
}

/// Makes one connection and drives it until it ends. The endpoint is not kept alive by it: when
/// nobody else holds the endpoint, the connection ends after its last stream.
async fn run(endpoint: Weak<Endpoint>) {
    let Some(alive) = endpoint.upgrade() else { return };
    let (sender, mut connection, windows) = match http2::open(&alive).await {
        Ok(opened) => opened,
        Err(error) => return Http2Pool::of(&alive).failed(&alive, &error),
    };
    let settings = Settings::awaited(&mut connection);
    let id = Http2Pool::of(&alive).joined(&alive, sender, settings, windows);
    drop(alive);
    if let Err(error) = connection.await {
        debug!(%error, "upstream HTTP/2 connection failed");
    }
    if let Some(endpoint) = endpoint.upgrade() {
        Http2Pool::of(&endpoint).ended(&endpoint, id);
    }
}
