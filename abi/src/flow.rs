//! One direction of a stream: what the guest holds, what it let go, what is ready to leave.
//!
//! ```text
//!            begin_*            after_*(action)
//!  embedder ────────► in the guest's hands ──┬─ Continue ──► let go ──► out
//!                       ▲  held ◄─ Pause ────┘     │ (waits while the head is held
//!                       └──── continue_stream ─────┘  and a callout is under way)
//! ```
//!
//! Pure: no guest, no clock, no lock. The head leaves before the body, the body before the
//! trailers. A `Continue` of the body or the trailers releases a held head only while no callout
//! of the stream is under way, so that a check that still waits for its answer cannot be passed;
//! `continue_stream` releases everything.
//!
//! # Source
//!
//! Envoy's filter states (`FilterHeadersStatus`, `FilterDataStatus`), with the differences above.

mod action;
mod chunks;

use bytes::Bytes;

pub(crate) use self::action::{BodyAction, HeadAction};
use self::chunks::{append, concat};

use crate::{
    headers::Headers,
    outcome::{Flow, Held},
    spec::Bodies,
};

/// Where a head or trailers are on their way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Absent,
    /// In the guest's hands: it may still write.
    Held,
    /// The guest is done with it, but what goes before it is held.
    LetGo,
    Released,
}

/// More body than the guest may hold back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLarge;

/// One direction of a stream.
#[derive(Debug, Default)]
pub(crate) struct Side {
    head: Option<Headers>,
    head_place: Place,
    /// No body callback runs while the head is held.
    stop_all: bool,
    /// The window that the guest reads and writes.
    window: Bytes,
    /// A body callback runs, or the last one paused: the window may be written.
    window_open: bool,
    body_paused: bool,
    watermark: bool,
    /// What the guest let go behind a held head.
    let_go: Vec<Bytes>,
    trailers: Option<Headers>,
    trailers_place: Place,
    end_fed: bool,
    original: Original,
    out: Out,
}

/// What came in and has not left, for a failure policy that goes on without the filter.
#[derive(Debug, Default)]
struct Original {
    head: Option<Headers>,
    body: Vec<Bytes>,
    /// How many of `body` the guest has let go.
    let_go: usize,
    trailers: Option<Headers>,
}

/// What is ready to leave.
#[derive(Debug, Default)]
pub(crate) struct Out {
    pub(crate) head: Option<Headers>,
    body: Vec<Bytes>,
    pub(crate) trailers: Option<Headers>,
}

impl Out {
    fn is_empty(&self) -> bool {
        self.head.is_none() && self.body.is_empty() && self.trailers.is_none()
    }

    pub(crate) fn body(&mut self) -> Bytes {
        concat(std::mem::take(&mut self.body))
    }
}

// === impl Side: what is fed ===

impl Side {
    pub(crate) fn begin_head(&mut self, headers: Headers, end_of_stream: bool) {
        self.original.head = Some(headers.clone());
        self.head = Some(headers);
        self.head_place = Place::Held;
        self.end_fed = end_of_stream;
    }

    /// `body_callback` says whether the guest has one; without it a paused head stops all.
    pub(crate) fn after_head(&mut self, action: HeadAction, bodies: Bodies, body_callback: bool) {
        match action {
            HeadAction::Continue => self.release_head(),
            HeadAction::Pause => {
                let feed = bodies == Bodies::BeforeHeaders && body_callback && !self.end_fed;
                self.stop_all = !feed;
            }
            HeadAction::StopAll => self.stop_all = true,
        }
    }

    pub(crate) fn begin_body(
        &mut self,
        chunk: Bytes,
        end_of_stream: bool,
        limit: usize,
    ) -> Result<usize, TooLarge> {
        let holding = self.head_place == Place::Held || self.body_paused;
        if holding && !self.watermark && limit < self.held_bytes().saturating_add(chunk.len()) {
            self.keep_original(chunk);
            return Err(TooLarge);
        }
        self.keep_original(chunk.clone());
        self.end_fed = end_of_stream;
        self.window = append(std::mem::take(&mut self.window), chunk);
        self.window_open = true;
        Ok(self.window.len())
    }

    /// The body's end as the trailers tell it: a paused body is shown once more, whole.
    pub(crate) fn begin_body_end(&mut self) -> Option<usize> {
        self.end_fed = true;
        (self.body_paused && !self.window.is_empty()).then_some(self.window.len())
    }

    pub(crate) fn after_body(
        &mut self,
        action: BodyAction,
        callouts: bool,
        limit: usize,
    ) -> Result<(), TooLarge> {
        self.body_paused = action != BodyAction::Continue;
        self.window_open = self.body_paused;
        self.watermark = action == BodyAction::Watermark;
        match action {
            BodyAction::Continue => {
                self.let_window_go();
                if self.head_place == Place::Held && !self.stop_all && !callouts {
                    self.release_head();
                }
                self.flush();
            }
            BodyAction::Buffer if limit < self.held_bytes() => return Err(TooLarge),
            BodyAction::Buffer | BodyAction::Watermark => {}
            BodyAction::Discard => {
                self.window = Bytes::new();
                self.original.body.truncate(self.original.let_go);
            }
        }
        Ok(())
    }

    pub(crate) fn begin_trailers(&mut self, headers: Headers) {
        self.original.trailers = Some(headers.clone());
        self.trailers = Some(headers);
        self.trailers_place = Place::Held;
        self.end_fed = true;
    }

    pub(crate) fn after_trailers(&mut self, action: BodyAction, callouts: bool) {
        if action != BodyAction::Continue {
            return;
        }
        self.trailers_place = Place::LetGo;
        if !self.holds_before_trailers() || !callouts {
            self.release_all();
        }
    }

