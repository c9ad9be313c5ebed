//! How many of its streams a client resets, over all of its connections and from one to the next.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// The time over which resets are counted.
const PERIOD: Duration = Duration::from_secs(10);

/// Streams that one client may reset in a period, unless fewer than half of its streams are reset.
/// Past it: each connection on which it resets another one is closed.
///
/// A connection has a bound of its own that is a tenth of it. This one is for who comes again with
/// another connection, and has room for the many processes that may stand behind one address or
/// principal, and give up together when an endpoint hangs.
pub const CLIENT_RESETS_MAX: u32 = 1_000;

/// What one client has reset in the current period.
#[derive(Debug, Default)]
pub(super) struct Resets(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    since: Option<Instant>,
    streams: u32,
    resets: u32,
}

impl Resets {
    pub(super) fn stream_begins(&self, now: Instant) {
        let mut counts = self.0.lock();
        counts.turn(now);
        counts.streams = counts.streams.saturating_add(1);
    }

    /// Whether it may reset so many streams more; they are counted either way.
    pub(super) fn may_reset(&self, streams: u32, now: Instant) -> bool {
        let mut counts = self.0.lock();
        counts.turn(now);
        counts.resets = counts.resets.saturating_add(streams);
        counts.resets <= CLIENT_RESETS_MAX.max(counts.streams / 2)
    }

    /// Until when there is anything to remember of it, if there is.
    pub(super) fn until(&self, now: Instant) -> Option<Instant> {
        let mut counts = self.0.lock();
        counts.turn(now);
        counts.since.filter(|_| 0 < counts.resets).map(|since| since + PERIOD)
    }
}

impl Counts {
    /// Begins another period when the last one is over.
    fn turn(&mut self, now: Instant) {
        if self.since.is_none_or(|since| PERIOD <= now.saturating_duration_since(since)) {
            *self = Self { since: Some(now), streams: 0, resets: 0 };
        }
    }
}
