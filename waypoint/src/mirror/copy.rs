//! The copy of one body: bytes that were read and not yet sent, up to a bound.
//!
//! ```text
//! Open ──push, fits──► Open        ──end, whole──► Whole
//!   ├────push, too much──► TooLong
//!   └────end, cut──► Cut           (the first end stays)
//! ```

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use parking_lot::Mutex;

use super::MIRROR_BODY_BYTES_MAX;
use crate::codec::body::{BodyError, Source};

/// What writer and reader share.
pub(super) struct Copy(Mutex<State>);

#[derive(Clone, std::marker::Copy, PartialEq, Eq)]
enum Progress {
    Open,
    Whole,
    Cut,
    TooLong,
}

struct State {
    held: BytesMut,
    total: usize,
    /// The length, where it is known.
    expected: Option<u64>,
    trailers: Option<HeaderMap>,
    progress: Progress,
    reader: Option<Waker>,
}

impl Copy {
    pub(super) fn new(expected: Option<u64>) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            held: BytesMut::new(),
            total: 0,
            expected,
            trailers: None,
            progress: Progress::Open,
            reader: None,
        })))
    }

    /// Takes over a frame; past the bound it lets go of everything.
    pub(super) fn push(&self, frame: &Frame<Bytes>, ended: bool) {
        let mut state = self.0.lock();
        if state.progress != Progress::Open {
            return;
        }
        if let Some(data) = frame.data_ref() {
            state.total += data.len();
            if state.total > MIRROR_BODY_BYTES_MAX {
                state.close(Progress::TooLong);
            } else {
                state.held.extend_from_slice(data);
            }
        }
        if let Some(trailers) = frame.trailers_ref() {
            state.trailers = Some(trailers.clone());
        }
        if ended && state.progress == Progress::Open {
            state.progress = Progress::Whole;
        }
        state.wake();
    }

    /// The body has ended, or will not go on.
    pub(super) fn end(&self, whole: bool) {
        let mut state = self.0.lock();
        // Who reads a body of known length may let go of it without looking for its end.
        let whole = whole || state.expected == Some(state.total as u64);
        match (state.progress, whole) {
            (Progress::Open, true) => state.progress = Progress::Whole,
            (Progress::Open, false) => state.close(Progress::Cut),
            _ => return,
        }
        state.wake();
    }

    pub(super) fn is_too_long(&self) -> bool {
        self.0.lock().progress == Progress::TooLong
    }
}

impl State {
    fn close(&mut self, progress: Progress) {
        self.progress = progress;
        self.held = BytesMut::new();
        self.trailers = None;
    }

    fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

/// The body of a copy.
pub(super) struct Copied {
    copy: Arc<Copy>,
    /// What is left, where the length is known.
    left: Option<u64>,
}

impl Copied {
    pub(super) fn new(copy: Arc<Copy>, left: Option<u64>) -> Self {
        Self { copy, left }
    }
}

impl Source for Copied {}

impl http_body::Body for Copied {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let mut state = this.copy.0.lock();
        if !state.held.is_empty() {
            let data = state.held.split().freeze();
            this.left = this.left.map(|left| left.saturating_sub(data.len() as u64));
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        match state.progress {
            Progress::Open => {
                state.reader = Some(context.waker().clone());
                Poll::Pending
            }
            Progress::Whole => {
                Poll::Ready(state.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))))
            }
            Progress::Cut | Progress::TooLong => Poll::Ready(Some(Err(BodyError::DownstreamGone))),
        }
    }

    fn is_end_stream(&self) -> bool {
        let state = self.copy.0.lock();
        state.progress == Progress::Whole && state.held.is_empty() && state.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::new, SizeHint::with_exact)
    }
}

impl Drop for Copied {
    /// Nobody wants the rest.
    fn drop(&mut self) {
        self.copy.end(false);
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    fn data(length: usize) -> Frame<Bytes> {
        Frame::data(Bytes::from(vec![b'x'; length]))
    }

    #[tokio::test]
    async fn a_copy_has_the_bytes_and_the_trailers_of_its_body() {
        let copy = Copy::new(None);
        let copied = Copied::new(Arc::clone(&copy), None);
        copy.push(&data(3), false);
        copy.push(&data(4), false);
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", http::HeaderValue::from_static("7"));
        copy.push(&Frame::trailers(trailers.clone()), true);

        let whole = copied.collect().await.expect("a whole body");
        assert_eq!(whole.trailers(), Some(&trailers));
        assert_eq!(whole.to_bytes().len(), 7);
    }

    #[tokio::test]
    async fn a_copy_past_its_bound_is_cut_and_holds_nothing() {
        let copy = Copy::new(None);
        let copied = Copied::new(Arc::clone(&copy), None);
        copy.push(&data(MIRROR_BODY_BYTES_MAX), false);
        assert!(!copy.is_too_long());
        copy.push(&data(1), true);

        assert!(copy.is_too_long());
        assert_eq!(copy.0.lock().held.capacity(), 0);
        assert!(copied.collect().await.is_err());
    }

    #[tokio::test]
    async fn a_body_of_known_length_is_whole_when_all_of_it_was_read() {
        let copy = Copy::new(Some(3));
        let copied = Copied::new(Arc::clone(&copy), Some(3));
        copy.push(&data(3), false);
        copy.end(false);
        assert_eq!(copied.collect().await.expect("a whole body").to_bytes().len(), 3);
    }

    #[tokio::test]
    async fn a_body_that_is_cut_never_looks_whole_in_its_copy() {
        let copy = Copy::new(None);
        let copied = Copied::new(Arc::clone(&copy), None);
        copy.push(&data(3), false);
        copy.end(false);
        copy.end(true);
        assert!(copied.collect().await.is_err());
    }
}
