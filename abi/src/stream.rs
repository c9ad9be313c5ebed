//! One stream of a filter.

use bytes::Bytes;

use crate::{
    headers::Headers,
    outcome::{Fault, FaultKind, Held, Outcome},
    status::Direction,
};

/// One guest context.
pub struct Stream {}

impl Stream {
    /// Gives the head of a direction, once.
    ///
    /// # Errors
    ///
    /// [`Fault`] with what the guest had not released of this direction.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: a callback that has begun runs on, and what it released is lost.
    pub async fn head(
        &self,
        _direction: Direction,
        _headers: Headers,
        _end_of_stream: bool,
    ) -> Result<Outcome, Fault> {
        Err(Fault { kind: FaultKind::Closed, held: Held::default() })
    }

    /// Gives body bytes of a direction, in order, after its head.
    ///
    /// # Errors
    ///
    /// As [`head`](Self::head).
    ///
    /// # Cancel safety
    ///
    /// As [`head`](Self::head).
    pub async fn body(
        &self,
        _direction: Direction,
        _bytes: Bytes,
        _end_of_stream: bool,
    ) -> Result<Outcome, Fault> {
        Err(Fault { kind: FaultKind::Closed, held: Held::default() })
    }

    /// Gives the trailers of a direction, which end it.
    ///
    /// # Errors
    ///
    /// As [`head`](Self::head).
    ///
    /// # Cancel safety
    ///
    /// As [`head`](Self::head).
    pub async fn trailers(
        &self,
        _direction: Direction,
        _headers: Headers,
    ) -> Result<Outcome, Fault> {
        Err(Fault { kind: FaultKind::Closed, held: Held::default() })
    }

    /// Waits until a held direction goes on: `continue_stream`, a local reply or a reset, from
    /// any callback of the VM.
    ///
    /// # Errors
    ///
    /// As [`head`](Self::head); the VM ended meanwhile.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is taken before it is ready.
    pub async fn resumed(&self, _direction: Direction) -> Result<Outcome, Fault> {
        Err(Fault { kind: FaultKind::Closed, held: Held::default() })
    }

    /// Ends the context: `on_log`, `on_done`, `on_delete`. Dropping the stream does the same in
    /// a task.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the rest to a task.
    pub async fn finish(self) {}
}
