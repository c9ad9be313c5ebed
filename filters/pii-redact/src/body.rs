//! A body on its way through the scan: chunks in, what may leave out.
//!
//! ```text
//!  chunk ─► inflate (if it is decoded) ─► first bytes looked at ─► format ─► redactor ─► out
//! ```

pub(crate) mod content;
mod events;
pub(crate) mod form;
mod inflate;
pub(crate) mod json;
mod json_escape;
mod multipart;

use std::rc::Rc;

use crate::detect::Entity;
use crate::redactor::{Redactor, plain};
use crate::rules::{Rules, Tally};
use crate::scanner::Blocked;
use content::{Kind, Look, is_binary, look};
use events::Events;
use form::Form;
pub(crate) use inflate::Coding;
use inflate::{Broken, Inflater};
use json::{Json, Options};
use multipart::Multipart;

/// A body of unknown type is taken for binary, and passes from there on, when a byte that no text has
/// is among that many.
pub(crate) const WATCHED_BYTES: usize = 512;

/// What decoding may make of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Decoded bytes of one body.
    pub(crate) inflated_bytes: u64,
    /// Decoded bytes for one that was received.
    pub(crate) inflated_ratio: u32,
}

/// How one body is scanned.
#[derive(Clone, Debug)]
pub(crate) struct Manner {
    pub(crate) kind: Kind,
    pub(crate) coding: Option<Coding>,
    pub(crate) limits: Limits,
    pub(crate) json_numbers: bool,
    pub(crate) json_keys: bool,
    /// Text in a charset of two bytes a character is refused.
    pub(crate) refuse_wide: bool,
    /// Packed data that are declared as text are refused.
    pub(crate) refuse_packed: bool,
}

/// Why no more of a body may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// A match of an entity whose action is to block.
    Blocked(Entity),
    /// It is not in the coding that it declares.
    Malformed,
    /// Decoded, it passes the bounds.
    TooLarge,
    /// It cannot be scanned, and policy refuses what cannot.
    Unreadable,
    /// It ended with trailers while a part of it was held back.
    Trailers,
}

impl From<Blocked> for Stop {
    fn from(Blocked(entity): Blocked) -> Self {
        Self::Blocked(entity)
    }
}

impl From<Broken> for Stop {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Malformed => Self::Malformed,
            Broken::TooLarge => Self::TooLarge,
        }
    }
}

enum Format {
    /// The first bytes are not all there.
    Begin(Vec<u8>),
    Pass,
    Text,
    Json(Box<Json>),
    Form(Form),
    Events(Box<Events>),
    Multipart(Box<Multipart>),
}

/// The scan of one body.
pub(crate) struct BodyScan {
    inflater: Option<Inflater>,
    scan: Plain,
}

/// The scan behind the decoding.
struct Plain {
    manner: Manner,
    format: Format,
    /// How many bytes are still watched for binary ones.
    watched: usize,
    redactor: Redactor,
}

impl BodyScan {
    pub(crate) fn new(rules: Rc<Rules>, manner: Manner) -> Self {
        Self {
            inflater: manner.coding.map(|coding| Inflater::new(coding, manner.limits)),
            scan: Plain {
                manner,
                format: Format::Begin(Vec::new()),
                watched: 0,
                redactor: Redactor::new(rules),
            },
        }
    }

    /// A chunk has arrived: what may leave.
    ///
    /// # Errors
    ///
    /// [`Stop`]: neither this chunk nor what was held back may leave.
    pub(crate) fn push(&mut self, chunk: &[u8]) -> Result<Vec<u8>, Stop> {
        let scan = &mut self.scan;
        scan.redactor.reserve(chunk.len());
        match &mut self.inflater {
            Some(inflater) => inflater.push(chunk, &mut |text| scan.push(text))?,
            None => scan.push(chunk)?,
        }
        Ok(self.scan.redactor.take())
    }

    /// The body has ended: the rest of it.
    ///
    /// # Errors
    ///
    /// As [`Self::push`].
    pub(crate) fn end(&mut self) -> Result<Vec<u8>, Stop> {
        if let Some(inflater) = &self.inflater {
            inflater.end()?;
        }
        self.scan.end()?;
        Ok(self.scan.redactor.take())
    }

