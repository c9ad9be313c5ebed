//! Checks a tree of values against a shape.
//!
//! What is right comes out twice: as the JSON value that the types are read from, and as a tree
//! with the same parts and their places. What is wrong is left out of both, so that the rules and
//! the references of the rest can be checked in the same run.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::node::{Entry, Node, NodeKind, Scalar};
use super::schema::{ObjectShape, Shape, TextShape};
use crate::nearest::nearest;
use crate::problem::Problem;
use crate::source::{Place, Source, Span};

/// One walk over one resource.
pub(crate) struct Walk<'a> {
    source: &'a Arc<Source>,
    /// Whether values may be quoted in messages.
    secret: bool,
    pub problems: Vec<Problem>,
    /// Where the problems are.
    pub wrong: Vec<Span>,
}

/// A value that is right, with the tree that it came from.
pub(crate) struct Right {
    pub value: Value,
    pub node: Arc<Node>,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(source: &'a Arc<Source>, secret: bool) -> Self {
        Self { source, secret, problems: Vec::new(), wrong: Vec::new() }
    }

    /// The value without its wrong parts; `None` when nothing can be left out.
    pub(crate) fn value(&mut self, node: &Arc<Node>, shape: &Shape) -> Option<Right> {
        let value = match shape {
            Shape::Object(shape) => return self.object(node, shape),
            Shape::List { item, min, max } => return self.list(node, item, *min, *max),
            Shape::Any => self.any(node),
            Shape::Boolean => match &node.kind {
                NodeKind::Scalar(Scalar::Bool(value)) => Some(Value::Bool(*value)),
                _ => self.wrong_type(node, "`true` or `false`"),
            },
            Shape::Text(shape) => self.text(node, shape),
            Shape::Choice { values, unsupported } => self.choice(node, values, unsupported),
            Shape::Number { integer, min, max } => self.number(node, *integer, *min, *max),
        }?;
        Some(Right { value, node: Arc::clone(node) })
    }

    fn object(&mut self, node: &Arc<Node>, shape: &ObjectShape) -> Option<Right> {
        let Some(entries) = node.entries() else { return self.wrong_type(node, "a mapping") };
        let (mut object, mut kept, mut meant) = (Map::new(), Vec::new(), Vec::new());
        for entry in entries {
            // As in Kubernetes, a known field without a value is not there.
            if entry.value.is_null() && shape.fields.contains_key(&entry.key) {
                continue;
            }
            let Some(field) = self.field(entry, shape, &mut meant) else { continue };
            let Some(right) = self.value(&entry.value, field) else { continue };
            object.insert(entry.key.clone(), right.value);
            kept.push(Entry { key: entry.key.clone(), span: entry.span, value: right.node });
        }
        let is_there = |name: &str| entries.iter().any(|e| e.key == name && !e.value.is_null());
        for name in shape.required.iter().filter(|name| !is_there(name) && !meant.contains(name)) {
            // At the key that was left empty, else at the mapping's first key.
            let span = node.entry(name).map_or_else(|| first_span(node), |entry| entry.span);
            self.error("missing-field", span, format!("the field `{name}` is missing"));
        }
        let is_whole = shape.required.iter().all(|name| object.contains_key(name));
        let node = Node::new(node.span, NodeKind::Map(kept));
        is_whole.then_some(Right { value: Value::Object(object), node })
    }

