//! The loop of one connection: it accepts streams, moves frames, and says when to stop.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use h2::{
    Reason, RecvStream,
    server::{self, SendResponse},
};
use http::Request;
use parking_lot::Mutex;
use tokio::time::{self, Instant, Sleep};

use super::{
    queued::Queued,
    scanner::{Breach, Scanned},
    stream,
    turns::{Turn, Turns},
};
use crate::{
    codec::{Ahead, Allowance, Channel, CodecLimits, Connection, Journey, Refusal},
    drain::unless,
};

/// How long a connection has to take our last frames once it must end.
const FAREWELL_WAIT: Duration = Duration::from_millis(500);

/// Streams that h2 may reset for the client's mistakes before the connection is closed.
const OWN_RESETS_MAX: usize = 100;

/// What one stream may keep waiting, as a part of the whole connection's bound.
const SEND_SHARE: usize = 2;

/// Serves a connection; `early` is what was read of it already.
pub(in crate::codec) async fn serve<J: Journey>(
    io: Channel,
    early: Bytes,
    connection: Connection<J>,
) {
    let (limits, socket) = (connection.limits, io.socket());
    let queued = Arc::new(Queued::new(limits.send_buffer_bytes));
    let client = connection.info.client.clone();
    let (io, breach) = Scanned::new(io, early, limits.head_timeout, Arc::clone(&queued), client);
    let builder = builder(&limits);
    let (io, turn) = Turns::of_client(io);
    let handshake = time::timeout(limits.head_timeout, builder.handshake(io));
    let Some(Ok(Ok(h2))) = unless(connection.closing.cut(), handshake).await else {
        return;
    };
    let http2 = Http2 {
        h2,
        turn,
        breach,
        queued,
        activity: Arc::new(Activity::new()),
        allowance: Arc::default(),
        phase: Phase::Open,
        timer: Box::pin(time::sleep(limits.idle_timeout)),
        connection: Arc::new(connection),
    };
    http2.run().await;
    // Clients send on until they hear of our end: requests, windows, PING.
    socket.linger().await;
}

fn builder(limits: &CodecLimits) -> server::Builder {
    let mut builder = server::Builder::new();
    builder
        .enable_connect_protocol()
        .max_concurrent_streams(limits.h2_streams_max)
        .initial_window_size(limits.receive_window_bytes)
        .initial_connection_window_size(limits.receive_window_bytes)
        .max_header_list_size(u32::try_from(limits.head_bytes_max).unwrap_or(u32::MAX))
        .max_send_buffer_size(limits.send_buffer_bytes / SEND_SHARE)
        .max_local_error_reset_streams(Some(OWN_RESETS_MAX));
    builder
}

/// One connection of HTTP/2.
struct Http2<J> {
    h2: server::Connection<Turns<Scanned<Channel>>, Bytes>,
    turn: Turn,
    breach: Breach,
    queued: Arc<Queued>,
    activity: Arc<Activity>,
    allowance: Arc<Allowance>,
    phase: Phase,
    /// While open and draining: when to look whether it is idle. Then: when to give up.
    timer: Pin<Box<Sleep>>,
    connection: Arc<Connection<J>>,
}

/// ```text
/// Open ──closing, idle──► Draining ──┐
///   └────────breach, cut─────────────┴──► Ending
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// GOAWAY was sent; the streams that there are go on.
    Draining,
    /// Every stream was reset; the last frames are being sent.
    Ending,
}

enum Event {
    Breach(Refusal),
    Closing,
    Cut,
    Timer,
    /// The connection is gone.
    Ended,
}

/// How many streams run, how long their heads are, and since when none runs.
struct Activity {
    streams: AtomicUsize,
    head_bytes: AtomicUsize,
    last: Mutex<Instant>,
}

/// A stream that runs.
pub(super) struct Active {
    activity: Arc<Activity>,
    head_bytes: usize,
    /// How many ran when it began, itself included.
    number: usize,
}

// === impl Http2 ===

impl<J: Journey> Http2<J> {
    async fn run(mut self) {
        let connection = self.connection.clone();
        let mut closing = pin!(connection.closing.closing());
        let mut cut = pin!(connection.closing.cut());
        loop {
            let event = poll_fn(|cx| self.poll_event(cx, closing.as_mut(), cut.as_mut())).await;
            match event {
                Event::Breach(refusal) => {
                    connection.journey.refused(&refusal, &connection.info);
                    self.end(reason(refusal));
                }
                Event::Closing => self.drain(),
                Event::Cut => self.end(Reason::NO_ERROR),
                Event::Timer if self.phase == Phase::Ending => return,
                Event::Timer => self.look_whether_idle(),
                Event::Ended => return,
            }
        }
    }

