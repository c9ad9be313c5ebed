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
    scanner::{Breach, Scanned},
    stream,
};
use crate::{
    codec::{CodecLimits, Connection, Io, Journey, Refusal},
    drain::unless,
};

/// How long a connection has to take our last frames once it must end.
const FAREWELL_WAIT: Duration = Duration::from_millis(500);

/// Streams that h2 may reset for the client's mistakes before the connection is closed.
const OWN_RESETS_MAX: usize = 100;

/// What one stream may keep waiting, as a part of the whole connection's bound.
const SEND_SHARE: usize = 4;

/// Serves a connection; `early` is what was read of it already.
pub(in crate::codec) async fn serve<J: Journey>(io: Io, early: Bytes, connection: Connection<J>) {
    let limits = connection.limits;
    let (io, breach) = Scanned::new(io, early, limits.head_timeout);
    let builder = builder(&limits);
    let handshake = time::timeout(limits.head_timeout, builder.handshake(io));
    let Some(Ok(Ok(h2))) = unless(connection.closing.cut(), handshake).await else {
        return;
    };
    let http2 = Http2 {
        h2,
        breach,
        activity: Arc::new(Activity::new()),
        phase: Phase::Open,
        timer: Box::pin(time::sleep(limits.idle_timeout)),
        connection: Arc::new(connection),
    };
    http2.run().await;
}

fn builder(limits: &CodecLimits) -> server::Builder {
    let mut builder = server::Builder::new();
    builder
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
    h2: server::Connection<Scanned<Io>, Bytes>,
    breach: Breach,
    activity: Arc<Activity>,
    phase: Phase,
    /// While open and draining: when to look whether it is idle. Then: when to give up.
    timer: Pin<Box<Sleep>>,
    connection: Arc<Connection<J>>,
}

/// ```text
/// Open ──closing, idle──► Draining ──┐
///   └────────flood, cut──────────────┴──► Ending
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
    Flood(Refusal),
    Closing,
    Cut,
    Timer,
    /// The connection is gone.
    Ended,
}

/// How many streams run, and since when none does.
struct Activity {
    streams: AtomicUsize,
    last: Mutex<Instant>,
}

/// A stream that runs.
struct Active(Arc<Activity>);

// === impl Http2 ===

impl<J: Journey> Http2<J> {
    async fn run(mut self) {
        let connection = self.connection.clone();
        let mut closing = pin!(connection.closing.closing());
        let mut cut = pin!(connection.closing.cut());
        loop {
            let event = poll_fn(|cx| self.poll_event(cx, closing.as_mut(), cut.as_mut())).await;
            match event {
                Event::Flood(refusal) => {
                    connection.journey.refused(&refusal, &connection.info);
                    self.end(Reason::ENHANCE_YOUR_CALM);
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
        if self.phase != Phase::Ending {
            if let Some(refusal) = self.breach.take() {
                return Poll::Ready(Event::Flood(refusal));
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

    fn begin(&mut self, request: Request<RecvStream>, respond: SendResponse<Bytes>) {
        let connection = self.connection.clone();
        let active = Active::begin(&self.activity);
        self.connection.tasks.spawn(async move {
            stream::serve(request, respond, &connection).await;
            drop(active);
        });
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

// === impl Activity ===

impl Activity {
    fn new() -> Self {
        Self { streams: AtomicUsize::new(0), last: Mutex::new(Instant::now()) }
    }

    fn idle_since(&self) -> Option<Instant> {
        let last = *self.last.lock();
        (self.streams.load(Ordering::Acquire) == 0).then_some(last)
    }
}

// === impl Active ===

impl Active {
    fn begin(activity: &Arc<Activity>) -> Self {
        activity.streams.fetch_add(1, Ordering::AcqRel);
        Self(activity.clone())
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        *self.0.last.lock() = Instant::now();
        self.0.streams.fetch_sub(1, Ordering::AcqRel);
    }
}
