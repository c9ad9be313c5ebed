//! An HTTP/2 request's head, checked and normalised as an HTTP/1 one is.

use std::borrow::Cow;

use http::{
    Uri, header,
    request::Parts,
    uri::{PathAndQuery, Scheme},
};

use crate::codec::{
    CodecLimits,
    hygiene::{self, Refusal},
};

#[cfg(test)]
mod tests;

/// What a stream must know of a head that has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Checked {
    pub(super) expects_continue: bool,
    pub(super) length: Option<u64>,
}

/// Checks a head and gives it its one spelling; `encrypted` decides the URI's scheme.
pub(super) fn check(
    parts: &mut Parts,
    encrypted: bool,
    limits: &CodecLimits,
) -> Result<Checked, Refusal> {
    if limits.headers_max < parts.headers.len() {
        return Err(Refusal::TooManyFields);
    }
    parts.headers.keys().try_for_each(|name| hygiene::field_name(name.as_str().as_bytes()))?;
    parts.headers.values().try_for_each(|value| hygiene::field_value(value.as_bytes()))?;
    let length = hygiene::content_length(&parts.headers)?;
    parts.uri = uri(parts, encrypted, limits)?;
    let expects_continue = hygiene::expects_continue(parts.version, &mut parts.headers)?;
    hygiene::refuse_connection_specific(&parts.headers)?;
    hygiene::join_cookies(&mut parts.headers);
    parts.headers.remove(header::HOST);
    Ok(Checked { expects_continue, length })
}

fn uri(parts: &Parts, encrypted: bool, limits: &CodecLimits) -> Result<Uri, Refusal> {
    let path = parts.uri.path_and_query();
    let text = path.map_or("", PathAndQuery::as_str);
    if limits.target_bytes_max < text.len() {
        return Err(Refusal::TargetTooLong);
    }
    let target = hygiene::target(&parts.method, text)?;
    if target.authority.is_some() {
        return Err(Refusal::TargetMalformed);
    }
    if parts.uri.scheme().is_some_and(|scheme| ![Scheme::HTTP, Scheme::HTTPS].contains(scheme)) {
        return Err(Refusal::SchemeUnsupported);
    }
    let host = hygiene::host_field(&parts.headers)?.map(|host| host.as_bytes());
    let named = parts.uri.authority();
    let authority = hygiene::authority_of(named.map(|name| name.as_str().as_bytes()), host)?;
    let authority = match (authority, named) {
        (Cow::Borrowed(_), Some(named)) => named.clone(),
        (authority, _) => hygiene::to_authority(authority.into_owned())?,
    };
    let path = match (target.respelled(limits.encoded_slashes)?, path) {
        (None, Some(path)) => path.clone(),
        (None, None) => return Err(Refusal::TargetMalformed),
        (Some(path), _) => hygiene::to_path(path)?,
    };
    hygiene::request_uri(encrypted, authority, path)
}