    /// The shape of a field, if its value matters; a misspelt name adds what was meant to `meant`.
    fn field<'s>(
        &mut self,
        entry: &Entry,
        shape: &'s ObjectShape,
        meant: &mut Vec<&'s String>,
    ) -> Option<&'s Shape> {
        let key = entry.key.as_str();
        let others = || shape.others.as_deref();
        if let Some(place) = shape.moved.get(key) {
            let message = format!("the field `{key}` has moved");
            let problem = self.problem("moved-field", entry.span, message);
            return self.push(entry.span, problem.expected(place.clone()));
        }
        let ignored = || shape.ignored.iter().any(|name| name == key);
        if let Some(field) = shape.fields.get(key).or_else(others) {
            return Some(field);
        }
        if ignored() {
            return None;
        }
        if shape.unsupported.iter().any(|name| name == key) {
            let message = format!("the field `{key}` is not supported yet");
            self.error("unsupported", entry.span, message);
            return None;
        }
        let known = || shape.fields.keys().map(String::as_str);
        let near = nearest(key, known().chain(shape.ignored.iter().map(String::as_str)));
        meant.extend(shape.required.iter().filter(|name| near == Some(name.as_str())));
        let problem = self.problem("unknown-field", entry.span, format!("unknown field `{key}`"));
        self.push(entry.span, problem.expected(one_of(known())).nearest(near))
    }

    fn list(&mut self, node: &Arc<Node>, item: &Shape, min: usize, max: usize) -> Option<Right> {
        let Some(items) = node.items() else { return self.wrong_type(node, "a list") };
        if items.len() < min || items.len() > max {
            let message = format!("the list has {} items", items.len());
            let expected = match (min, max) {
                (min, usize::MAX) => format!("at least {min}"),
                (min, max) => format!("{min} to {max}"),
            };
            let span = first_span(node);
            let problem = self.problem("list-length", span, message).expected(expected);
            self.push::<()>(span, problem);
        }
        let right = items.iter().filter_map(|node| self.value(node, item));
        let (values, items) = right.map(|right| (right.value, right.node)).unzip();
        let node = Node::new(node.span, NodeKind::List(items));
        Some(Right { value: Value::Array(values), node })
    }

    fn text(&mut self, node: &Node, shape: &TextShape) -> Option<Value> {
        let expected = shape.format.map_or("text", |format| format.expected);
        let text = match &node.kind {
            NodeKind::Scalar(Scalar::Text(text)) => text,
            NodeKind::Scalar(Scalar::Number { value, written })
                if shape.integer_too && value.is_u64() =>
            {
                written
            }
            NodeKind::Scalar(scalar) => match scalar.unquoted() {
                Some((written, other)) => return self.unquoted(node, &written, other, shape),
                None => return self.wrong_type(node, expected),
            },
            _ => return self.wrong_type(node, expected),
        };
        let length = text.chars().count();
        if length < shape.min || length > shape.max {
            let message = match length {
                0 => "the text is empty".to_owned(),
                length => format!("the text has {length} characters"),
            };
            let expected = format!("{} to {} characters", shape.min, shape.max);
            let problem = self.problem("text-length", node.span, message).expected(expected);
            return self.push(node.span, problem);
        }
        let Some(format) = shape.format else { return Some(Value::String(text.clone())) };
        let Err(message) = (format.check)(text) else { return Some(Value::String(text.clone())) };
        let code = if message.ends_with("not supported yet") { "unsupported" } else { "format" };
        let message = if self.secret { "the value is not right".to_owned() } else { message };
        let near = (format.name == "module-url").then(|| nearest_module(text)).flatten();
        let problem = self.problem(code, node.span, message);
        self.push(node.span, problem.expected(format.expected).nearest(near))
    }

    /// Text that lacks its quotes.
    fn unquoted(
        &mut self,
        node: &Node,
        written: &str,
        other: &str,
        shape: &TextShape,
    ) -> Option<Value> {
        let wrong = shape.format.filter(|format| (format.check)(written).is_err());
        let message = format!("text without quotes that reads as {other}");
        let problem = self.problem("wrong-type", node.span, message);
        let problem = match wrong {
            Some(format) => problem.expected(format.expected),
            None => problem
                .expected("text in quotes")
                .nearest((!self.secret).then(|| format!("\"{written}\""))),
        };
        self.push(node.span, problem)
    }

    fn choice(&mut self, node: &Node, values: &[String], unsupported: &[String]) -> Option<Value> {
        let known = || values.iter().map(String::as_str);
        let written = match &node.kind {
            NodeKind::Scalar(Scalar::Text(written) | Scalar::Ambiguous { written, .. }) => written,
            _ => return self.wrong_type(node, &one_of(known())),
        };
        if values.contains(written) {
            return Some(Value::String(written.clone()));
        }
        let problem = if unsupported.contains(written) {
            self.problem("unsupported", node.span, format!("`{written}` is not supported yet"))
        } else {
            let message = format!("unknown value `{written}`");
            self.problem("unknown-value", node.span, message).nearest(nearest(written, known()))
        };
        self.push(node.span, problem.expected(one_of(known())))
    }

    fn number(&mut self, node: &Node, integer: bool, min: f64, max: f64) -> Option<Value> {
        let name = if integer { "an integer" } else { "a number" };
        let expected = match (min == f64::MIN, max == f64::MAX) {
            (false, false) => format!("{name} from {min} to {max}"),
            _ => name.to_owned(),
        };
        let NodeKind::Scalar(Scalar::Number { value, written }) = &node.kind else {
            let is_number = |text: &&str| matches!(Scalar::plain(text), Scalar::Number { .. });
            let near = node.text().filter(is_number).filter(|_| !self.secret);
            let problem = self.is_wrong(node, &expected).nearest(near);
            return self.push(first_span(node), problem);
        };
        let is_integer = value.is_i64() || value.is_u64();
        let in_range = value.as_f64().is_some_and(|value| (min..=max).contains(&value));
        if integer && !is_integer || !in_range {
            let message = format!("`{written}` is out of range");
            let problem = self.problem("range", node.span, message).expected(expected);
            return self.push(node.span, problem);
        }
        Some(Value::Number(value.clone()))
    }

    /// Any JSON.
    fn any(&mut self, node: &Node) -> Option<Value> {
        match &node.kind {
            NodeKind::Scalar(Scalar::Null) => Some(Value::Null),
            NodeKind::Scalar(Scalar::Bool(value)) => Some(Value::Bool(*value)),
            NodeKind::Scalar(Scalar::Number { value, .. }) => Some(Value::Number(value.clone())),
            NodeKind::Scalar(Scalar::Text(text)) => Some(Value::String(text.clone())),
            NodeKind::Scalar(Scalar::Ambiguous { written, other }) => {
                let message = format!("`{written}` without quotes reads as {other} in Kubernetes");
                let problem = self.problem("wrong-type", node.span, message);
                let near = format!("\"{written}\"");
                self.push(
                    node.span,
                    problem
                        .expected("text in quotes, `true`, `false` or a number")
                        .nearest(Some(near)),
                )
            }
            NodeKind::List(items) => items.iter().map(|item| self.any(item)).collect(),
            NodeKind::Map(entries) => {
                let value = |entry: &Entry| Some((entry.key.clone(), self.any(&entry.value)?));
                entries.iter().map(value).collect::<Option<_>>().map(Value::Object)
            }
        }
    }

    fn wrong_type<T>(&mut self, node: &Node, expected: &str) -> Option<T> {
        let problem = self.is_wrong(node, expected);
        self.push(first_span(node), problem)
    }

    fn is_wrong(&self, node: &Node, expected: &str) -> Problem {
        let message = format!("this is {}", node.describe());
        self.problem("wrong-type", first_span(node), message).expected(expected)
    }

    fn error(&mut self, code: &'static str, span: Span, message: String) {
        let problem = self.problem(code, span, message);
        self.push::<()>(span, problem);
    }

    fn problem(&self, code: &'static str, span: Span, message: String) -> Problem {
        Problem::error(code, &Place { source: Arc::clone(self.source), span }, message)
    }

    /// Takes note of a problem; there is no value then.
    fn push<T>(&mut self, span: Span, problem: Problem) -> Option<T> {
        self.problems.push(problem);
        self.wrong.push(span);
        None
    }
}

/// Where a node begins to be visible: its first key, its first item, itself.
fn first_span(node: &Node) -> Span {
    match &node.kind {
        NodeKind::Map(entries) => entries.first().map_or(node.span, |entry| entry.span),
        NodeKind::List(items) => items.first().map_or(node.span, |item| first_span(item)),
        NodeKind::Scalar(_) => node.span,
    }
}

/// `a`, `b` or `c`.
pub(crate) fn one_of<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let words: Vec<String> = words.into_iter().map(|word| format!("`{word}`")).collect();
    match words.as_slice() {
        [] => "nothing".to_owned(),
        [word] => word.clone(),
        [words @ .., last] => format!("{} or {last}", words.join(", ")),
    }
}

fn nearest_module(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    if scheme == "builtin" {
        return nearest(rest, crate::text::BUILTINS).map(|name| format!("builtin://{name}"));
    }
    nearest(scheme, ["builtin", "file", "http", "https"]).map(|scheme| format!("{scheme}://{rest}"))
}