    /// A body without a callback: nothing to show, nothing to wait for.
    pub(crate) fn pass_body(&mut self, chunk: Bytes, end_of_stream: bool) {
        self.end_fed = end_of_stream;
        if !chunk.is_empty() {
            self.original.body.push(chunk.clone());
            self.original.let_go = self.original.body.len();
            self.let_go.push(chunk);
        }
        self.flush();
    }

    /// Trailers without a callback: they wait for what is held before them.
    pub(crate) fn pass_trailers(&mut self, headers: Headers) {
        self.begin_trailers(headers);
        self.trailers_place = Place::LetGo;
        if !self.holds_before_trailers() {
            self.release_all();
        }
    }

    /// The guest called `continue_stream`: nothing stays held.
    pub(crate) fn continue_stream(&mut self) {
        self.release_all();
    }

    pub(crate) fn keep_original(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.original.body.push(chunk);
        }
    }

    fn let_window_go(&mut self) {
        let window = std::mem::take(&mut self.window);
        if !window.is_empty() {
            self.let_go.push(window);
        }
        self.original.let_go = self.original.body.len();
        self.body_paused = false;
        self.window_open = false;
        self.watermark = false;
    }

    fn release_head(&mut self) {
        if self.head_place == Place::Held {
            self.head_place = Place::Released;
            self.out.head = self.head.clone();
            self.original.head = None;
        }
        self.stop_all = false;
        self.flush();
    }

    fn release_all(&mut self) {
        self.release_head();
        if self.body_paused {
            self.let_window_go();
        }
        if self.trailers_place == Place::Held {
            self.trailers_place = Place::LetGo;
        }
        self.flush();
    }

    /// Moves what was let go behind a head that has left.
    fn flush(&mut self) {
        if self.head_place == Place::Held {
            return;
        }
        self.out.body.append(&mut self.let_go);
        self.original.body.drain(..self.original.let_go);
        self.original.let_go = 0;
        let added = self.trailers_place == Place::Held && self.original.trailers.is_none();
        let ready = self.trailers_place == Place::LetGo || (added && self.end_fed);
        if ready && !self.body_paused {
            self.trailers_place = Place::Released;
            self.out.trailers = self.trailers.clone();
            self.original.trailers = None;
        }
    }
}

// === impl Side: what the guest reads and writes ===

impl Side {
    /// The head, readable until the stream ends.
    pub(crate) fn head(&self) -> Option<&Headers> {
        self.head.as_ref()
    }

    /// The head while it may be written.
    pub(crate) fn head_mut(&mut self) -> Option<&mut Headers> {
        if self.head_place == Place::Held { self.head.as_mut() } else { None }
    }

    /// The trailers, readable until the stream ends.
    pub(crate) fn trailers(&self) -> Option<&Headers> {
        self.trailers.as_ref()
    }

    /// The trailers while they may be written; a body callback may add some at the end.
    pub(crate) fn trailers_mut(&mut self) -> Option<&mut Headers> {
        let may_add = self.trailers_place == Place::Absent && self.window_open && self.end_fed;
        if may_add {
            self.trailers_place = Place::Held;
            return Some(self.trailers.insert(Headers::new()));
        }
        if self.trailers_place == Place::Held { self.trailers.as_mut() } else { None }
    }

    /// The body window; empty outside a body callback, unless it is held.
    pub(crate) fn window(&self) -> &Bytes {
        &self.window
    }

    /// The body window while it may be written.
    pub(crate) fn window_mut(&mut self) -> Option<&mut Bytes> {
        self.window_open.then_some(&mut self.window)
    }

    /// Whether the head has left, and the embedder has it.
    pub(crate) fn head_taken(&self) -> bool {
        self.head_place == Place::Released && self.out.head.is_none()
    }
}

// === impl Side: what comes of it ===

impl Side {
    fn held_bytes(&self) -> usize {
        self.window.len() + self.let_go.iter().map(Bytes::len).sum::<usize>()
    }

    fn holds_before_trailers(&self) -> bool {
        self.head_place == Place::Held || self.body_paused
    }

    fn is_holding(&self) -> bool {
        let trailers_wait = matches!(self.trailers_place, Place::Held | Place::LetGo);
        self.holds_before_trailers() || trailers_wait
    }

    /// Whether nothing may be fed.
    pub(crate) fn is_stopped(&self, limit: usize) -> bool {
        let full = self.watermark && limit <= self.held_bytes();
        (self.head_place == Place::Held && self.stop_all) || full
    }

    pub(crate) fn flow(&self, limit: usize) -> Flow {
        if !self.is_holding() {
            Flow::Continue
        } else if self.is_stopped(limit) || self.end_fed {
            Flow::Hold
        } else {
            Flow::Buffer
        }
    }

    /// Whether a caller that waits has something to go on with.
    pub(crate) fn is_ready(&self) -> bool {
        !self.out.is_empty() || !self.is_holding()
    }

    pub(crate) fn take_out(&mut self) -> Out {
        std::mem::take(&mut self.out)
    }

    /// Everything that has not left, as it came; what was released but not taken goes first.
    pub(crate) fn take_held(&mut self) -> Held {
        let mut out = self.take_out();
        let original = std::mem::take(&mut self.original);
        let mut body = vec![out.body()];
        body.extend(original.body);
        Held {
            head: out.head.or(original.head),
            body: concat(body),
            trailers: out.trailers.or(original.trailers),
        }
    }
}

#[cfg(test)]
mod tests;
