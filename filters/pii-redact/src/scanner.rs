//! The streaming scan of text: bytes in, spans out, in order and without gaps.
//!
//! ```text
//!  buffer  [ context │ emitted │ held back ........ ]
//!                    ▲ out     ▲ at: every match that begins before is known
//! ```
//! Text leaves as soon as no match that may still come can reach it. Where a detector must see more,
//! the scan stops at that place and resumes there. A detector looks at most
//! [`REACH_BYTES`](crate::window::REACH_BYTES) ahead, so no more than that is ever held back.

use std::rc::Rc;

use crate::bytes::is_prose;
use crate::chars::{Folded, OTHER, fold, may_fold};
use crate::detect::context::BEFORE_BYTES;
use crate::detect::{Entities, Entity, Match, Memo, Search, email, ip};
use crate::rules::{Action, Rules, Tally};
use crate::window::Window;

/// How much text is kept behind the scan for context, in bytes.
const KEPT_BYTES: usize = BEFORE_BYTES;
/// The buffer's front is cut off when that much of it is of no use, in bytes.
const SPENT_BYTES_MAX: usize = 16 * 1024;

/// Where the spans of a text go.
pub(crate) trait Sink {
    /// The next bytes stay.
    fn keep(&mut self, text: &[u8]);
    /// The next `len` bytes are replaced.
    fn redact(&mut self, len: usize, replacement: &[u8]);
}

/// A match of an entity whose action is to block: nothing after it leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Blocked(pub(crate) Entity);

/// Scans segments (strings, fields, lines, a whole text) one after the other. What came before a
/// segment is its context.
#[derive(Debug)]
pub(crate) struct Scanner {
    rules: Rc<Rules>,
    text: Vec<u8>,
    /// Where the segment begins.
    first: usize,
    /// Where the scan stands.
    at: usize,
    /// Up to where text has been emitted; beyond `at` within a match.
    out: usize,
    /// Matches that end at or before this are parts of one that stays (allowed).
    allowed: usize,
    /// The same of entities that are only counted.
    counted: [usize; Entity::ALL.len()],
    memo: Memo,
    /// Places before this are searched one by one.
    look: usize,
    pub(crate) tally: Tally,
}

impl Scanner {
    pub(crate) fn new(rules: Rc<Rules>) -> Self {
        Self {
            rules,
            text: Vec::new(),
            first: 0,
            at: 0,
            out: 0,
            allowed: 0,
            counted: [0; Entity::ALL.len()],
            memo: Memo::default(),
            look: 0,
            tally: Tally::default(),
        }
    }

    /// More of the segment.
    pub(crate) fn add(&mut self, text: &[u8]) {
        self.text.extend_from_slice(text);
    }

    /// Scans what was added; what no match can reach any more goes to `sink`.
    pub(crate) fn scan(&mut self, sink: &mut impl Sink) -> Result<(), Blocked> {
        let wanted = self.rules.wanted;
        self.scan_for(wanted, false, sink)
    }

    /// The segment has ended: all of it goes to `sink`.
    pub(crate) fn end(&mut self, sink: &mut impl Sink) -> Result<(), Blocked> {
        let wanted = self.rules.wanted;
        self.scan_for(wanted, true, sink)
    }

    /// A whole segment in which only some entities are looked for.
    pub(crate) fn only(
        &mut self,
        text: &[u8],
        entities: &[Entity],
        sink: &mut impl Sink,
    ) -> Result<(), Blocked> {
        self.text.extend_from_slice(text);
        let wanted = self.rules.wanted.only(entities);
        self.scan_for(wanted, true, sink)
    }

    /// Text that is not scanned but is context for what follows. Between segments only.
    pub(crate) fn context(&mut self, text: &[u8]) {
        self.text.extend_from_slice(text);
        self.next_segment();
    }

    /// Forgets all context. Between segments only.
    pub(crate) fn forget(&mut self) {
        let (rules, tally) = (Rc::clone(&self.rules), self.tally);
        *self = Self { tally, ..Self::new(rules) };
    }

    /// The text that is held back.
    pub(crate) fn held(&self) -> &[u8] {
        &self.text[self.out..]
    }

    fn next_segment(&mut self) {
        let end = self.text.len();
        (self.first, self.at, self.out) = (end, end, end);
        self.cut();
    }

    fn scan_for(
        &mut self,
        wanted: Entities,
        complete: bool,
        sink: &mut impl Sink,
    ) -> Result<(), Blocked> {
        while self.at < self.text.len() {
            self.pass_word();
            self.at = skip(&self.text, self.at, &mut self.look, complete);
            if self.at >= self.text.len() {
                break;
            }
            let window = Window::new(&self.text, self.first, self.at, complete);
            match Search::new(window, wanted).run(self.at, &mut self.memo) {
                Err(_) => break,
                Ok(None) => {}
                Ok(Some(found)) => self.settle(found, sink)?,
            }
            self.at += 1;
        }
        if complete {
            self.keep_until(self.text.len(), sink);
            self.next_segment();
        } else {
            self.keep_until(self.at, sink);
            self.cut();
        }
        Ok(())
    }

