//! Problems of a resource that only its use shows: a module that does not start.

use crate::model::ResourceKey;
use crate::problem::Problem;
use crate::resource::Resources;
use crate::source::Place;

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
