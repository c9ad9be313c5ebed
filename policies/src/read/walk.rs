//! Checks a tree of values against a shape, and makes the JSON value that the types are read from.

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
}

impl<'a> Walk<'a> {
    pub(crate) fn new(source: &'a Arc<Source>, secret: bool) -> Self {
        Self { source, secret, problems: Vec::new() }
    }

    /// The value, as far as it is right; every mistake in it goes to `problems`.
    pub(crate) fn value(&mut self, node: &Node, shape: &Shape) -> Value {
        match shape {
            Shape::Any => self.any(node),
            Shape::Boolean => match &node.kind {
                NodeKind::Scalar(Scalar::Bool(value)) => Value::Bool(*value),
                _ => self.wrong_type(node, "`true` or `false`"),
            },
            Shape::Object(shape) => self.object(node, shape),
            Shape::List { item, min, max } => self.list(node, item, *min, *max),
            Shape::Text(shape) => self.text(node, shape),
            Shape::Choice { values, unsupported } => self.choice(node, values, unsupported),
            Shape::Number { integer, min, max } => self.number(node, *integer, *min, *max),
        }
    }

    fn object(&mut self, node: &Node, shape: &ObjectShape) -> Value {
        let Some(entries) = node.entries() else { return self.wrong_type(node, "a mapping") };
        let mut object = Map::new();
        for entry in entries {
            if let Some(value) = self.field(entry, shape) {
                object.insert(entry.key.clone(), value);
            }
        }
        let is_there = |name: &String| entries.iter().any(|e| e.key == *name && !e.value.is_null());
        for name in shape.required.iter().filter(|name| !is_there(name)) {
            // At the key that was left empty, else at the mapping's first key.
            let span = node.entry(name).map_or_else(|| first_span(node), |entry| entry.span);
            self.error("missing-field", span, format!("the field `{name}` is missing"));
        }
        Value::Object(object)
    }

    fn field(&mut self, entry: &Entry, shape: &ObjectShape) -> Option<Value> {
        let key = entry.key.as_str();
        if let Some(field) = shape.fields.get(key) {
            return (!entry.value.is_null()).then(|| self.value(&entry.value, field));
        }
        if shape.ignored.iter().any(|name| name == key) {
            return None;
        }
        if let Some(others) = &shape.others {
            return Some(self.value(&entry.value, others));
        }
        if shape.unsupported.iter().any(|name| name == key) {
            self.error(
                "unsupported",
                entry.span,
                format!("the field `{key}` is not supported yet"),
            );
            return None;
        }
        let known = || shape.fields.keys().map(String::as_str);
        let names = known().chain(shape.ignored.iter().map(String::as_str));
        let problem = Problem::error(
            "unknown-field",
            &self.place(entry.span),
            format!("unknown field `{key}`"),
        )
        .expected(one_of(known()))
        .nearest(nearest(key, names));
        self.problems.push(problem);
        None
    }

    fn list(&mut self, node: &Node, item: &Shape, min: usize, max: usize) -> Value {
        let Some(items) = node.items() else { return self.wrong_type(node, "a list") };
        if items.len() < min || items.len() > max {
            let message = format!("the list has {} items", items.len());
            let expected = match (min, max) {
                (min, usize::MAX) => format!("at least {min}"),
                (min, max) => format!("{min} to {max}"),
            };
            let problem = Problem::error("list-length", &self.place(first_span(node)), message);
            self.problems.push(problem.expected(expected));
        }
        items.iter().map(|node| self.value(node, item)).collect()
    }

    fn text(&mut self, node: &Node, shape: &TextShape) -> Value {
        let expected = shape.format.map_or("text", |format| format.expected);
        let text = match &node.kind {
            NodeKind::Scalar(Scalar::Text(text)) => text,
            NodeKind::Scalar(Scalar::Number { value, written })
                if shape.integer_too && value.is_u64() =>
            {
                written
            }
            NodeKind::Scalar(Scalar::Number { written, .. }) => {
                return self.unquoted(node, written, "a number");
            }
            NodeKind::Scalar(Scalar::Bool(value)) => {
                return self.unquoted(node, &value.to_string(), "a boolean");
            }
            NodeKind::Scalar(Scalar::Ambiguous { written, other }) => {
                return self.unquoted(node, written, other);
            }
            _ => return self.wrong_type(node, expected),
        };
        let length = text.chars().count();
        if length < shape.min || length > shape.max {
            let message = if length == 0 {
                "the text is empty".to_owned()
            } else {
                format!("the text has {length} characters")
            };
            let expected = format!("{} to {} characters", shape.min, shape.max);
            self.problems.push(
                Problem::error("text-length", &self.place(node.span), message).expected(expected),
            );
        } else if let Some(format) = shape.format
            && let Err(message) = (format.check)(text)
        {
            let message = if self.secret { format!("not {}", format.expected) } else { message };
            let code =
                if message.ends_with("not supported yet") { "unsupported" } else { "format" };
            let problem =
                Problem::error(code, &self.place(node.span), message).expected(format.expected);
            let nearest = (format.name == "module-url").then(|| nearest_module(text)).flatten();
            self.problems.push(problem.nearest(nearest));
        }
        Value::String(text.clone())
    }