    fn poll_event(
        &mut self,
        cx: &mut Context<'_>,
        closing: Pin<&mut impl Future<Output = ()>>,
        cut: Pin<&mut impl Future<Output = ()>>,
    ) -> Poll<Event> {
        while let Poll::Ready(accepted) = self.h2.poll_accept(cx) {
            match accepted {
                Some(Ok((request, respond))) => self.begin(request, respond),
                Some(Err(_)) | None => return Poll::Ready(Event::Ended),
            }
        }
        self.turn.next(cx);
        if self.phase != Phase::Ending {
            if let Some(refusal) = self.breach.take() {
                return Poll::Ready(Event::Breach(refusal));
            }
            if cut.poll(cx).is_ready() {
                return Poll::Ready(Event::Cut);
            }
        }
        if self.phase == Phase::Open && closing.poll(cx).is_ready() {
            return Poll::Ready(Event::Closing);
        }
        self.timer.as_mut().poll(cx).map(|()| Event::Timer)
    }

    fn begin(&mut self, mut request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
        let connection = self.connection.clone();
        let limit = connection.limits.live_heads_bytes;
        let Some(active) = Active::begin(&self.activity, head_bytes(&request), limit) else {
            connection.journey.refused(&Refusal::LiveHeadsTooLong, &connection.info);
            return respond.send_reset(Reason::REFUSED_STREAM);
        };
        if let Some(client) = &connection.info.client {
            client.stream_begins();
        }
        request.extensions_mut().insert(Ahead::new(&self.allowance, active.number));
        let queued = Arc::clone(&self.queued);
        let stream = stream::serve(Box::new(request), respond, connection, queued, active);
        self.connection.tasks.spawn(stream);
    }

    /// Takes no more streams and lets those that there are go on.
    fn drain(&mut self) {
        self.h2.graceful_shutdown();
        self.phase = Phase::Draining;
    }

    /// Resets every stream, says why, and is gone soon.
    fn end(&mut self, reason: Reason) {
        self.h2.abrupt_shutdown(reason);
        self.phase = Phase::Ending;
        self.timer.as_mut().reset(Instant::now() + FAREWELL_WAIT);
    }

    /// The timer looks now and then, so that a stream's begin and end need not set it.
    fn look_whether_idle(&mut self) {
        let limit = self.connection.limits.idle_timeout;
        let idle_since = self.activity.idle_since();
        let now = Instant::now();
        match idle_since {
            None => self.timer.as_mut().reset(now + limit),
            Some(since) if now < since + limit => self.timer.as_mut().reset(since + limit),
            // It did not take our GOAWAY for as long as it was idle before.
            Some(_) if self.phase == Phase::Draining => self.end(Reason::NO_ERROR),
            Some(_) => {
                self.drain();
                self.timer.as_mut().reset(now + self.connection.limits.write_stall);
            }
        }
    }
}

/// What a client hears of a breach that the scanner found.
fn reason(refusal: Refusal) -> Reason {
    match refusal {
        Refusal::PrefaceMalformed => Reason::PROTOCOL_ERROR,
        _ => Reason::ENHANCE_YOUR_CALM,
    }
}

/// A head's length as a header list, its pseudo-headers left out.
///
/// # Source
///
/// RFC 9113, section 6.5.2: 32 bytes for each field besides its name and value.
fn head_bytes(request: &Request<RecvStream>) -> usize {
    let fields = request.headers().iter();
    fields.map(|(name, value)| name.as_str().len() + value.len() + 32).sum()
}

// === impl Activity ===

impl Activity {
    fn new() -> Self {
        let (streams, head_bytes) = Default::default();
        Self { streams, head_bytes, last: Mutex::new(Instant::now()) }
    }

    fn idle_since(&self) -> Option<Instant> {
        let last = *self.last.lock();
        (self.streams.load(Ordering::Acquire) == 0).then_some(last)
    }
}

// === impl Active ===

impl Active {
    /// `None`: with this one the heads of all would be longer than `limit`. Only the connection's own
    /// task begins streams, so that none comes between the look and the count.
    fn begin(activity: &Arc<Activity>, head_bytes: usize, limit: usize) -> Option<Self> {
        if limit < activity.head_bytes.load(Ordering::Acquire) + head_bytes {
            return None;
        }
        activity.head_bytes.fetch_add(head_bytes, Ordering::AcqRel);
        let number = activity.streams.fetch_add(1, Ordering::AcqRel) + 1;
        Some(Self { activity: activity.clone(), head_bytes, number })
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        *self.activity.last.lock() = Instant::now();
        self.activity.head_bytes.fetch_sub(self.head_bytes, Ordering::AcqRel);
        self.activity.streams.fetch_sub(1, Ordering::AcqRel);
    }
}
