//! JSON text into [`Node`]s: one value, or several after each other.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::Number;

use super::node::{Entry, Node, NodeKind, Scalar};
use super::{DEPTH_MAX, Document, Malformed, NODES_MAX};
use crate::source::Span;

/// Parses every value of a text. What follows a broken value is not read.
pub(crate) fn parse(text: &str) -> Vec<Document> {
    let mut reader = Reader { rest: text, line: 1, column: 1, nodes: 0, faults: Vec::new() };
    let mut documents = Vec::new();
    loop {
        reader.space();
        if reader.rest.is_empty() {
            return documents;
        }
        reader.nodes = 0;
        let value = reader.value(0);
        let mut faults = std::mem::take(&mut reader.faults);
        match value {
            Ok(root) => documents.push(Document { root: Some(root), faults, complete: true }),
            Err(fault) => {
                faults.push(fault);
                documents.push(Document { root: None, faults, complete: false });
                return documents;
            }
        }
    }
}

struct Reader<'a> {
    rest: &'a str,
    line: u32,
    column: u32,
    nodes: u64,
    faults: Vec<Malformed>,
}

impl Reader<'_> {
    fn value(&mut self, depth: usize) -> Result<Arc<Node>, Malformed> {
        self.space();
        let start = self.here();
        self.nodes += 1;
        if depth > DEPTH_MAX || self.nodes > NODES_MAX {
            return Err(Malformed::new(
                start,
                "nested too deep, or too many values in one document",
            ));
        }
        let kind = match self.rest.chars().next() {
            Some('{') => self.map(depth)?,
            Some('[') => self.list(depth)?,
            Some('"') => NodeKind::Scalar(Scalar::Text(self.string()?)),
            Some(c) if c == '-' || c.is_ascii_digit() => NodeKind::Scalar(self.number()?),
            Some(_) => NodeKind::Scalar(self.word()?),
            None => return Err(self.fault("the text ends here", "a value")),
        };
        Ok(Node::new(self.since(start), kind))
    }

    fn map(&mut self, depth: usize) -> Result<NodeKind, Malformed> {
        let (mut entries, mut keys) = (Vec::new(), HashSet::new());
        self.take(1);
        self.space();
        if self.eat('}') {
            return Ok(NodeKind::Map(entries));
        }
        loop {
            self.space();
            let start = self.here();
            if !self.rest.starts_with('"') {
                return Err(self.fault("a key must be text in quotes", "`\"`"));
            }
            let key = self.string()?;
            let span = self.since(start);
            self.space();
            if !self.eat(':') {
                return Err(self.fault("no value follows the key", "`:`"));
            }
            let value = self.value(depth + 1)?;
            if keys.insert(key.clone()) {
                entries.push(Entry { key, span, value });
            } else {
                let message = format!("the key `{key}` is there twice");
                self.faults
                    .push(Malformed { code: "duplicate-key", ..Malformed::new(span, message) });
            }
            self.space();
            if self.eat('}') {
                return Ok(NodeKind::Map(entries));
            }
            if !self.eat(',') {
                return Err(self.fault("the mapping does not go on like this", "`,` or `}`"));
            }
        }
    }

    fn list(&mut self, depth: usize) -> Result<NodeKind, Malformed> {
        let mut items = Vec::new();
        self.take(1);
        self.space();
        if self.eat(']') {
            return Ok(NodeKind::List(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            self.space();
            if self.eat(']') {
                return Ok(NodeKind::List(items));
            }
            if !self.eat(',') {
                return Err(self.fault("the list does not go on like this", "`,` or `]`"));
            }
        }
    }

    /// The raw text of a string is found here; what its escapes mean is serde_json's affair.
    fn string(&mut self) -> Result<String, Malformed> {
        let mut escaped = false;
        let end = self.rest.char_indices().skip(1).find_map(|(index, c)| {
            let ends = c == '"' && !escaped || c == '\n';
            escaped = c == '\\' && !escaped;
            ends.then_some((index, c))
        });
        let Some((end, '"')) = end else {
            return Err(self.fault("the text in quotes does not end on its line", "`\"`"));
        };
        let raw = &self.rest[..=end];
        let text =
            serde_json::from_str(raw).map_err(|_| self.fault("not JSON text", "JSON escapes"))?;
        self.take(end + 1);
        Ok(text)
    }

    fn number(&mut self) -> Result<Scalar, Malformed> {
        let wrong = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '+' | '.'));
        let written = &self.rest[..self.rest.find(wrong).unwrap_or(self.rest.len())];
        let value: Number = serde_json::from_str(written)
            .map_err(|_| self.fault("not a JSON number", "a number"))?;
        self.take(written.len());
        Ok(Scalar::Number { value, written: written.to_owned() })
    }

    fn word(&mut self) -> Result<Scalar, Malformed> {
        let known =
            [("true", Scalar::Bool(true)), ("false", Scalar::Bool(false)), ("null", Scalar::Null)];
        for (word, scalar) in known {
            if self.rest.starts_with(word) {
                self.take(word.len());
                return Ok(scalar);
            }
        }
        Err(self.fault("not a JSON value", "a value"))
    }

    fn space(&mut self) {
        let length = self.rest.len() - self.rest.trim_start_matches([' ', '\t', '\r', '\n']).len();
        self.take(length);
    }

    fn eat(&mut self, c: char) -> bool {
        let found = self.rest.starts_with(c);
        if found {
            self.take(c.len_utf8());
        }
        found
    }

    /// Moves on by so many bytes.
    fn take(&mut self, bytes: usize) {
        let (taken, rest) = self.rest.split_at(bytes);
        for c in taken.chars() {
            if c == '\n' {
                (self.line, self.column) = (self.line.saturating_add(1), 1);
            } else {
                self.column = self.column.saturating_add(1);
            }
        }
        self.rest = rest;
    }

    fn here(&self) -> Span {
        Span {
            line: self.line,
            column: self.column,
            end_line: self.line,
            end_column: self.column.saturating_add(1),
        }
    }

    fn since(&self, start: Span) -> Span {
        Span { end_line: self.line, end_column: self.column, ..start }
    }

    fn fault(&self, message: &str, expected: &str) -> Malformed {
        let message = format!("not JSON: {message}");
        Malformed { expected: Some(expected.to_owned()), ..Malformed::new(self.here(), message) }
    }
}
