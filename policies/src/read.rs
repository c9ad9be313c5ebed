//! Files into resources: strict, and every mistake of every file at once.
//!
//! ```text
//! text ─► documents (yaml, json) ─► identity (kind, name) ─► walk (schema) ─► typed value ─► rules
//! ```
//! Each step collects what is wrong; a resource is refused as a whole when anything is.

mod identity;
mod json;
mod node;
mod rules;
pub(crate) mod schema;
mod walk;
mod yaml;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use self::identity::Identity;
pub(crate) use self::node::Node;
pub(crate) use self::walk::one_of;
use self::walk::{Right, Walk};
use crate::model::ResourceKey;
use crate::problem::{Note, Problem};
use crate::resource::{KindInfo, Layout, Origin, Refused, Resource, Resources, filter::TargetRef};
use crate::source::{Place, Source, SourceFile, Span};

/// Largest file that is read, in bytes; a larger one is a problem of its own.
pub const FILE_BYTES_MAX: usize = 32 << 20;

/// Most values in one document, aliases counted for all that they stand for; past it the document
/// is refused.
pub const NODES_MAX: u64 = 1_000_000;

/// Deepest nesting of one document; past it the document is refused.
pub const DEPTH_MAX: usize = 64;

/// Most problems that are reported of one file; the others are not shown.
pub const PROBLEMS_MAX: usize = 1_000;

/// What [`read`] found.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// The resources that are right in themselves.
    pub resources: Resources,
    /// Every mistake, in the order of the files.
    pub problems: Vec<Problem>,
    /// What was skipped.
    pub notes: Vec<Note>,
    /// Resources that are there and were refused.
    pub refused: BTreeSet<ResourceKey>,
    /// Files with a document that does not parse or does not say what it is: whichever resources
    /// came from them before may still be meant.
    pub unreadable: BTreeSet<String>,
}

/// One document: its value, and what is wrong with its notation.
pub(crate) struct Document {
    /// `None` = empty, or broken.
    root: Option<Arc<Node>>,
    faults: Vec<Malformed>,
    /// Whether it could be read to its end.
    complete: bool,
}

/// A mistake of notation.
pub(crate) struct Malformed {
    span: Span,
    message: String,
    expected: Option<String>,
    code: &'static str,
}

impl Malformed {
    fn new(span: Span, message: impl Into<String>) -> Self {
        Self { span, message: message.into(), expected: None, code: "syntax" }
    }

    fn problem(self, source: &Arc<Source>) -> Problem {
        let place = Place { source: Arc::clone(source), span: self.span };
        Problem { expected: self.expected, ..Problem::error(self.code, &place, self.message) }
    }
}

/// Reads YAML (several documents in a file) and JSON (by the ending `.json`), `kind: List` too.
///
/// Reading never stops at a mistake: what is right is in [`Reading::resources`], what is wrong in
/// [`Reading::problems`].
pub fn read(files: &[SourceFile]) -> Reading {
    let mut reader = Reader::default();
    for file in files {
        reader.file(file);
    }
    reader.reading
}

#[derive(Default)]
struct Reader {
    reading: Reading,
    /// Where each resource was first seen.
    seen: BTreeMap<ResourceKey, Place>,
    order: u64,
}

impl Reader {
    fn file(&mut self, file: &SourceFile) {
        let first = self.reading.problems.len();
        let text = file.text.strip_prefix('\u{feff}').unwrap_or(&file.text);
        if let Some(fault) = unreadable(text) {
            // Where the values of Secrets are is not known: nothing is shown.
            let hidden = if text.contains("Secret") { vec![Span::EVERYTHING] } else { Vec::new() };
            let source = Arc::new(Source::new(&file.path, text, hidden));
            self.reading.problems.push(fault.problem(&source));
            self.unreadable(&file.path);
            return;
        }
        let is_json = file.path.to_ascii_lowercase().ends_with(".json");
        let documents = if is_json { json::parse(text) } else { yaml::parse(text) };
        let source = Arc::new(Source::new(&file.path, text, identity::hidden(text, &documents)));
        for document in documents {
            self.document(&source, document);
        }
        self.reading.problems[first..].sort_by_key(|problem| (problem.line, problem.column));
        self.reading.problems.truncate(first + PROBLEMS_MAX);
    }

