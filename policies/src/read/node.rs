//! A tree of values that remembers where each was written.

use std::sync::Arc;

use serde_json::Number;

use crate::source::Span;

/// One value of a document.
#[derive(Debug)]
pub(crate) struct Node {
    pub span: Span,
    pub kind: NodeKind,
    /// How many nodes there are below, aliases counted each time, plus this one.
    pub weight: u64,
}

/// What a node is.
#[derive(Debug)]
pub(crate) enum NodeKind {
    Scalar(Scalar),
    List(Vec<Arc<Node>>),
    Map(Vec<Entry>),
}

/// One entry of a mapping.
#[derive(Debug)]
pub(crate) struct Entry {
    pub key: String,
    pub span: Span,
    pub value: Arc<Node>,
}

/// A value without parts, as YAML's core schema reads it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Scalar {
    Null,
    Bool(bool),
    Number {
        value: Number,
        written: String,
    },
    Text(String),
    /// Plain text that another reader of YAML (Kubernetes') takes for something else: `yes`, `0777`.
    Ambiguous {
        written: String,
        other: &'static str,
    },
}

impl Node {
    pub(crate) fn new(span: Span, kind: NodeKind) -> Arc<Self> {
        let below: u64 = match &kind {
            NodeKind::Scalar(_) => 0,
            NodeKind::List(items) => {
                items.iter().map(|item| item.weight).fold(0, u64::saturating_add)
            }
            NodeKind::Map(entries) => {
                entries.iter().map(|entry| entry.value.weight).fold(0, u64::saturating_add)
            }
        };
        Arc::new(Self { span, kind, weight: below.saturating_add(1) })
    }

    pub(crate) fn is_scalar(&self) -> bool {
        matches!(self.kind, NodeKind::Scalar(_))
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(self.kind, NodeKind::Scalar(Scalar::Null))
    }

    /// The entries, if it is a mapping.
    pub(crate) fn entries(&self) -> Option<&[Entry]> {
        match &self.kind {
            NodeKind::Map(entries) => Some(entries),
            _ => None,
        }
    }

    /// The items, if it is a list.
    pub(crate) fn items(&self) -> Option<&[Arc<Self>]> {
        match &self.kind {
            NodeKind::List(items) => Some(items),
            _ => None,
        }
    }

    /// Whether a place lies within.
    pub(crate) fn contains(&self, span: Span) -> bool {
        let Span { line, column, end_line, end_column } = self.span;
        (line, column) <= (span.line, span.column)
            && (span.line, span.column) < (end_line, end_column)
    }

    /// The entry of a key, if it is a mapping that has it.
    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries()?.iter().find(|entry| entry.key == key)
    }

    /// The value of a key.
    pub(crate) fn get(&self, key: &str) -> Option<&Arc<Self>> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// The text, if it is text.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.kind {
            NodeKind::Scalar(Scalar::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// One step of a path: a key or an index, with the span that names it.
    pub(crate) fn step(&self, step: &str) -> Option<(Span, &Arc<Self>)> {
        match &self.kind {
            NodeKind::Map(_) => self.entry(step).map(|entry| (entry.span, &entry.value)),
            NodeKind::List(items) => {
                let item = items.get(step.parse::<usize>().ok()?)?;
                Some((item.span, item))
            }
            NodeKind::Scalar(_) => None,
        }
    }

    /// What it is, for people.
    pub(crate) fn describe(&self) -> &'static str {
        match &self.kind {
            NodeKind::Map(_) => "a mapping",
            NodeKind::List(_) => "a list",
            NodeKind::Scalar(Scalar::Null) => "nothing",
            NodeKind::Scalar(Scalar::Bool(_)) => "a boolean",
            NodeKind::Scalar(Scalar::Number { .. }) => "a number",
            NodeKind::Scalar(Scalar::Text(_) | Scalar::Ambiguous { .. }) => "text",
        }
    }
}

impl Scalar {
    /// How it was written, and what it reads as instead of text.
    pub(crate) fn unquoted(&self) -> Option<(String, &'static str)> {
        match self {
            Self::Number { written, .. } => Some((written.clone(), "a number")),
            Self::Bool(value) => Some((value.to_string(), "a boolean")),
            Self::Ambiguous { written, other } => Some((written.clone(), other)),
            Self::Null | Self::Text(_) => None,
        }
    }

    /// Reads a plain (unquoted) scalar.
    ///
    /// # Source
    ///
    /// YAML 1.2.2, 10.3.2 (core schema tag resolution); YAML 1.1 for what is ambiguous.
    pub(crate) fn plain(text: &str) -> Self {
        match text {
            "" | "~" | "null" | "Null" | "NULL" => return Self::Null,
            "true" | "True" | "TRUE" => return Self::Bool(true),
            "false" | "False" | "FALSE" => return Self::Bool(false),
            "yes" | "Yes" | "YES" | "no" | "No" | "NO" | "on" | "On" | "ON" | "off" | "Off"
            | "OFF" => {
                return Self::Ambiguous { written: text.to_owned(), other: "a boolean" };
            }
            _ => {}
        }
        let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
        let leading_zero = digits.len() > 1 && digits.starts_with('0');
        if leading_zero && digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Self::Ambiguous { written: text.to_owned(), other: "an octal number" };
        }
        match number(text, digits) {
            Some(value) => Self::Number { value, written: text.to_owned() },
            None => Self::Text(text.to_owned()),
        }
    }
}

fn number(text: &str, digits: &str) -> Option<Number> {
    let radix = |prefix, radix| {
        digits.strip_prefix(prefix).and_then(|rest| u64::from_str_radix(rest, radix).ok())
    };
    if let Some(value) = radix("0x", 16).or_else(|| radix("0o", 8)).filter(|_| digits == text) {
        return Some(value.into());
    }
    let starts = |c: char| c.is_ascii_digit() || c == '.';
    if !digits.starts_with(starts) || !digits.contains(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let plain = text.strip_prefix('+').unwrap_or(text);
    if let Ok(value) = plain.parse::<i64>() {
        return Some(value.into());
    }
    if let Ok(value) = plain.parse::<u64>() {
        return Some(value.into());
    }
    plain.parse::<f64>().ok().and_then(Number::from_f64)
}
