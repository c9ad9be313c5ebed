//! How far endpoints may be ahead of a client: one bound over all streams of its connection.
//!
//! What an endpoint has sent and the client has not taken is held here. A client that reads nothing
//! could have a whole window of every stream held, so that the windows of its streams are shares of
//! one [`Allowance`]: few streams at a time have wide ones, many have narrow ones.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// The widest window of a stream, in bytes: what keeps a fast link full, and what HTTP/2 begins with
/// (RFC 9113, 6.9.2), for `h2` holds endpoints to that until they have acknowledged its settings.
pub const WINDOW_BYTES_MAX: usize = 65_535;

/// The window that every stream has, whatever is left for it, in bytes: a small answer is in it.
pub const WINDOW_BYTES_MIN: usize = 1024;

/// What the windows of a connection's streams may come to beyond [`WINDOW_BYTES_MIN`] each. When it
/// is given out: windows do not grow until others have been used up.
const ALLOWANCE_BYTES: usize = 128 * 1024;

/// Streams of one connection that read as much as they like with the head of an answer of HTTP/1.
const FAR_STREAMS: usize = 4;

/// What the streams of one connection may have sent ahead of its client, together.
#[derive(Debug)]
pub struct Allowance {
    left: AtomicUsize,
    /// Windows that there are.
    windows: AtomicUsize,
}

/// What endpoints may send before the client takes any of it: as a request's extension. A request
/// without it is read by the proxy itself, as fast as can be.
#[derive(Clone, Debug)]
pub struct Ahead {
    allowance: Arc<Allowance>,
    far: bool,
}

/// The window of one stream as its endpoint sees it, in bytes.
///
/// ```text
/// |----- open: may come, or has come and is not taken -----|
/// |-- WINDOW_BYTES_MIN, less what is taken --|-- borrowed --|
/// ```
#[derive(Debug)]
pub struct Window {
    allowance: Option<Arc<Allowance>>,
    open: usize,
    borrowed: usize,
}

// === impl Allowance ===

impl Default for Allowance {
    fn default() -> Self {
        Self { left: AtomicUsize::new(ALLOWANCE_BYTES), windows: AtomicUsize::new(0) }
    }
}

impl Allowance {
    /// Lends what is wanted, but no more than half of what is left: others may come.
    fn borrow(&self, wanted: usize) -> usize {
        let mut lent = 0;
        // The last value was not changed by others, or this is done again.
        let _ = self.left.fetch_update(Relaxed, Relaxed, |left| {
            lent = wanted.min(left / 2);
            Some(left - lent)
        });
        lent
    }

    /// How wide each window would be if all were the same.
    fn fair(&self) -> usize {
        ALLOWANCE_BYTES / self.windows.load(Relaxed).max(1) + WINDOW_BYTES_MIN
    }
}

// === impl Ahead ===

impl Ahead {
    /// Of a stream that is the `number`th of its connection at this time.
    pub fn new(allowance: &Arc<Allowance>, number: usize) -> Self {
        Self { allowance: Arc::clone(allowance), far: number <= FAR_STREAMS }
    }

    /// Whether much may be read with the head of an answer.
    pub fn is_far(&self) -> bool {
        self.far
    }
}

// === impl Window ===

impl Window {
    /// A window of [`WINDOW_BYTES_MIN`].
    pub fn new(ahead: Option<&Ahead>) -> Self {
        let allowance = ahead.map(|ahead| Arc::clone(&ahead.allowance));
        if let Some(allowance) = &allowance {
            allowance.windows.fetch_add(1, Relaxed);
        }
        Self { allowance, open: WINDOW_BYTES_MIN, borrowed: 0 }
    }

    /// Whether an endpoint that has sent so many bytes more has kept to it.
    pub fn allows(&self, bytes: usize) -> bool {
        bytes <= self.open
    }

    /// The reader has taken so many bytes: what they had borrowed is given back.
    pub fn take(&mut self, bytes: usize) {
        self.open = self.open.saturating_sub(bytes);
        let back = bytes.min(self.borrowed);
        self.borrowed -= back;
        self.give(back);
    }

