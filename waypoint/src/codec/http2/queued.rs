//! What a connection's streams have given to `h2` and `h2` has not written: one bound over all.
//!
//! `h2` bounds what one stream may queue, not their sum, and does not tell when it writes. So a
//! stream takes room here before it gives data, and the frames that leave give the room back. A
//! reset, in either direction, makes `h2` forget what the stream has queued.

use std::{collections::HashMap, convert::Infallible};

use parking_lot::Mutex;
use tokio::sync::{Notify, futures::Notified};

use super::frames::{DATA, Frames, Part, RST_STREAM};

/// The room of one connection, in bytes of DATA payload. When it is taken, streams wait.
pub(super) struct Queued {
    bytes_max: usize,
    state: Mutex<State>,
    freed: Notify,
}

#[derive(Default)]
struct State {
    bytes: usize,
    streams: HashMap<u32, usize>,
}

// === impl Queued ===

impl Queued {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, state: Mutex::default(), freed: Notify::new() }
    }

    /// Resolves when room is given back after this call.
    pub(super) fn freed(&self) -> Notified<'_> {
        self.freed.notified()
    }

    /// Takes `wanted` bytes of room for a stream, or all that there is at most; `None` where less
    /// is left.
    pub(super) fn take_whole(&self, stream: u32, wanted: usize) -> Option<usize> {
        let mut state = self.state.lock();
        let wanted = wanted.min(self.bytes_max);
        (wanted <= self.bytes_max - state.bytes).then(|| {
            state.bytes += wanted;
            *state.streams.entry(stream).or_default() += wanted;
            wanted
        })
    }

    /// Whether the client takes less than it is given: an eighth of the room is taken.
    pub(super) fn is_crowded(&self) -> bool {
        self.bytes_max / 8 < self.state.lock().bytes
    }

    /// Gives back room that was not needed.
    pub(super) fn give(&self, stream: u32, bytes: usize) {
        if 0 < bytes {
            self.gone(stream, Some(bytes));
        }
    }

    /// Takes up to `wanted` bytes of room for a stream: none where none is left.
    pub(super) fn take(&self, stream: u32, wanted: usize) -> usize {
        let mut state = self.state.lock();
        let taken = wanted.min(self.bytes_max - state.bytes);
        if 0 < taken {
            state.bytes += taken;
            *state.streams.entry(stream).or_default() += taken;
        }
        if state.bytes < self.bytes_max {
            self.freed.notify_one(); // Whoever was told of room passes on what is left of it.
        }
        taken
    }

    /// `h2` has written so much of a stream's data, or forgotten all of it (`None`).
    fn gone(&self, stream: u32, bytes: Option<usize>) {
        let mut state = self.state.lock();
        let Some(queued) = state.streams.get_mut(&stream) else { return };
        let gone = bytes.unwrap_or(*queued).min(*queued);
        *queued -= gone;
        if *queued == 0 {
            state.streams.remove(&stream);
        }
        state.bytes -= gone;
        drop(state);
        self.freed.notify_one();
    }

    /// The stream was reset: nothing of it is queued any more.
    pub(super) fn forget(&self, stream: u32) {
        self.gone(stream, None);
    }

    /// These bytes have left.
    pub(super) fn written(&self, frames: &mut Frames, bytes: &[u8]) {
        let Ok(()) = frames.scan(bytes, |frame, part| {
            match (frame.kind, part) {
                (DATA, Part::Payload(payload)) => self.gone(frame.stream, Some(payload.len())),
                (RST_STREAM, Part::End { .. }) => self.forget(frame.stream),
                _ => {}
            }
            Ok::<_, Infallible>(())
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, stream: u32, payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).expect("short").to_be_bytes();
        let mut bytes = vec![length[1], length[2], length[3], kind, 0];
        bytes.extend(stream.to_be_bytes());
        bytes.resize(9 + payload, 0);
        bytes
    }

    #[test]
    fn what_leaves_gives_its_room_back_however_the_bytes_are_cut() {
        let bytes = [frame(DATA, 1, 10), frame(1, 3, 7), frame(DATA, 3, 0), frame(DATA, 3, 20)];
        let bytes = bytes.concat();
        for cut in 1..bytes.len() {
            let queued = Queued::new(30);
            assert_eq!((queued.take(1, 10), queued.take(3, 50), queued.take(5, 1)), (10, 20, 0));
            let mut frames = Frames::of_server();
            for part in bytes.chunks(cut) {
                queued.written(&mut frames, part);
            }
            assert_eq!(queued.take(5, 99), 30, "{cut}");
        }
    }

    #[test]
    fn a_reset_gives_back_all_that_its_stream_has_queued() {
        let queued = Queued::new(30);
        assert_eq!((queued.take(1, 20), queued.take(3, 20)), (20, 10));
        queued.written(&mut Frames::of_server(), &frame(RST_STREAM, 1, 4));
        assert_eq!(queued.take(5, 99), 20);
        queued.forget(3);
        assert_eq!(queued.take(7, 99), 10);
    }
}