    /// Text that lacks its quotes.
    fn unquoted(&mut self, node: &Node, written: &str, other: &str) -> Value {
        let message = format!("text without quotes that reads as {other}");
        let problem = Problem::error("wrong-type", &self.place(node.span), message)
            .expected("text in quotes");
        let nearest = (!self.secret).then(|| format!("\"{written}\""));
        self.problems.push(problem.nearest(nearest));
        Value::Null
    }

    fn choice(&mut self, node: &Node, values: &[String], unsupported: &[String]) -> Value {
        let written = match &node.kind {
            NodeKind::Scalar(Scalar::Text(text)) => text,
            NodeKind::Scalar(Scalar::Ambiguous { written, .. }) => written,
            _ => return self.wrong_type(node, &one_of(values.iter().map(String::as_str))),
        };
        if !values.contains(written) {
            let place = self.place(node.span);
            let problem = if unsupported.contains(written) {
                Problem::error("unsupported", &place, format!("`{written}` is not supported yet"))
            } else {
                Problem::error("unknown-value", &place, format!("unknown value `{written}`"))
                    .nearest(nearest(written, values.iter().map(String::as_str)))
            };
            self.problems.push(problem.expected(one_of(values.iter().map(String::as_str))));
        }
        Value::String(written.clone())
    }

    fn number(&mut self, node: &Node, integer: bool, min: f64, max: f64) -> Value {
        let name = if integer { "an integer" } else { "a number" };
        let expected = match (min == f64::MIN, max == f64::MAX) {
            (false, false) => format!("{name} from {min} to {max}"),
            _ => name.to_owned(),
        };
        let NodeKind::Scalar(Scalar::Number { value, written }) = &node.kind else {
            return self.wrong_type(node, &expected);
        };
        let is_integer = value.is_i64() || value.is_u64();
        let in_range = value.as_f64().is_some_and(|value| (min..=max).contains(&value));
        if integer && !is_integer || !in_range {
            let problem = Problem::error(
                "range",
                &self.place(node.span),
                format!("`{written}` is out of range"),
            );
            self.problems.push(problem.expected(expected));
        }
        Value::Number(value.clone())
    }

    /// Any JSON.
    fn any(&mut self, node: &Node) -> Value {
        match &node.kind {
            NodeKind::Scalar(Scalar::Null) => Value::Null,
            NodeKind::Scalar(Scalar::Bool(value)) => Value::Bool(*value),
            NodeKind::Scalar(Scalar::Number { value, .. }) => Value::Number(value.clone()),
            NodeKind::Scalar(Scalar::Text(text)) => Value::String(text.clone()),
            NodeKind::Scalar(Scalar::Ambiguous { written, other }) => {
                self.unquoted(node, written, other)
            }
            NodeKind::List(items) => items.iter().map(|item| self.any(item)).collect(),
            NodeKind::Map(entries) => {
                let entries =
                    entries.iter().map(|entry| (entry.key.clone(), self.any(&entry.value)));
                Value::Object(entries.collect())
            }
        }
    }

    fn wrong_type(&mut self, node: &Node, expected: &str) -> Value {
        let problem = Problem::error(
            "wrong-type",
            &self.place(first_span(node)),
            format!("this is {}", node.describe()),
        );
        self.problems.push(problem.expected(expected));
        Value::Null
    }

    fn error(&mut self, code: &'static str, span: Span, message: String) {
        self.problems.push(Problem::error(code, &self.place(span), message));
    }

    fn place(&self, span: Span) -> Place {
        Place { source: Arc::clone(self.source), span }
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
