//! YAML text into [`Node`]s.
//!
//! A file is cut at its document markers first: a line that begins with `---` ends whatever is
//! open, so a document that does not parse never hides the mistakes of the next one.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Tag};

use super::node::{Entry, Node, NodeKind, Scalar};
use super::{DEPTH_MAX, Document, Malformed, NODES_MAX};
use crate::source::Span;

/// Parses every document of a text.
pub(crate) fn parse(text: &str) -> Vec<Document> {
    chunks(text).into_iter().map(|(line, chunk)| document(line, chunk)).collect()
}

/// Cuts at document markers; each piece comes with the number of lines before it.
fn chunks(text: &str) -> Vec<(u32, &str)> {
    let is_marker = |line: &str| {
        line.strip_prefix("---")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
    };
    let mut chunks = Vec::new();
    let (mut start, mut start_line, mut offset) = (0, 0, 0);
    for (number, line) in (0..).zip(text.split_inclusive('\n')) {
        if is_marker(line) && offset > start {
            chunks.push((start_line, &text[start..offset]));
            (start, start_line) = (offset, number);
        }
        offset += line.len();
    }
    chunks.push((start_line, &text[start..]));
    chunks
}

fn document(line_offset: u32, text: &str) -> Document {
    let mut builder = Builder { line_offset, ..Builder::default() };
    for step in Parser::new_from_str(text) {
        match step {
            Ok((event, span)) => {
                let span = builder.span(span.start, span.end);
                if let Err(fault) = builder.event(event, span) {
                    return builder.broken(fault);
                }
            }
            Err(error) => {
                let mut span = builder.span(*error.marker(), *error.marker());
                keep_on_line(&mut span, text, line_offset);
                return builder.broken(explain(error.info(), text, line_offset, span));
            }
        }
    }
    Document { root: builder.root, faults: builder.faults, complete: true }
}

/// Moves the place of an error back to the end of its line: the parser counts a character that it
/// cannot take, and one that it has read ahead, in the names of directives.
fn keep_on_line(span: &mut Span, text: &str, line_offset: u32) {
    let line = text.lines().nth((span.line - line_offset).saturating_sub(1) as usize);
    let behind = line.unwrap_or_default().chars().count() + 1;
    span.column = span.column.min(u32::try_from(behind).unwrap_or(u32::MAX));
    span.end_column = span.column;
}

/// Says what the parser means, where its own words would puzzle.
fn explain(info: &str, text: &str, line_offset: u32, mut span: Span) -> Malformed {
    let tab = (line_offset + 1..)
        .zip(text.lines())
        .take_while(|(number, _)| *number <= span.line)
        .find_map(|(number, line)| {
            let indent = line.len() - line.trim_start().len();
            let tab = line[..indent].find('\t')?;
            Some((number, tab))
        });
    if let Some((line, tab)) = tab {
        let column = u32::try_from(tab).unwrap_or(u32::MAX).saturating_add(1);
        span = Span { line, column, end_line: line, end_column: column.saturating_add(1) };
        let message = "a tab in the indentation";
        return Malformed {
            expected: Some("spaces".to_owned()),
            code: "tab",
            ..Malformed::new(span, message)
        };
    }
    // The parser's own bound on nesting comes first where brackets only open.
    if info.contains("recursion limit") {
        return too_deep(span);
    }
    Malformed::new(span, format!("not YAML: {info}"))
}

/// Builds the tree from events; never recurses.
#[derive(Default)]
struct Builder {
    line_offset: u32,
    open: Vec<Open>,
    anchors: BTreeMap<usize, Arc<Node>>,
    nodes: u64,
    root: Option<Arc<Node>>,
    /// Mistakes that do not stop the reading.
    faults: Vec<Malformed>,
}

/// A list or mapping whose end has not come yet.
struct Open {
    span: Span,
    anchor: usize,
    content: Content,
}

enum Content {
    List(Vec<Arc<Node>>),
    /// A key that cannot be one is `None`: its value is dropped.
    Map {
        entries: Vec<Entry>,
        keys: HashSet<String>,
        key: Option<(Option<String>, Span)>,
    },
}

impl Builder {
    fn broken(mut self, fault: Malformed) -> Document {
        self.faults.push(fault);
        Document { root: None, faults: self.faults, complete: false }
    }

