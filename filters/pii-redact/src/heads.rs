//! Decisions on heads, made before a body is seen: which headers are scanned and how, whether the
//! body is, and which headers then no longer hold.

use std::rc::Rc;

use waypoint_sdk::Headers;

use crate::body::content::{Kind, kind};
use crate::body::form::{self, Form, Percent};
use crate::body::{Coding, Manner};
use crate::config::{EncodingPolicy, HeaderChoice, Policy, Settings, UnknownPolicy};
use crate::redactor::{Escape, Redactor, plain};
use crate::rules::Rules;
use crate::scanner::Blocked;

/// Headers that are never scanned unless they are named, by the beginning of their name.
const SAFE_FAMILIES: [&str; 6] =
    [":", "sec-", "x-forwarded-", "x-envoy-", "x-b3-", "access-control-"];
/// Their values are addresses, in which a replacement is percent-encoded.
const ADDRESS_HEADERS: [&str; 3] = ["content-location", "location", "referer"];

/// Headers that describe the bytes of a request's body.
pub(crate) const REQUEST_STALE: [&str; 4] =
    ["content-md5", "digest", "content-digest", "repr-digest"];
/// Headers that describe the bytes of a response's body.
pub(crate) const RESPONSE_STALE: [&str; 6] =
    ["etag", "content-md5", "digest", "content-digest", "repr-digest", "accept-ranges"];

/// Headers that are never scanned unless they are named: the protocol's own, tokens, and those that
/// tell other proxies who called. A match on bytes becomes a tree of comparisons, a list would be
/// searched for every header.
fn is_safe(name: &str) -> bool {
    let family = || SAFE_FAMILIES.iter().any(|family| name.starts_with(family));
    matches!(
        name.as_bytes(),
        b"accept"
            | b"accept-charset"
            | b"accept-encoding"
            | b"accept-language"
            | b"accept-ranges"
            | b"age"
            | b"allow"
            | b"alt-svc"
            | b"authorization"
            | b"cache-control"
            | b"cf-connecting-ip"
            | b"connection"
            | b"content-digest"
            | b"content-encoding"
            | b"content-length"
            | b"content-md5"
            | b"content-range"
            | b"content-type"
            | b"date"
            | b"digest"
            | b"etag"
            | b"expect"
            | b"expires"
            | b"forwarded"
            | b"host"
            | b"if-match"
            | b"if-modified-since"
            | b"if-none-match"
            | b"if-range"
            | b"if-unmodified-since"
            | b"last-modified"
            | b"proxy-authorization"
            | b"range"
            | b"repr-digest"
            | b"retry-after"
            | b"server"
            | b"strict-transport-security"
            | b"te"
            | b"traceparent"
            | b"tracestate"
            | b"trailer"
            | b"transfer-encoding"
            | b"true-client-ip"
            | b"upgrade"
            | b"user-agent"
            | b"vary"
            | b"via"
            | b"www-authenticate"
            | b"x-real-ip"
            | b"x-request-id"
    ) || family()
}

/// Whether a header's value is scanned.
pub(crate) fn is_scanned(settings: &Settings, name: &str) -> bool {
    let listed = |names: &[String]| names.binary_search_by(|n| n.as_str().cmp(name)).is_ok();
    match &settings.headers {
        HeaderChoice::None => false,
        HeaderChoice::Only(names) => !name.starts_with(':') && listed(names),
        HeaderChoice::All => !is_safe(name) && !listed(&settings.safe_headers),
    }
}

/// A header map, read once: to ask the host for a header that is not there costs as much as for one
/// that is.
pub(crate) struct Map {
    pub(crate) host: Headers,
    /// As they were read, less what was removed or replaced since.
    pub(crate) pairs: Vec<(String, Vec<u8>)>,
}

impl Map {
    pub(crate) fn read(host: Headers) -> Self {
        Self { host, pairs: host.all() }
    }

    /// The first value.
    pub(crate) fn get(&self, name: &str) -> Option<&[u8]> {
        self.pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_slice())
    }

    pub(crate) fn remove(&mut self, name: &str) {
        if self.get(name).is_some() {
            self.host.remove(name);
            self.forget(name);
        }
    }

    /// Sets a header to a value that needs no scan.
    pub(crate) fn replace(&mut self, name: &str, value: &[u8]) {
        self.host.set(name, value);
        self.forget(name);
    }

    fn forget(&mut self, name: &str) {
        self.pairs.retain(|(key, _)| key != name);
    }
}

