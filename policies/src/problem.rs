//! What is wrong with the resources, and how a person is told.

use std::fmt::Write as _;

use serde::Serialize;

use crate::model::ResourceKey;
use crate::source::Place;

/// One mistake, at its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The file, as it was named to [`crate::read`].
    pub file: String,
    /// Counts from 1; 0 where the whole file is meant.
    pub line: u32,
    /// Counts from 1, in characters; 0 where the whole file is meant.
    pub column: u32,
    /// The line, and under it carets. Values of Secrets are masked.
    pub snippet: String,
    /// What is wrong, in one sentence.
    pub message: String,
    /// What would have been right.
    pub expected: Option<String>,
    /// The nearest right spelling.
    pub nearest: Option<String>,
    /// A stable word for the kind of mistake: `unknown-field`.
    pub code: &'static str,
    /// The resource, where it could be told.
    pub resource: Option<ResourceKey>,
    /// Whether the resource is refused.
    pub severity: Severity,
}

/// How bad a [`Problem`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The resource is refused.
    Error,
    /// The resource is used, but not as its author hopes.
    Warning,
}

/// Something that a reader of the output may want to know; nothing is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Note {
    /// The file.
    pub file: String,
    /// Counts from 1.
    pub line: u32,
    /// One sentence.
    pub message: String,
    /// The resource, where it could be told.
    pub resource: Option<ResourceKey>,
}

impl Problem {
    /// A mistake of a file as a whole, for callers: one that cannot be opened, say. It has no line,
    /// no column and no snippet.
    pub fn of_file(file: &str, message: &str) -> Self {
        Self {
            file: file.to_owned(),
            line: 0,
            column: 0,
            snippet: String::new(),
            message: message.to_owned(),
            expected: None,
            nearest: None,
            code: "file",
            resource: None,
            severity: Severity::Error,
        }
    }

    /// Whether something is refused because of it.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    pub(crate) fn error(code: &'static str, place: &Place, message: impl Into<String>) -> Self {
        Self {
            file: place.source.path.to_string(),
            line: place.span.line,
            column: place.span.column,
            snippet: place.source.snippet(place.span),
            message: message.into(),
            expected: None,
            nearest: None,
            code,
            resource: None,
            severity: Severity::Error,
        }
    }

    pub(crate) fn warning(code: &'static str, place: &Place, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, place, message) }
    }

    pub(crate) fn expected(mut self, expected: impl Into<String>) -> Self {
        self.expected = Some(expected.into());
        self
    }

    pub(crate) fn nearest(mut self, nearest: Option<impl Into<String>>) -> Self {
        self.nearest = nearest.map(Into::into);
        self
    }

    pub(crate) fn of(mut self, resource: &ResourceKey) -> Self {
        self.resource = Some(resource.clone());
        self
    }
}

impl Note {
    pub(crate) fn new(
        place: &Place,
        message: impl Into<String>,
        resource: Option<ResourceKey>,
    ) -> Self {
        Self {
            file: place.source.path.to_string(),
            line: place.span.line,
            message: message.into(),
            resource,
        }
    }
}

/// Shows problems to a person, in the manner of rustc.
pub fn render(problems: &[Problem]) -> String {
    let mut text = String::new();
    for problem in problems {
        // Writing to a String cannot fail.
        let _ = render_one(&mut text, problem);
    }
    text
}

fn render_one(out: &mut String, problem: &Problem) -> std::fmt::Result {
    let severity = match problem.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let number = problem.line.to_string();
    let gutter = " ".repeat(number.len());
    writeln!(out, "{severity}[{}]: {}", problem.code, problem.message)?;
    match (problem.file.as_str(), problem.line) {
        ("", _) => {}
        (file, 0) => writeln!(out, "{gutter}--> {file}")?,
        (file, line) => writeln!(out, "{gutter}--> {file}:{line}:{}", problem.column)?,
    }
    if let Some((line, carets)) = problem.snippet.split_once('\n') {
        writeln!(out, "{gutter} |")?;
        writeln!(out, "{number} | {line}")?;
        writeln!(out, "{gutter} | {carets}")?;
    }
    if let Some(resource) = &problem.resource {
        writeln!(out, "{gutter} = in {resource}")?;
    }
    if let Some(expected) = &problem.expected {
        writeln!(out, "{gutter} = expected {expected}")?;
    }
    if let Some(nearest) = &problem.nearest {
        writeln!(out, "{gutter} = did you mean `{nearest}`?")?;
    }
    writeln!(out)
}
