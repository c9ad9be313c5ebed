//! A request's target: origin-form, absolute-form, or `*` for OPTIONS.

use bytes::Bytes;
use http::{
    Method, Uri,
    uri::{Authority, Parts, PathAndQuery, Scheme},
};
use memchr::memchr3;

use super::{EncodedSlashes, Refusal, normalise_path};

#[cfg(test)]
mod tests;

/// A target in its parts, as the client wrote them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::codec) struct Target<'a> {
    /// Only an absolute-form has one.
    pub(in crate::codec) authority: Option<&'a str>,
    /// The path with the query, or `*`; empty only behind an authority.
    pub(in crate::codec) rest: &'a str,
}

/// Reads a target.
pub(in crate::codec) fn target<'a>(method: &Method, text: &'a str) -> Result<Target<'a>, Refusal> {
    if method == Method::CONNECT {
        return Err(Refusal::ConnectRefused);
    }
    target_characters(text)?;
    if text == "*" {
        return match *method {
            Method::OPTIONS => Ok(Target { authority: None, rest: text }),
            _ => Err(Refusal::AsteriskWithoutOptions),
        };
    }
    if text.starts_with('/') {
        return Ok(Target { authority: None, rest: text });
    }
    let behind = after_scheme(text)?;
    let end = behind.find(['/', '?']).unwrap_or(behind.len());
    let (authority, rest) = behind.split_at(end);
    // OPTIONS for a whole server, in the form that proxies are sent (RFC 9112, 3.2.4).
    let rest = if rest.is_empty() && method == Method::OPTIONS { "*" } else { rest };
    Ok(Target { authority: Some(authority), rest })
}

impl Target<'_> {
    /// The path's one spelling with the query, if it is not the one that the client used.
    pub(in crate::codec) fn respelled(
        &self,
        slashes: EncodedSlashes,
    ) -> Result<Option<String>, Refusal> {
        if self.rest == "*" {
            return Ok(None);
        }
        let end = self.rest.find('?').unwrap_or(self.rest.len());
        let (path, query) = self.rest.split_at(end);
        // No URI may have them: not in a segment that dots take away, either.
        if memchr3(b'`', b'<', b'>', path.as_bytes()).is_some() {
            return Err(Refusal::TargetMalformed);
        }
        match normalise_path(path, slashes)? {
            std::borrow::Cow::Borrowed("") => Ok(Some(format!("/{query}"))),
            std::borrow::Cow::Borrowed(_) => Ok(None),
            std::borrow::Cow::Owned(path) => Ok(Some(path + query)),
        }
    }
}

/// Puts a checked URI together.
pub(in crate::codec) fn request_uri(
    encrypted: bool,
    authority: Authority,
    path: PathAndQuery,
) -> Result<Uri, Refusal> {
    let mut parts = Parts::default();
    parts.scheme = Some(if encrypted { Scheme::HTTPS } else { Scheme::HTTP });
    parts.authority = Some(authority);
    parts.path_and_query = Some(path);
    Uri::from_parts(parts).map_err(|_| Refusal::TargetMalformed)
}

/// Checked bytes as a URI's authority.
pub(in crate::codec) fn to_authority(bytes: impl Into<Bytes>) -> Result<Authority, Refusal> {
    Authority::from_maybe_shared(bytes.into()).map_err(|_| Refusal::HostMalformed)
}

/// Checked bytes as a URI's path and query.
pub(in crate::codec) fn to_path(bytes: impl Into<Bytes>) -> Result<PathAndQuery, Refusal> {
    PathAndQuery::from_maybe_shared(bytes.into()).map_err(|_| Refusal::TargetMalformed)
}

/// Passes visible ASCII without what some parsers read as another character or cut off.
fn target_characters(text: &str) -> Result<(), Refusal> {
    for byte in text.bytes() {
        match byte {
            b'#' => return Err(Refusal::TargetFragment),
            b'\\' => return Err(Refusal::TargetBackslash),
            0x80.. => return Err(Refusal::TargetNotAscii),
            b'!'..=b'~' => {}
            _ => return Err(Refusal::TargetMalformed),
        }
    }
    Ok(())
}

fn after_scheme(text: &str) -> Result<&str, Refusal> {
    let (scheme, rest) = text.split_once("://").ok_or(Refusal::TargetMalformed)?;
    let known = ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known));
    if known { Ok(rest) } else { Err(Refusal::SchemeUnsupported) }
}
