//! What a Service says of its redirection, in annotations.

use std::collections::BTreeMap;

use super::Rules;
use crate::nearest::nearest;
use crate::problem::Problem;
use crate::read::one_of;
use crate::redirect::{ANNOTATIONS, PREFIX};

impl Rules<'_> {
    /// Annotations with our prefix are read as strictly as fields: a misspelt one that were ignored
    /// could leave a service open.
    pub(super) fn redirection(&mut self, annotations: &BTreeMap<String, String>) {
        for (name, value) in annotations.iter().filter(|(name, _)| name.starts_with(PREFIX)) {
            let Some((_, values)) = ANNOTATIONS.iter().find(|(known, _)| known == name) else {
                let known = || ANNOTATIONS.iter().map(|(known, _)| *known);
                self.annotation(name, "unknown-field", "annotation", name, known());
                continue;
            };
            if !values.contains(&value.as_str()) {
                self.annotation(name, "unknown-value", "value", value, values.iter().copied());
            }
        }
    }

    fn annotation<'a>(
        &mut self,
        name: &str,
        code: &'static str,
        what: &str,
        word: &str,
        known: impl Iterator<Item = &'a str> + Clone,
    ) {
        // The name has a slash: a path to it ends at the annotations.
        let annotations = self.origin.around("metadata/annotations/NAME");
        let span = annotations.step(name).map_or(annotations.span, |(key, value)| match code {
            "unknown-value" => value.span,
            _ => key,
        });
        let message = format!("unknown {what} `{word}`");
        let problem = Problem::error(code, &self.origin.place(span), message);
        self.problems.push(problem.expected(one_of(known.clone())).nearest(nearest(word, known)));
    }
}
