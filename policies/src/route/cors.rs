//! Cross-origin requests: which origins, methods and headers a rule allows, and how it says so.

use std::collections::BTreeSet;
use std::fmt;

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

/// What a rule allows to scripts of other origins.
///
/// # Source
///
/// Gateway API, `HTTPCORSFilter`; the Fetch standard, section 3.2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cors {
    /// Who may ask.
    pub origins: Vec<OriginMatch>,
    /// Whether with credentials.
    pub credentials: bool,
    /// `access-control-allow-methods`.
    pub methods: Allowed,
    /// `access-control-allow-headers`.
    pub headers: Allowed,
    /// `access-control-expose-headers`.
    pub exposed: Allowed,
    /// How many seconds a client may remember the answer to a preflight.
    pub max_age: u32,
}

/// A list of names, as its header has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// The header is left out.
    None,
    /// `*`
    All,
    /// Names, joined with commas.
    Names(HeaderValue),
}

/// An origin that may ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OriginMatch {
    /// Every origin.
    Any,
    /// Scheme, host and port. A host that begins with `*` covers every host that ends with the
    /// rest, of any number of labels.
    One {
        /// `http` or `https`, or another one.
        scheme: String,
        /// The host, without the star: lower case.
        host: String,
        /// Whether a star stood before it.
        wildcard: bool,
        /// The port; that of the scheme where none is written.
        port: Option<u16>,
    },
}

impl OriginMatch {
    /// Reads `*`, `SCHEME://HOST` or `SCHEME://HOST:PORT`.
    ///
    /// # Errors
    ///
    /// What is wrong, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let wrong = || format!("`{text}` is not an origin");
        let (scheme, host, port) = split(text).ok_or_else(wrong)?;
        let (wildcard, rest) = host.strip_prefix('*').map_or((false, host), |rest| (true, rest));
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-._[]:".contains(c);
        if !(wildcard || rest.chars().any(char::is_alphanumeric)) || !rest.chars().all(allowed) {
            return Err(wrong());
        }
        let (scheme, host) = (scheme.to_ascii_lowercase(), rest.to_ascii_lowercase());
        Ok(Self::One { scheme, host, wildcard, port })
    }

    fn covers(&self, origin: &str) -> bool {
        let Self::One { scheme, host, wildcard, port } = self else { return true };
        let Some((its_scheme, its_host, its_port)) = split(origin) else { return false };
        let its_host = its_host.to_ascii_lowercase();
        let same = if *wildcard {
            its_host.len() > host.len() && its_host.ends_with(host.as_str())
        } else {
            its_host == *host
        };
        same && its_scheme.eq_ignore_ascii_case(scheme) && its_port == *port
    }
}

impl fmt::Display for OriginMatch {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::One { scheme, host, wildcard, port } = self else { return out.write_str("*") };
        let star = if *wildcard { "*" } else { "" };
        write!(out, "{scheme}://{star}{host}")?;
        port.map_or(Ok(()), |port| write!(out, ":{port}"))
    }
}

/// Scheme, host and port of an origin; the scheme's own port where none is written.
fn split(origin: &str) -> Option<(&str, &str, Option<u16>)> {
    let (scheme, rest) = origin.split_once("://")?;
    let first = scheme.bytes().next()?;
    let word = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    if !first.is_ascii_alphabetic() || !scheme.bytes().all(word) {
        return None;
    }
    // The colons of an IPv6 address are inside its brackets.
    let colon = rest.rfind(':').filter(|colon| !rest[*colon..].contains(']'));
    let (host, port) = match colon {
        Some(colon) => (&rest[..colon], Some(port(&rest[colon + 1..])?)),
        None => (rest, well_known(scheme)),
    };
    (!host.is_empty()).then_some((scheme, host, port))
}

fn port(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port != 0)
}