    /// What was counted since the last call.
    pub(crate) fn tally(&mut self) -> &mut Tally {
        self.scan.redactor.tally()
    }
}

impl Plain {
    fn push(&mut self, text: &[u8]) -> Result<(), Stop> {
        if let Format::Begin(first) = &mut self.format {
            for (index, &byte) in text.iter().enumerate() {
                first.push(byte);
                if let Some(seen) = look(first) {
                    let first = std::mem::take(first);
                    self.begin(seen)?;
                    self.watch(&first)?;
                    return self.watch(&text[index + 1..]);
                }
            }
            return Ok(());
        }
        self.watch(text)
    }

    /// Text of unknown type passes unread from its first binary byte on.
    fn watch(&mut self, text: &[u8]) -> Result<(), Stop> {
        let watched = &text[..text.len().min(self.watched)];
        self.watched -= watched.len();
        let Some(place) = watched.iter().position(|&byte| is_binary(byte)) else {
            return self.give(text);
        };
        let (before, behind) = text.split_at(place);
        self.give(before)?;
        self.end_format()?;
        self.watched = 0;
        self.format = Format::Pass;
        self.give(behind)
    }

    fn give(&mut self, text: &[u8]) -> Result<(), Stop> {
        let to = &mut self.redactor;
        match &mut self.format {
            Format::Begin(_) => {}
            Format::Pass => to.structure(text),
            Format::Text => to.text(text, plain)?,
            Format::Json(json) => json.push(text, to)?,
            Format::Form(form) => form.push(text, to)?,
            Format::Events(events) => events.push(text, to)?,
            Format::Multipart(multipart) => multipart.push(text, to)?,
        }
        Ok(self.redactor.scan()?)
    }

    fn end(&mut self) -> Result<(), Stop> {
        if let Format::Begin(first) = &mut self.format {
            let first = std::mem::take(first);
            self.begin(Look::Text)?;
            self.watch(&first)?;
        }
        self.end_format()
    }

    fn end_format(&mut self) -> Result<(), Stop> {
        let to = &mut self.redactor;
        match &mut self.format {
            Format::Begin(_) | Format::Pass => {}
            Format::Text => to.end(plain)?,
            Format::Json(json) => json.end(to)?,
            Format::Form(form) => form.end(to)?,
            Format::Events(events) => events.end(to)?,
            Format::Multipart(multipart) => multipart.end(to)?,
        }
        Ok(())
    }

    /// The first bytes have told what this is.
    fn begin(&mut self, seen: Look) -> Result<(), Stop> {
        let unknown = self.manner.kind == Kind::Unknown;
        let refused = match seen {
            Look::Wide => self.manner.refuse_wide,
            Look::Packed => self.manner.refuse_packed && !unknown,
            Look::Binary | Look::Json | Look::Text => false,
        };
        if refused {
            return Err(Stop::Unreadable);
        }
        self.watched = if unknown { WATCHED_BYTES } else { 0 };
        self.format = match seen {
            Look::Wide | Look::Packed | Look::Binary if unknown => Format::Pass,
            Look::Json if unknown => self.json(false),
            _ => self.declared(),
        };
        Ok(())
    }

    fn declared(&self) -> Format {
        match &self.manner.kind {
            Kind::Json => self.json(false),
            Kind::Lines => self.json(true),
            Kind::Events => Format::Events(Box::new(Events::new(self.options(false)))),
            Kind::Form => Format::Form(Form::default()),
            Kind::Multipart(boundary) => {
                Format::Multipart(Box::new(Multipart::new(boundary, self.options(false))))
            }
            Kind::Media | Kind::Grpc => Format::Pass,
            Kind::Text | Kind::Charset | Kind::Unknown => Format::Text,
        }
    }

    fn json(&self, lines: bool) -> Format {
        Format::Json(Box::new(Json::new(self.options(lines))))
    }

    fn options(&self, lines: bool) -> Options {
        Options { numbers: self.manner.json_numbers, keys: self.manner.json_keys, lines }
    }
}

#[cfg(test)]
pub(crate) mod tests;
