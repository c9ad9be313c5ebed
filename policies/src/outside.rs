//! Problems that a caller found where this crate cannot look: files, modules, sockets.

use crate::model::ResourceKey;
use crate::problem::{Problem, Severity};
use crate::resource::Resources;
use crate::source::Place;

impl Problem {
    /// A mistake of a whole file (or, with an empty path, of none).
    pub fn of_file(path: &str, message: &str) -> Self {
        Self {
            file: path.to_owned(),
            line: 1,
            column: 1,
            snippet: String::new(),
            message: message.to_owned(),
            expected: None,
            nearest: None,
            code: "outside",
            resource: None,
            severity: Severity::Error,
        }
    }

    /// Whether something is refused because of it.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl Resources {
    /// A mistake of a resource that only its use has shown, at `path` (as `spec/module`) of where
    /// it was read.
    pub fn problem(
        &self,
        code: &'static str,
        key: &ResourceKey,
        path: &str,
        message: &str,
    ) -> Problem {
        let Some(resource) = self.table.get(key) else {
            return Problem { code, resource: Some(key.clone()), ..Problem::of_file("", message) };
        };
        let place: Place = resource.origin.at(path);
        Problem::error(code, &place, message).of(key)
    }
}