    /// Widens it, if that is worth a frame; says by how many bytes.
    ///
    /// It is worth one when as much is added as is open: once half of the window has been used, if
    /// there is enough to fill it again.
    pub fn widen(&mut self) -> usize {
        let fair = self.allowance.as_ref().map_or(WINDOW_BYTES_MAX, |allowance| allowance.fair());
        let wanted = fair.min(WINDOW_BYTES_MAX).saturating_sub(self.open);
        if wanted < self.open {
            return 0;
        }
        let own = WINDOW_BYTES_MIN.saturating_sub(self.open - self.borrowed).min(wanted);
        let borrowed = self.borrow(wanted - own);
        if own + borrowed < self.open {
            self.give(borrowed);
            return 0;
        }
        if self.allowance.is_some() {
            self.borrowed += borrowed;
        }
        self.open += own + borrowed;
        own + borrowed
    }

    /// What the allowance lends; all that is wanted without one.
    fn borrow(&self, wanted: usize) -> usize {
        self.allowance.as_ref().map_or(wanted, |allowance| allowance.borrow(wanted))
    }

    fn give(&self, bytes: usize) {
        if let Some(allowance) = &self.allowance {
            allowance.left.fetch_add(bytes, Relaxed);
        }
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        self.give(self.borrowed);
        if let Some(allowance) = &self.allowance {
            allowance.windows.fetch_sub(1, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(allowance: &Arc<Allowance>, count: usize) -> Vec<Window> {
        let mut windows = Vec::new();
        for number in 1..=count {
            let mut window = Window::new(Some(&Ahead::new(allowance, number)));
            window.widen();
            windows.push(window);
        }
        windows
    }

    fn open(windows: &[Window]) -> usize {
        windows.iter().map(|window| window.open).sum()
    }

    #[test]
    fn one_stream_has_the_widest_window_and_a_hundred_share_the_allowance() {
        let allowance = Arc::default();
        assert_eq!(open(&windows(&allowance, 1)), WINDOW_BYTES_MAX);
        let hundred = windows(&allowance, 100);
        assert!(hundred.iter().all(|window| WINDOW_BYTES_MIN <= window.open));
        assert!(open(&hundred) <= ALLOWANCE_BYTES + 100 * WINDOW_BYTES_MIN);
        drop(hundred);
        assert_eq!(allowance.left.load(Relaxed), ALLOWANCE_BYTES);
        assert_eq!(allowance.windows.load(Relaxed), 0);
    }

    #[test]
    fn windows_that_are_read_come_to_the_same_width() {
        let allowance = Arc::default();
        let mut windows = windows(&allowance, 20);
        for _ in 0..20 {
            for window in &mut windows {
                window.take(window.open);
                assert!(0 < window.widen(), "{window:?}");
            }
            assert!(open(&windows) <= ALLOWANCE_BYTES + 20 * WINDOW_BYTES_MIN);
        }
        let fair = ALLOWANCE_BYTES / 20;
        assert!(windows.iter().all(|window| fair / 2 < window.open), "{windows:?}");
    }

    #[test]
    fn a_stream_that_reads_goes_on_beside_any_number_that_do_not() {
        let allowance = Arc::default();
        let _unread = windows(&allowance, 99);
        let mut last = Window::new(Some(&Ahead::new(&allowance, 100)));
        for _ in 0..1000 {
            last.take(last.open.min(100));
            last.widen();
            assert!(0 < last.open);
        }
    }

    #[test]
    fn what_the_proxy_reads_itself_has_the_widest_window_always() {
        let mut window = Window::new(None);
        assert_eq!(window.widen(), WINDOW_BYTES_MAX - WINDOW_BYTES_MIN);
        window.take(WINDOW_BYTES_MAX / 2);
        assert_eq!(window.widen(), 0);
        window.take(1);
        assert_eq!(window.widen(), WINDOW_BYTES_MAX / 2 + 1);
    }
}
