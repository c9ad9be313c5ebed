//! From a head's bytes to a request, checked and normalised. Names and values are not copied.

use std::{borrow::Cow, mem::MaybeUninit};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version, header, uri::PathAndQuery,
};

use crate::codec::{
    CodecLimits, Upgrade,
    hygiene::{self, FIELDS_CEILING, Framing, Refusal},
};

#[cfg(test)]
mod tests;

/// A request without its body, and what this connection must know of it.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) request: Request<()>,
    pub(super) framing: Framing,
    pub(super) expects_continue: bool,
    /// The client does not want the connection closed.
    pub(super) stays: bool,
    pub(super) upgrade: Option<Upgrade>,
}

/// Reads a whole head; `encrypted` decides the URI's scheme.
pub(super) fn parse(head: &Bytes, encrypted: bool, limits: &CodecLimits) -> Result<Head, Refusal> {
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS_CEILING];
    let room = limits.headers_max.min(FIELDS_CEILING);
    let mut parsed = httparse::Request::new(&mut []);
    match parsed.parse_with_uninit_headers(head, &mut fields[..room]) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(Refusal::FieldMalformed),
        Err(httparse::Error::TooManyHeaders) => return Err(Refusal::TooManyFields),
        Err(_) => return Err(hygiene::diagnose(head)),
    }
    let (Some(method), Some(target), Some(minor)) = (parsed.method, parsed.path, parsed.version)
    else {
        return Err(Refusal::RequestLineMalformed);
    };
    if limits.target_bytes_max < target.len() {
        return Err(Refusal::TargetTooLong);
    }
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| Refusal::MethodMalformed)?;
    let version = if minor == 0 { Version::HTTP_10 } else { Version::HTTP_11 };
    parsed.headers.iter().try_for_each(|field| hygiene::field_name(field.name.as_bytes()))?;
    let headers = header_map(head, parsed.headers)?;
    let framing = hygiene::request_framing(version, &headers)?;
    let host = host(version, parsed.headers)?;
    let uri = uri(head, &method, target, host, encrypted, limits)?;
    into_request(method, uri, version, headers, framing)
}

pub(super) fn header_map(
    head: &Bytes,
    fields: &[httparse::Header<'_>],
) -> Result<HeaderMap, Refusal> {
    // Room for what later stages add.
    let mut headers = HeaderMap::with_capacity(fields.len() + 4);
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes())
            .map_err(|_| Refusal::FieldNameMalformed)?;
        let value = HeaderValue::from_maybe_shared(head.slice_ref(field.value))
            .map_err(|_| Refusal::ControlCharacter)?;
        headers.append(name, value);
    }
    Ok(headers)
}

/// The one `Host`, which HTTP/1.1 demands even beside an absolute-form (RFC 9112, 3.2).
fn host<'a>(
    version: Version,
    fields: &[httparse::Header<'a>],
) -> Result<Option<&'a [u8]>, Refusal> {
    let mut hosts = fields.iter().filter(|field| field.name.eq_ignore_ascii_case("host"));
    match (hosts.next(), hosts.next()) {
        (None, _) if version == Version::HTTP_11 => Err(Refusal::HostMissing),
        (host, None) => Ok(host.map(|host| host.value)),
        (_, Some(_)) => Err(Refusal::HostRepeated),
    }
}

/// Folds target and `Host` into one URI in its one spelling.
fn uri(
    head: &Bytes,
    method: &Method,
    target: &str,
    host: Option<&[u8]>,
    encrypted: bool,
    limits: &CodecLimits,
) -> Result<Uri, Refusal> {
    let target = hygiene::target(method, target)?;
    let authority = match hygiene::authority_of(target.authority.map(str::as_bytes), host)? {
        Cow::Borrowed(authority) => hygiene::to_authority(head.slice_ref(authority.as_bytes()))?,
        Cow::Owned(authority) => hygiene::to_authority(authority)?,
    };
    let path = match target.respelled(limits.encoded_slashes)? {
        None if target.rest == "*" => PathAndQuery::from_static("*"),
        None => hygiene::to_path(head.slice_ref(target.rest.as_bytes()))?,
        Some(path) => hygiene::to_path(path)?,
    };
    hygiene::request_uri(encrypted, authority, path)
}

/// Takes what is meant for this hop out of the fields.
fn into_request(
    method: Method,
    uri: Uri,
    version: Version,
    mut headers: HeaderMap,
    framing: Framing,
) -> Result<Head, Refusal> {
    let expects_continue = hygiene::expects_continue(version, &mut headers)?;
    let hop = hygiene::take_hop(&method, version, framing, &mut headers)?;
    headers.remove(header::HOST);
    let stays = !hop.close && (version == Version::HTTP_11 || hop.keep_alive);
    let mut request = Request::new(());
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.version_mut() = version;
    *request.headers_mut() = headers;
    if let Some(upgrade) = hop.upgrade {
        request.extensions_mut().insert(upgrade);
    }
    Ok(Head { request, framing, expects_continue, stays, upgrade: hop.upgrade })
}