    /// Within a word only e-mail addresses begin, and the memo may know that none does.
    fn pass_word(&mut self) {
        let end = self.memo.email.dead().min(self.text.len());
        while self.first < self.at
            && self.at < end
            && self.text[self.at - 1].is_ascii_alphanumeric()
        {
            self.at += 1;
        }
    }

    /// What is done with a match that begins where the scan stands.
    fn settle(&mut self, found: Match, sink: &mut impl Sink) -> Result<(), Blocked> {
        let Match { entity, end } = found;
        let counted = &mut self.counted[entity as usize];
        if end <= self.out || end <= self.allowed || end <= *counted {
            return Ok(());
        }
        if self.out > self.at {
            // It overlaps one that is gone already: the rest of it goes, too.
            sink.redact(end - self.out, b"");
            self.out = end;
            return Ok(());
        }
        let text = &self.text[self.at..end];
        debug_assert!(may_match(text), "a text is passed over that has a match");
        if self.rules.allows(text) {
            self.allowed = end;
            return Ok(());
        }
        self.tally.count(entity);
        match self.rules.action(entity) {
            Action::Count => *counted = end,
            Action::Block => return Err(Blocked(entity)),
            Action::Redact => {
                let replacement = self.rules.replacement(entity, text);
                let len = end - self.at;
                self.keep_until(self.at, sink);
                sink.redact(len, &replacement);
                self.out = end;
            }
        }
        Ok(())
    }

    fn keep_until(&mut self, place: usize, sink: &mut impl Sink) {
        if place > self.out {
            sink.keep(&self.text[self.out..place]);
            self.out = place;
        }
    }

    /// Drops text that is neither held back nor context.
    fn cut(&mut self) {
        let spent = self.at.min(self.out).saturating_sub(KEPT_BYTES);
        if spent < SPENT_BYTES_MAX {
            return;
        }
        self.text.drain(..spent);
        self.at -= spent;
        self.out -= spent;
        self.first = self.first.saturating_sub(spent);
        self.allowed = self.allowed.saturating_sub(spent);
        self.counted.iter_mut().for_each(|end| *end = end.saturating_sub(spent));
        self.look = self.look.saturating_sub(spent);
        self.memo.shift(spent);
    }
}

const CLASSES: [u8; 256] = classes();
/// A byte that no match begins with.
const IDLE: u8 = 0;
/// A letter or mark of an e-mail address: a match may begin here if `@`, `:` or a digit follows.
const WORD: u8 = 1;
/// A byte that a match may begin with, or that makes a word worth a look.
const LOOK: u8 = 2;

const fn classes() -> [u8; 256] {
    let mut table = [IDLE; 256];
    let mut byte = 0;
    while byte < 256 {
        let symbol = byte as u8;
        table[byte] = match symbol {
            b'0'..=b'9' | b'+' | b'(' | b':' | b'@' => LOOK,
            _ if email::is_local(symbol) => WORD,
            _ if may_fold(symbol) => LOOK,
            _ => IDLE,
        };
        byte += 1;
    }
    table
}

fn class(byte: u8) -> u8 {
    CLASSES[usize::from(byte)]
}

/// Whether there may be a match in a text, also behind its percent escapes: every match has a digit,
/// an `@` or a colon, or a character that reads as one.
pub(crate) fn may_match(text: &[u8]) -> bool {
    text.iter().any(|&byte| class(byte) == LOOK || byte == b'%')
}

/// Passes over text in which nothing is worth a look, up to the word that the first such byte ends.
fn skip_clean(text: &[u8], at: usize) -> usize {
    let rest = &text[at..];
    let clean = |eight: &&[u8; 8]| is_prose(**eight) || eight.iter().all(|&b| class(b) != LOOK);
    let start = rest.as_chunks().0.iter().take_while(clean).count() * 8;
    let looks = rest[start..].iter().position(|&byte| class(byte) == LOOK);
    let end = looks.map_or(rest.len(), |len| start + len);
    let word = rest[..end].iter().rev().take_while(|&&byte| class(byte) == WORD).count();
    at + end - word
}

/// The first place from `at` on where a match may begin. Places before `look` are in a word that was
/// found worth a look.
fn skip(text: &[u8], mut at: usize, look: &mut usize, complete: bool) -> usize {
    while at >= *look {
        at = skip_idle(text, skip_clean(text, at));
        let begin = at;
        while at < text.len() && class(text[at]) == WORD {
            at += 1;
        }
        match text.get(at) {
            // The word may go on; an address begins in its last bytes at most.
            None if !complete => return begin.max(at.saturating_sub(email::LOCAL_BYTES_MAX)),
            None => return at,
            Some(_) if at == begin => return at,
            Some(b':') if at - begin > ip::GROUP_DIGITS => return at,
            Some(b'(') => {}
            Some(_) if skip_idle(text, at) == at => {
                *look = at;
                return begin;
            }
            Some(_) => {}
        }
    }
    at
}

/// Passes over what no match begins with and no word goes on with.
fn skip_idle(text: &[u8], mut at: usize) -> usize {
    while let Some(&byte) = text.get(at) {
        match class(byte) {
            IDLE => at += 1,
            LOOK if byte >= 0x80 => match fold(&text[at..]) {
                Folded::Symbol(OTHER, len) => at += len,
                _ => break,
            },
            _ => break,
        }
    }
    at
}
