//! Which key a request has: rules tried in order over its head and as much of its body as they need.

use std::rc::Rc;

use crate::config::{GrpcPart, Rule, Settings, Source, is_key};
use crate::scan::{Scan, Why};
use crate::{form, json};

/// What of a request's head rules look at.
#[derive(Debug)]
pub struct Head {
    headers: Vec<(String, Vec<u8>)>,
}

impl Head {
    /// Names are in lower case.
    pub fn new(headers: Vec<(String, Vec<u8>)>) -> Self {
        Self { headers }
    }

    /// A header that occurs once and is text. One that occurs twice could be read two ways.
    fn get(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(key, _)| key == name).map(|(_, value)| value);
        let value = std::str::from_utf8(values.next()?).ok()?;
        values.next().is_none().then_some(value)
    }

    fn content_type(&self) -> Option<String> {
        let essence = self.get("content-type")?.split(';').next()?;
        Some(essence.trim().to_ascii_lowercase())
    }

    fn is_encoded(&self) -> bool {
        let identity = |(name, value): &(String, Vec<u8>)| {
            name != "content-encoding" || value.eq_ignore_ascii_case(b"identity")
        };
        !self.headers.iter().all(identity)
    }

    /// `package.Service/Method` of a gRPC request.
    fn grpc_method(&self) -> Option<&str> {
        let kind = self.content_type()?;
        let grpc = kind == "application/grpc" || kind.starts_with("application/grpc+");
        let method = self.get(":path")?.strip_prefix('/')?;
        let (service, name) = method.split_once('/')?;
        let plain = !service.is_empty() && !name.is_empty() && !name.contains(['/', '?', '#']);
        (grpc && plain).then_some(method)
    }
}

/// What is known so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// More of the body is needed.
    Wait,
    /// The key.
    Key(String),
    /// No rule yields one. The reason is the first that is more than absence.
    Missing(Why),
}

/// How far one rule is.
#[derive(Clone, Debug)]
enum Progress {
    Json(json::Scanner),
    Form(form::Scanner),
    Done(Scan),
}

/// The decision on one request. All rules read the body together, each once.
#[derive(Debug)]
pub struct Decider {
    settings: Rc<Settings>,
    rules: Vec<Progress>,
    /// How much of the body has been read.
    read: usize,
}

impl Decider {
    /// Nothing is decided yet: call [`Self::advance`] with an empty body.
    pub fn new(settings: Rc<Settings>, head: &Head) -> Self {
        let rules = settings.rules.iter().map(|rule| begin(rule, head)).collect();
        Self { settings, rules, read: 0 }
    }

    /// How much of the body has been read.
    pub fn read(&self) -> usize {
        self.read
    }

    /// Goes on as far as the body allows.
    ///
    /// * `len` bytes of the body are there, from its beginning; `read` gives a part of them.
    /// * `end`: there will be no more.
    pub fn advance(
        &mut self,
        len: usize,
        end: bool,
        read: impl Fn(usize, usize) -> Vec<u8>,
    ) -> Step {
        let bound = self.settings.max_body_bytes;
        let fresh = read(self.read, len.min(bound).saturating_sub(self.read));
        self.read += fresh.len();
        // Every rule gets the fresh bytes before one decides.
        for progress in &mut self.rules {
            progress.advance(&fresh, end && len <= bound);
        }
        let mut why = Why::Absent;
        for (progress, rule) in self.rules.iter().zip(&self.settings.rules) {
            match progress.key(rule) {
                Scan::More if len > bound => why = why.or(Why::BodyTooLarge),
                Scan::More => return Step::Wait,
                Scan::Found(key) => return Step::Key(key),
                Scan::Missing(other) => why = why.or(other),
            }
        }
        Step::Missing(why)
    }
}

/// A rule that looks at the head is done at once; so is one for another form of body.
fn begin(rule: &Rule, head: &Head) -> Progress {
    let kind = head.content_type().filter(|_| !head.is_encoded()).unwrap_or_default();
    let value = match &rule.source {
        Source::Json(pointer) if kind == "application/json" || kind.ends_with("+json") => {
            return Progress::Json(json::Scanner::new(pointer.clone()));
        }
        Source::Form(field) if kind == "application/x-www-form-urlencoded" => {
            return Progress::Form(form::Scanner::new(field));
        }
        Source::Json(_) | Source::Form(_) => None,
        Source::Header(name) => head.get(name),
        Source::Grpc(GrpcPart::Method) => head.grpc_method(),
        Source::Grpc(GrpcPart::Service) => head.grpc_method().and_then(|m| m.split('/').next()),
    };
    Progress::Done(match value {
        Some(value) => Scan::Found(value.to_owned()),
        None => Scan::Missing(Why::Absent),
    })
}

impl Progress {
    fn advance(&mut self, fresh: &[u8], end: bool) {
        let result = match self {
            Self::Json(scanner) => match scanner.push(fresh) {
                Scan::More if end => scanner.finish(),
                result => result,
            },
            Self::Form(scanner) => match scanner.push(fresh) {
                Scan::More if end => scanner.finish(),
                result => result,
            },
            Self::Done(_) => return,
        };
        if result != Scan::More {
            *self = Self::Done(result);
        }
    }

    /// What the rule makes of the value.
    fn key(&self, rule: &Rule) -> Scan {
        match (self, &rule.values) {
            (Self::Done(Scan::Found(value)), Some(values)) => match values.get(value) {
                Some(key) => Scan::Found(key.clone()),
                None => Scan::Missing(Why::Absent),
            },
            (Self::Done(Scan::Found(value)), None) if !is_key(value) => {
                Scan::Missing(Why::NotAHeaderValue)
            }
            (Self::Done(result), _) => result.clone(),
            _ => Scan::More,
        }
    }
}

impl Why {
    /// The first reason that is more than absence.
    fn or(self, other: Self) -> Self {
        if self == Self::Absent { other } else { self }
    }
}
