//! Files as they were read, and places in them.

use std::sync::Arc;

/// One file, as the caller read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// Its path: shown in problems, and what relative `file://` modules are relative to.
    pub path: String,
    /// Its text.
    pub text: String,
}

/// A place in a file; lines and columns count from 1, columns in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span {
    pub line: u32,
    pub column: u32,
    pub end_line: u32,
    /// The column after the last character.
    pub end_column: u32,
}

impl Span {
    /// Every place of a file.
    pub(crate) const EVERYTHING: Self =
        Self { line: 0, column: 0, end_line: u32::MAX, end_column: u32::MAX };

    /// How many characters to underline: to the end, or one where it ends on another line.
    pub(crate) fn width(&self) -> u32 {
        if self.end_line == self.line {
            self.end_column.saturating_sub(self.column).max(1)
        } else {
            1
        }
    }
}

/// A file that positions refer to.
#[derive(Debug)]
pub(crate) struct Source {
    pub path: Arc<str>,
    lines: Vec<Box<str>>,
    /// Values that must not be shown (those of Secrets).
    hidden: Vec<Span>,
}

/// What stands for a hidden character.
const MASK: char = '*';

/// Longest line that a snippet shows, in characters; a longer one is cut around the place.
const SNIPPET_CHARS_MAX: usize = 160;

impl Source {
    pub(crate) fn new(path: &str, text: &str, hidden: Vec<Span>) -> Self {
        let lines = text.lines().map(Box::from).collect();
        Self { path: path.into(), lines, hidden }
    }

    /// The line of a place, and under it carets that mark the place.
    pub(crate) fn snippet(&self, span: Span) -> String {
        let index = (span.line as usize).saturating_sub(1);
        let Some(line) = self.lines.get(index) else { return String::new() };
        let shown: Vec<char> = (1..).zip(line.chars()).map(|at| self.show(span.line, at)).collect();
        let column = (span.column as usize).saturating_sub(1).min(shown.len());
        let start = if column > SNIPPET_CHARS_MAX / 2 && shown.len() > SNIPPET_CHARS_MAX {
            column - SNIPPET_CHARS_MAX / 2
        } else {
            0
        };
        let end = shown.len().min(start + SNIPPET_CHARS_MAX);
        let text: String = shown[start..end].iter().collect();
        let room = end.saturating_sub(column).max(1);
        let carets = "^".repeat((span.width() as usize).min(room));
        format!("{}\n{}{carets}", text.trim_end(), " ".repeat(column - start))
    }

    fn show(&self, line: u32, (column, character): (u32, char)) -> char {
        let at = (line, column);
        let hides =
            |span: &Span| (span.line, span.column) <= at && at < (span.end_line, span.end_column);
        match character {
            _ if self.hidden.iter().any(hides) && !character.is_whitespace() => MASK,
            // A tab is one column here and one character in the count of columns.
            character if character.is_control() => ' ',
            character => character,
        }
    }
}

/// A span of a source.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub source: Arc<Source>,
    pub span: Span,
}
