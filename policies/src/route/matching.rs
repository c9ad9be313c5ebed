//! One match of a rule: path, method, headers and query, all of which must hold.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, Method};
use regex::Regex;

use super::Facts;

/// What must hold for a rule to answer.
///
/// # Source
///
/// Gateway API, `HTTPRouteMatch`.
#[derive(Clone, Debug)]
pub(crate) struct Match {
    pub path: PathMatch,
    pub method: Option<Method>,
    pub headers: Vec<(HeaderName, TextMatch)>,
    /// Names are compared after percent-decoding (RFC 7230 2.7.3); `+` stays a plus. Of a key that
    /// occurs more than once only the first value counts.
    pub query: Vec<(String, TextMatch)>,
}

/// How a path is compared. It has been normalised before; nothing is decoded here.
#[derive(Clone, Debug)]
pub(crate) enum PathMatch {
    Exact(String),
    /// Whole segments; held without the trailing slash, so `/` is the empty string.
    Prefix(String),
    /// The whole path.
    Regex(Regex),
    /// `/SERVICE/METHOD` of any gRPC service.
    AnyService(String),
}

/// How a header's or a query's value is compared; a regular expression takes the whole value.
#[derive(Clone, Debug)]
pub(crate) enum TextMatch {
    Exact(String),
    Regex(Regex),
}

/// Orders matches, greater first. Where regular expressions stand is the implementation's choice:
/// here after exact paths and before prefixes, for a prefix `/` would shadow them all.
pub(crate) type Weight = (u8, usize, bool, usize, usize);

impl Match {
    /// Whether it holds for a request that its index has found by the path.
    pub(crate) fn holds(&self, facts: &Facts<'_>) -> bool {
        self.path.holds(facts.path)
            && self.method.as_ref().is_none_or(|method| method == facts.method)
            && self.headers.iter().all(|(name, value)| header_holds(facts.headers, name, value))
            && self.query.iter().all(|(name, value)| query_holds(facts.query, name, value))
    }

    /// Whether every request satisfies it.
    pub(crate) fn holds_always(&self) -> bool {
        matches!(&self.path, PathMatch::Prefix(prefix) if prefix.is_empty())
            && self.method.is_none()
            && self.headers.is_empty()
            && self.query.is_empty()
    }

    pub(crate) fn weight(&self) -> Weight {
        let (rank, length) = match &self.path {
            PathMatch::Exact(path) => (2, path.chars().count()),
            PathMatch::Regex(regex) => (1, regex.as_str().chars().count()),
            // Beneath every service that is named (Gateway API, `GRPCRouteRule.matches`).
            PathMatch::AnyService(method) => (0, method.chars().count()),
            PathMatch::Prefix(prefix) => (0, prefix.chars().count()),
        };
        (rank, length, self.method.is_some(), self.headers.len(), self.query.len())
    }

    pub(crate) fn header_names(&self) -> impl Iterator<Item = &HeaderName> {
        self.headers.iter().map(|(name, _)| name)
    }
}

impl PathMatch {
    /// A prefix on whole segments.
    pub(crate) fn prefix(value: &str) -> Self {
        Self::Prefix(value.strip_suffix('/').unwrap_or(value).to_owned())
    }

    /// What the index cannot tell by itself.
    fn holds(&self, path: &str) -> bool {
        match self {
            Self::Exact(_) | Self::Prefix(_) => true,
            Self::Regex(regex) => regex.is_match(path),
            Self::AnyService(method) => {
                let segments = path.strip_prefix('/').and_then(|rest| rest.split_once('/'));
                segments.is_some_and(|(service, name)| !service.is_empty() && name == method)
            }
        }
    }
}

impl TextMatch {
    fn holds(&self, value: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == value,
            Self::Regex(regex) => regex.is_match(value),
        }
    }
}

/// Whether `prefix` covers `path` on whole segments: `/a` covers `/a` and `/a/b`, not `/ab`.
pub(crate) fn covers(prefix: &str, path: &str) -> bool {
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A header that occurs more than once is compared as one value, joined with commas (RFC 9110
/// 5.3); a value that is not UTF-8 matches nothing.
fn header_holds(headers: &HeaderMap, name: &HeaderName, wanted: &TextMatch) -> bool {
    let mut values = headers.get_all(name).iter();
    let Some(first) = values.next().and_then(|value| std::str::from_utf8(value.as_bytes()).ok())
    else {
        return false;
    };
    let mut joined = Cow::Borrowed(first);
    for value in values {
        let Ok(value) = std::str::from_utf8(value.as_bytes()) else { return false };
        let joined = joined.to_mut();
        joined.push(',');
        joined.push_str(value);
    }
    wanted.holds(&joined)
}

fn query_holds(query: Option<&str>, name: &str, wanted: &TextMatch) -> bool {
    let pairs = query.unwrap_or_default().split('&');
    let first = pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .find(|(key, _)| percent_decode(key) == name.as_bytes());
    first.is_some_and(|(_, value)| {
        std::str::from_utf8(&percent_decode(value)).is_ok_and(|value| wanted.holds(value))
    })
}

/// Decodes `%41`; what is not a valid escape stays as it is.
fn percent_decode(text: &str) -> Cow<'_, [u8]> {
    if !text.contains('%') {
        return Cow::Borrowed(text.as_bytes());
    }
    let mut rest = text.as_bytes();
    let mut decoded = Vec::with_capacity(rest.len());
    while let [first, tail @ ..] = rest {
        match (first, tail) {
            (b'%', [high, low, after @ ..])
                if let (Some(high), Some(low)) = (hex(*high), hex(*low)) =>
            {
                decoded.push(high << 4 | low);
                rest = after;
            }
            _ => {
                decoded.push(*first);
                rest = tail;
            }
        }
    }
    Cow::Owned(decoded)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}
