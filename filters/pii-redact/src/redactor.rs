//! Between the formats and the scan: takes text with what stands for it in the raw, gives the raw
//! with matches replaced. Clean raw leaves byte for byte.

use std::rc::Rc;

use crate::detect::Entity;
use crate::rules::{Rules, Tally};
use crate::scanner::{Blocked, Scanner, Sink};

/// Writes a replacement so that it fits into the format.
pub(crate) type Escape = fn(&[u8], &mut Vec<u8>);

/// Writes a replacement as it is.
pub(crate) fn plain(text: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(text);
}

/// A scan and its output.
#[derive(Debug)]
pub(crate) struct Redactor {
    scanner: Scanner,
    raw: Raw,
    out: Vec<u8>,
    /// Text was added that has not been scanned, and how its replacements are written.
    added: Option<Escape>,
}

/// The raw of the text that is held back; empty while the raw is the text.
#[derive(Debug, Default)]
struct Raw {
    bytes: Vec<u8>,
    /// How many raw bytes stand for each byte of text.
    widths: Vec<u8>,
}

impl Redactor {
    pub(crate) fn new(rules: Rc<Rules>) -> Self {
        Self { scanner: Scanner::new(rules), raw: Raw::default(), out: Vec::new(), added: None }
    }

    /// What has left since the last call.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// Makes room for about so many bytes to leave.
    pub(crate) fn reserve(&mut self, len: usize) {
        self.out.reserve(len);
    }

    /// What was counted since the last call.
    pub(crate) fn tally(&mut self) -> &mut Tally {
        &mut self.scanner.tally
    }

    /// How many bytes of text are held back.
    pub(crate) fn held(&self) -> usize {
        self.scanner.held().len()
    }

    /// Raw that is no text: structure between segments.
    pub(crate) fn structure(&mut self, raw: &[u8]) {
        debug_assert_eq!(self.held(), 0, "structure stands between segments");
        self.out.extend_from_slice(raw);
    }

    /// Text that is not scanned, as context of what follows. Between segments.
    pub(crate) fn context(&mut self, text: &[u8]) {
        self.scanner.context(text);
    }

    /// Forgets the context: what follows has nothing to do with it. Between segments.
    pub(crate) fn forget(&mut self) {
        self.scanner.forget();
    }

    /// More text of the segment that stands for itself.
    pub(crate) fn text(&mut self, text: &[u8], escape: Escape) -> Result<(), Blocked> {
        if text.is_empty() {
            return Ok(());
        }
        if !self.raw.widths.is_empty() {
            self.raw.bytes.extend_from_slice(text);
            self.raw.widths.resize(self.raw.widths.len() + text.len(), 1);
        }
        self.scanner.add(text);
        self.added = Some(escape);
        self.scan()
    }

    /// Scans what was added.
    pub(crate) fn scan(&mut self) -> Result<(), Blocked> {
        let Some(escape) = self.added.take() else { return Ok(()) };
        let mut sink = Written { raw: &mut self.raw, out: &mut self.out, escape };
        self.scanner.scan(&mut sink)
    }

    /// More text of the segment (one character or byte) for which `raw` stands. It is scanned with
    /// what follows, or by [`Self::scan`].
    pub(crate) fn encoded(&mut self, text: &[u8], raw: &[u8], escape: Escape) {
        debug_assert!(!text.is_empty() && raw.len() <= usize::from(u8::MAX));
        if self.raw.widths.is_empty() {
            let held = self.scanner.held();
            self.raw.bytes.extend_from_slice(held);
            self.raw.widths.resize(held.len(), 1);
        }
        self.raw.bytes.extend_from_slice(raw);
        self.raw.widths.push(raw.len() as u8);
        self.raw.widths.resize(self.raw.widths.len() + text.len() - 1, 0);
        self.scanner.add(text);
        self.added = Some(escape);
    }

    /// The segment has ended.
    pub(crate) fn end(&mut self, escape: Escape) -> Result<(), Blocked> {
        self.added = None;
        let mut sink = Written { raw: &mut self.raw, out: &mut self.out, escape };
        self.scanner.end(&mut sink)
    }

    /// What replaces a whole number, if it is one of the entities. Nothing leaves.
    pub(crate) fn number(
        &mut self,
        digits: &[u8],
        entities: &[Entity],
    ) -> Result<Option<Vec<u8>>, Blocked> {
        let mut sink = Replaced(None);
        self.scanner.only(digits, entities, &mut sink)?;
        Ok(sink.0)
    }
}

struct Written<'a> {
    raw: &'a mut Raw,
    out: &'a mut Vec<u8>,
    escape: Escape,
}

impl Raw {
    /// Takes what stands for the next `len` bytes of text off the front.
    fn take(&mut self, len: usize) -> std::vec::Drain<'_, u8> {
        let raw_len: usize = self.widths.drain(..len).map(usize::from).sum();
        self.bytes.drain(..raw_len)
    }
}

impl Sink for Written<'_> {
    fn keep(&mut self, text: &[u8]) {
        if self.raw.widths.is_empty() {
            self.out.extend_from_slice(text);
        } else {
            self.out.extend(self.raw.take(text.len()));
        }
    }

    fn redact(&mut self, len: usize, replacement: &[u8]) {
        if !self.raw.widths.is_empty() {
            self.raw.take(len);
        }
        (self.escape)(replacement, self.out);
    }
}

/// Keeps the last replacement only.
struct Replaced(Option<Vec<u8>>);

impl Sink for Replaced {
    fn keep(&mut self, _: &[u8]) {}

    fn redact(&mut self, _: usize, replacement: &[u8]) {
        self.0 = Some(replacement.to_vec());
    }
}