    fn document(&mut self, source: &Arc<Source>, document: Document) {
        let mut problems: Vec<Problem> =
            document.faults.into_iter().map(|fault| fault.problem(source)).collect();
        if !document.complete {
            self.reading.problems.append(&mut problems);
            self.unreadable(&source.path);
        } else if let Some(node) = document.root.filter(|node| !node.is_null()) {
            self.resource(&Origin { source: Arc::clone(source), node }, problems);
        } else {
            self.reading.problems.append(&mut problems);
        }
    }

    /// Reads one resource, or each of a list; `problems` are those that its notation has.
    fn resource(&mut self, origin: &Origin, mut problems: Vec<Problem>) {
        match identity::identify(origin, &mut problems) {
            Identity::List(items) => {
                let broken = !problems.is_empty();
                self.reading.problems.append(&mut problems);
                if broken {
                    self.unreadable(&origin.source.path);
                }
                for node in items {
                    self.resource(&Origin { source: Arc::clone(&origin.source), node }, Vec::new());
                }
            }
            Identity::Skip(note) => {
                self.reading.problems.append(&mut problems);
                self.reading.notes.push(note);
            }
            Identity::Unknown => {
                self.reading.problems.append(&mut problems);
                self.unreadable(&origin.source.path);
            }
            Identity::Ours(kind, key) => self.ours(origin, kind, key, problems),
        }
    }

    fn ours(
        &mut self,
        origin: &Origin,
        kind: &'static KindInfo,
        key: ResourceKey,
        mut problems: Vec<Problem>,
    ) {
        let name = origin.at("metadata/name");
        if let Some(first) = self.seen.get(&key) {
            let at = format!("{}:{}", first.source.path, first.span.line);
            let message = format!("{key} is there twice; the other one is at {at}");
            problems.push(Problem::error("duplicate-resource", &name, message));
        } else {
            self.seen.insert(key.clone(), name);
        }
        let resource = self.typed(origin, kind, &key, &mut problems).map(Arc::new);
        match resource {
            Some(resource) if problems.is_empty() => {
                self.reading.resources.table.insert(key, resource);
            }
            suspect => self.refuse(origin, key, problems, suspect),
        }
    }

    /// The typed value: whole when nothing is wrong, else of its right parts, if there are enough.
    fn typed(
        &mut self,
        origin: &Origin,
        kind: &KindInfo,
        key: &ResourceKey,
        problems: &mut Vec<Problem>,
    ) -> Option<Resource> {
        let mut walk = Walk::new(&origin.source, key.kind == "Secret");
        let right = walk.value(&origin.node, schema::shape_of(kind));
        let is_clean = walk.problems.is_empty();
        problems.append(&mut walk.problems);
        let Right { value, node } = right?;
        let metadata = value.get("metadata").unwrap_or(&Value::Null);
        let (labels, annotations) = (texts(metadata, "labels"), texts(metadata, "annotations"));
        let created = metadata.get("creationTimestamp").and_then(Value::as_str).map(str::to_owned);
        let body = match kind.layout {
            Layout::Root => value,
            Layout::Spec => value.get("spec").cloned().unwrap_or_default(),
        };
        match (kind.parse)(body) {
            Ok(spec) => {
                self.order += 1;
                let origin = Origin { source: Arc::clone(&origin.source), node };
                let (key, order) = (key.clone(), self.order);
                let mut resource =
                    Resource { key, labels, annotations, created, order, origin, spec };
                rules::inspect(&mut resource, &walk.wrong, problems);
                Some(resource)
            }
            Err(error) => {
                // The walk lets nothing through that the types refuse; if it did, this says so.
                if is_clean {
                    problems.push(Problem::error("invalid", &origin.at("spec"), error.to_string()));
                }
                None
            }
        }
    }