/// Scans single values: of headers and of the query.
#[derive(Debug)]
pub(crate) struct Values(pub(crate) Redactor);

impl Values {
    pub(crate) fn new(rules: Rc<Rules>) -> Self {
        Self(Redactor::new(rules))
    }

    /// The value of a header as it may leave; its name is its context. Percent escapes are decoded
    /// for the scan.
    pub(crate) fn header(&mut self, name: &str, value: &[u8]) -> Result<Vec<u8>, Blocked> {
        let escape: Escape = if ADDRESS_HEADERS.contains(&name) { form::escape } else { plain };
        self.0.forget();
        self.0.context(name.as_bytes());
        self.0.context(b" ");
        let mut percent = Percent::new(escape);
        percent.push(value, false, &mut self.0)?;
        percent.end(&mut self.0)?;
        Ok(self.0.take())
    }

    /// `:path` as it may leave: its query is read as a form, the rest passes.
    pub(crate) fn path(&mut self, path: &[u8]) -> Result<Vec<u8>, Blocked> {
        let Some(begin) = memchr::memchr(b'?', path) else { return Ok(path.to_vec()) };
        let (address, query) = path.split_at(begin + 1);
        self.0.forget();
        let mut form = Form::default();
        form.push(query, &mut self.0)?;
        form.end(&mut self.0)?;
        Ok([address, &self.0.take()].concat())
    }
}

/// What a head says of its body.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub(crate) content_type: Option<Vec<u8>>,
    /// Every `content-encoding`, joined by commas.
    pub(crate) content_encoding: Vec<u8>,
    /// 206.
    pub(crate) partial: bool,
    /// What follows is another protocol: WebSocket, a tunnel.
    pub(crate) upgraded: bool,
}

/// What happens to a body.
#[derive(Debug)]
pub(crate) enum Plan {
    Pass,
    Scan(Manner),
    /// It cannot be scanned; the reason's name.
    Refuse(&'static str),
}

/// Decides on a body.
pub(crate) fn plan(settings: &Settings, facts: &Facts) -> Plan {
    let kind = facts.content_type.as_deref().map_or(Kind::Unknown, kind);
    let unknown = settings.unknown_content;
    match kind {
        _ if !settings.bodies || facts.upgraded => return Plan::Pass,
        Kind::Media => return Plan::Pass,
        Kind::Grpc | Kind::Unknown if unknown == UnknownPolicy::Refuse => {
            return Plan::Refuse("unknown content type");
        }
        Kind::Grpc => return Plan::Pass,
        Kind::Unknown if unknown == UnknownPolicy::Pass => return Plan::Pass,
        Kind::Charset if settings.charset == Policy::Refuse => {
            return Plan::Refuse("charset that cannot be scanned");
        }
        Kind::Charset => return Plan::Pass,
        _ => {}
    }
    if facts.partial {
        return match settings.partial_content {
            Policy::Refuse => Plan::Refuse("partial content"),
            Policy::Pass => Plan::Pass,
        };
    }
    let coding = match coding(settings.content_encoding, &facts.content_encoding) {
        Ok(coding) => coding,
        Err(plan) => return plan,
    };
    Plan::Scan(Manner {
        kind,
        coding,
        limits: settings.limits,
        json_numbers: settings.json_numbers,
        json_keys: settings.json_keys,
        refuse_wide: settings.charset == Policy::Refuse,
        refuse_packed: settings.content_encoding != EncodingPolicy::Pass,
    })
}

/// The coding to decode, or the plan that another one leaves.
fn coding(policy: EncodingPolicy, header: &[u8]) -> Result<Option<Coding>, Plan> {
    let lower = header.to_ascii_lowercase();
    let codings: Vec<&[u8]> = lower
        .split(|&byte| byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|coding| !coding.is_empty() && coding != b"identity")
        .collect();
    match (codings.as_slice(), policy) {
        ([], _) => Ok(None),
        (_, EncodingPolicy::Pass) => Err(Plan::Pass),
        ([b"gzip" | b"x-gzip"], EncodingPolicy::Decode) => Ok(Some(Coding::Gzip)),
        ([b"deflate"], EncodingPolicy::Decode) => Ok(Some(Coding::Deflate)),
        _ => Err(Plan::Refuse("content encoding")),
    }
}

#[cfg(test)]
mod tests;