    fn span(&self, start: Marker, end: Marker) -> Span {
        let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX - 1);
        Span {
            line: number(start.line()).saturating_add(self.line_offset),
            column: number(start.col()).saturating_add(1),
            end_line: number(end.line()).saturating_add(self.line_offset),
            end_column: number(end.col()).saturating_add(1),
        }
    }

    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Malformed> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let scalar = self.scalar(&text, style, tag.as_deref(), span);
                self.value(span, NodeKind::Scalar(scalar), anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_tag(tag.as_deref(), span);
                self.open(span, anchor, Content::List(Vec::new()))
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_tag(tag.as_deref(), span);
                let (entries, keys) = (Vec::new(), HashSet::new());
                self.open(span, anchor, Content::Map { entries, keys, key: None })
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(span),
            Event::Alias(anchor) => match self.anchors.get(&anchor) {
                Some(node) => self.place(Arc::clone(node), span),
                None => Err(Malformed::new(span, "an alias to an anchor that is still open")),
            },
            Event::DocumentStart(_) if self.root.is_some() => {
                Err(Malformed::new(span, "a second document without `---`"))
            }
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => Ok(()),
        }
    }

    fn open(&mut self, span: Span, anchor: usize, content: Content) -> Result<(), Malformed> {
        if self.open.len() >= DEPTH_MAX {
            return Err(too_deep(span));
        }
        self.open.push(Open { span, anchor, content });
        Ok(())
    }

    fn close(&mut self, end: Span) -> Result<(), Malformed> {
        let Some(Open { mut span, anchor, content }) = self.open.pop() else { return Ok(()) };
        (span.end_line, span.end_column) = (end.line, end.column);
        let kind = match content {
            Content::List(items) => NodeKind::List(items),
            Content::Map { entries, .. } => NodeKind::Map(entries),
        };
        self.value(span, kind, anchor)
    }

    fn value(&mut self, span: Span, kind: NodeKind, anchor: usize) -> Result<(), Malformed> {
        let node = Node::new(span, kind);
        if anchor != 0 {
            self.anchors.insert(anchor, Arc::clone(&node));
        }
        self.place(node, span)
    }

    /// Puts a complete value where it belongs.
    fn place(&mut self, node: Arc<Node>, span: Span) -> Result<(), Malformed> {
        self.nodes = self.nodes.saturating_add(1);
        // An alias weighs what it stands for: a billion laughs are counted, never unfolded.
        if self.nodes > NODES_MAX || node.weight > NODES_MAX {
            return Err(Malformed::new(
                span,
                format!("more than {NODES_MAX} values in one document"),
            ));
        }
        match self.open.last_mut().map(|open| &mut open.content) {
            None => self.root = Some(node),
            Some(Content::List(items)) => items.push(node),
            Some(Content::Map { entries, keys, key }) => match key.take() {
                None => *key = Some((key_text(&node, span, &mut self.faults), span)),
                Some((None, _)) => {}
                Some((Some(text), key_span)) if keys.contains(&text) => {
                    let message = format!("the key `{text}` is there twice");
                    self.faults.push(Malformed {
                        code: "duplicate-key",
                        ..Malformed::new(key_span, message)
                    });
                }
                Some((Some(text), key_span)) => {
                    keys.insert(text.clone());
                    entries.push(Entry { key: text, span: key_span, value: node });
                }
            },
        }
        Ok(())
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, tag: Option<&Tag>, span: Span) -> Scalar {
        let is_str = tag.is_some_and(|tag| is_core(tag, &["str"]));
        if tag.is_some() && !is_str {
            self.faults.push(tag_refused(span));
        }
        if style == ScalarStyle::Plain && !is_str {
            return Scalar::plain(text);
        }
        Scalar::Text(text.to_owned())
    }

    fn refuse_tag(&mut self, tag: Option<&Tag>, span: Span) {
        if tag.is_some_and(|tag| !is_core(tag, &["map", "seq"])) {
            self.faults.push(tag_refused(span));
        }
    }
}

/// The text of a key; a key that cannot be one is a fault.
fn key_text(node: &Node, span: Span, faults: &mut Vec<Malformed>) -> Option<String> {
    let fault = match &node.kind {
        NodeKind::Scalar(Scalar::Text(text)) if text == "<<" => Malformed {
            expected: Some("the fields, written out".into()),
            ..Malformed::new(span, "merge keys (`<<`) are YAML 1.1")
        },
        NodeKind::Scalar(
            Scalar::Text(written)
            | Scalar::Number { written, .. }
            | Scalar::Ambiguous { written, .. },
        ) => return Some(written.clone()),
        NodeKind::Scalar(Scalar::Bool(value)) => return Some(value.to_string()),
        _ => Malformed {
            expected: Some("text".into()),
            ..Malformed::new(span, format!("{} cannot be a key", node.describe()))
        },
    };
    faults.push(fault);
    None
}

fn is_core(tag: &Tag, suffixes: &[&str]) -> bool {
    tag.is_yaml_core_schema() && suffixes.contains(&tag.suffix.as_str())
}

fn too_deep(span: Span) -> Malformed {
    Malformed::new(span, format!("nested deeper than {DEPTH_MAX} levels"))
}

fn tag_refused(span: Span) -> Malformed {
    Malformed { code: "tag", ..Malformed::new(span, "tags are not used here") }
}