    fn refuse(
        &mut self,
        origin: &Origin,
        key: ResourceKey,
        problems: Vec<Problem>,
        suspect: Option<Arc<Resource>>,
    ) {
        // A duplicate refuses both: nobody can tell which of them is meant.
        let first = self.reading.resources.table.remove(&key);
        let refused = Refused {
            reason: problems.first().map(|problem| problem.message.clone()).unwrap_or_default(),
            suspect: first.or(suspect),
            denies: must_deny(origin, &key.kind),
            file: Arc::clone(&origin.source.path),
            targets: targets(&origin.node, &key.kind),
        };
        self.reading.resources.refused.insert(key.clone(), refused);
        self.reading.problems.extend(problems.into_iter().map(|problem| problem.of(&key)));
        self.reading.refused.insert(key);
    }

    fn unreadable(&mut self, path: &str) {
        self.reading.unreadable.insert(path.to_owned());
        self.reading.resources.incomplete = true;
    }
}

/// The labels or annotations of a resource.
fn texts(metadata: &Value, field: &str) -> BTreeMap<String, String> {
    let texts = metadata.get(field).and_then(Value::as_object).into_iter().flatten();
    texts.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

/// What makes a whole file unreadable.
fn unreadable(text: &str) -> Option<Malformed> {
    let start = Span { line: 1, column: 1, end_line: 1, end_column: 2 };
    if text.len() > FILE_BYTES_MAX {
        let message = format!("the file has {} bytes", text.len());
        let expected = Some(format!("at most {FILE_BYTES_MAX}"));
        return Some(Malformed { code: "too-large", expected, ..Malformed::new(start, message) });
    }
    // YAML takes it for the end of a line, JSON and most editors do not: places would be told wrong,
    // and the values of Secrets shown.
    let wrong = |c: char| matches!(c, '\r' | char::REPLACEMENT_CHARACTER);
    let (number, line) = (1..).zip(text.lines()).find(|(_, line)| line.contains(wrong))?;
    let column = line.chars().take_while(|c| !wrong(*c)).count();
    let is_return = line.chars().nth(column) == Some('\r');
    let column = u32::try_from(column).unwrap_or(u32::MAX - 1).saturating_add(1);
    let span =
        Span { line: number, column, end_line: number, end_column: column.saturating_add(1) };
    let (message, expected) = match is_return {
        true => ("a carriage return within a line", "lines that end in LF or CRLF"),
        false => ("a byte that is not UTF-8 text", "UTF-8"),
    };
    let expected = Some(expected.into());
    Some(Malformed { code: "encoding", expected, ..Malformed::new(span, message) })
}

/// Whether a refused resource leaves something unprotected: a filter that must not be skipped.
fn must_deny(origin: &Origin, kind: &str) -> bool {
    let field = match kind {
        "Filter" => "failurePolicy",
        "WasmPlugin" => "failStrategy",
        _ => return false,
    };
    let spec = origin.node.get("spec");
    let policy = spec.and_then(|spec| spec.get(field)).and_then(|policy| policy.text());
    !matches!(policy, Some("Open" | "FAIL_OPEN"))
}

/// The targets of a refused filter or policy, if all of them can be read.
fn targets(node: &Node, kind: &str) -> Option<Vec<TargetRef>> {
    let items = node.get("spec")?.get("targetRefs")?.items()?;
    let target = |item: &Arc<Node>| {
        let text = |field| item.get(field).and_then(|value| value.text());
        // Whatever its kind is misspelt as, a target of this policy is a Service.
        let kind = if kind == "BackendTLSPolicy" { "Service" } else { text("kind")? };
        let value = serde_json::json!({ "kind": kind, "name": text("name")? });
        serde_json::from_value(value).ok()
    };
    items
        .iter()
        .map(target)
        .collect::<Option<Vec<TargetRef>>>()
        .filter(|targets| !targets.is_empty())
}