fn well_known(scheme: &str) -> Option<u16> {
    match scheme.to_ascii_lowercase().as_str() {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

/// Headers of a response that say what is allowed. The upstream's own give way to ours.
const ANSWERS: [HeaderName; 6] = [
    ACCESS_CONTROL_ALLOW_CREDENTIALS,
    ACCESS_CONTROL_ALLOW_HEADERS,
    ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS,
    ACCESS_CONTROL_MAX_AGE,
];

/// What an answer to a script of another origin depends on.
#[derive(Clone, Debug)]
pub struct CrossOrigin {
    /// `origin`, where the rule allows it.
    allowed: Option<HeaderValue>,
    method: Option<HeaderValue>,
    headers: Option<HeaderValue>,
}

impl Cors {
    /// Whether a request asks what would be allowed: it is answered in the upstream's place.
    ///
    /// # Source
    ///
    /// The Fetch standard: a CORS-preflight request is an `OPTIONS` with `origin` and
    /// `access-control-request-method`.
    pub fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
        method == Method::OPTIONS
            && headers.contains_key(ORIGIN)
            && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
    }

    /// Keeps of a request what its answer depends on.
    pub fn of(&self, headers: &HeaderMap) -> CrossOrigin {
        let mut origins = headers.get_all(ORIGIN).iter();
        // Two origins are none.
        let origin = origins.next().filter(|_| origins.next().is_none());
        let covered = |origin: &&HeaderValue| {
            let text = origin.to_str().unwrap_or_default();
            self.origins.iter().any(|allowed| allowed.covers(text))
        };
        CrossOrigin {
            allowed: origin.filter(covered).cloned(),
            method: headers.get(ACCESS_CONTROL_REQUEST_METHOD).cloned(),
            headers: headers.get(ACCESS_CONTROL_REQUEST_HEADERS).cloned(),
        }
    }

    /// Writes into the answer to a preflight what is allowed; nothing to an origin that is not.
    pub fn preflight(&self, asked: &CrossOrigin, answer: &mut HeaderMap) {
        if !self.share(asked, answer) {
            return;
        }
        let lists = [
            (ACCESS_CONTROL_ALLOW_METHODS, &self.methods, &asked.method),
            (ACCESS_CONTROL_ALLOW_HEADERS, &self.headers, &asked.headers),
        ];
        for (name, allowed, asked) in lists {
            self.list(name, allowed, asked.as_ref(), answer);
        }
        answer.insert(ACCESS_CONTROL_MAX_AGE, self.max_age.into());
    }

    /// Writes into any other answer that a script of an allowed origin may read it.
    pub fn answer(&self, asked: &CrossOrigin, answer: &mut HeaderMap) {
        if self.share(asked, answer) {
            self.list(ACCESS_CONTROL_EXPOSE_HEADERS, &self.exposed, None, answer);
        }
    }

    /// Whether the origin is allowed, and the headers that say so.
    fn share(&self, asked: &CrossOrigin, answer: &mut HeaderMap) -> bool {
        ANSWERS.iter().for_each(|name| drop(answer.remove(name)));
        let any = self.origins.contains(&OriginMatch::Any) && !self.credentials;
        if !any {
            vary(answer);
        }
        let Some(origin) = &asked.allowed else { return false };
        let shared = if any { HeaderValue::from_static("*") } else { origin.clone() };
        answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, shared);
        if self.credentials {
            let yes = HeaderValue::from_static("true");
            answer.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, yes);
        }
        true
    }

    /// A star means nothing to a client that sends credentials: it gets what it asked for.
    fn list(
        &self,
        name: HeaderName,
        allowed: &Allowed,
        asked: Option<&HeaderValue>,
        answer: &mut HeaderMap,
    ) {
        let value = match allowed {
            Allowed::None => None,
            Allowed::All if self.credentials => asked.cloned(),
            Allowed::All => Some(HeaderValue::from_static("*")),
            Allowed::Names(names) => Some(names.clone()),
        };
        if let Some(value) = value {
            answer.insert(name, value);
        }
    }
}

/// Caches must keep answers to different origins apart.
fn vary(answer: &mut HeaderMap) {
    let names: BTreeSet<String> = answer
        .get_all(VARY)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    if !names.contains("origin") && !names.contains("*") {
        answer.append(VARY, HeaderValue::from_static("origin"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_covered_by_scheme_host_and_port() {
        for (allowed, origin, want) in [
            ("*", "https://any.test", true),
            ("https://a.test", "https://a.test", true),
            ("https://a.test", "https://A.test:443", true),
            ("https://a.test:443", "https://a.test", true),
            ("https://a.test", "http://a.test", false),
            ("https://a.test", "https://a.test:8443", false),
            ("https://a.test", "https://b.a.test", false),
            ("https://*.a.test", "https://b.a.test", true),
            ("https://*.a.test", "https://c.b.a.test", true),
            ("https://*.a.test", "https://a.test", false),
            ("https://*.a.test", "https://xa.test", false),
            ("https://*.a.test", "https://b.a.test.evil", false),
            ("https://*.a.test:8443", "https://b.a.test:8443", true),
            ("https://*", "https://any.test", true),
            ("https://*", "http://any.test", false),
            ("http://[::1]:80", "http://[::1]", true),
            ("https://a.test", "null", false),
            ("https://*", "null", false),
        ] {
            let covers = OriginMatch::parse(allowed).expect("an origin").covers(origin);
            assert_eq!(covers, want, "{allowed} {origin}");
        }
        let wrong =
            ["", "a.test", "https://", "https://a.test:x", "https://a.test:0", "https://a/b"];
        for text in wrong.iter().chain(&["https://a.*.test", "://a", "https://a.test:70000"]) {
            assert!(OriginMatch::parse(text).is_err(), "{text}");
        }
    }
}
