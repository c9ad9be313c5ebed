//! For whom a request is: one authority in one spelling.

use std::{borrow::Cow, net::Ipv6Addr};

use http::{HeaderMap, HeaderValue, header};

use super::Refusal;

#[cfg(test)]
mod tests;

/// A name in the domain name system, in bytes.
const HOST_BYTES_MAX: usize = 255;

/// The one `Host` field, if there is any.
pub(in crate::codec) fn host_field(headers: &HeaderMap) -> Result<Option<&HeaderValue>, Refusal> {
    let mut values = headers.get_all(header::HOST).iter();
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        (_, Some(_)) => Err(Refusal::HostRepeated),
    }
}

/// The authority of a request that names it in its target (or `:authority`), in `Host`, or in both
/// alike.
pub(in crate::codec) fn authority_of<'a>(
    target: Option<&'a [u8]>,
    host: Option<&'a [u8]>,
) -> Result<Cow<'a, str>, Refusal> {
    match (target, host) {
        (None, None) => Err(Refusal::HostMissing),
        (Some(name), None) | (None, Some(name)) => authority(name),
        (Some(target), Some(host)) => {
            let target = authority(target)?;
            if target == authority(host)? { Ok(target) } else { Err(Refusal::HostMismatch) }
        }
    }
}

/// Checks an authority and gives its one spelling: lower case, without the root's dot. A port stays
/// as it was written, the scheme's own port too: matching ignores it, origins see it.
///
/// # Errors
///
/// The check that failed: userinfo, a list, a bad port, or anything that is not `name`, `IPv4` or
/// `[IPv6]`.
pub fn authority(text: &[u8]) -> Result<Cow<'_, str>, Refusal> {
    if text.is_empty() {
        return Err(Refusal::HostMissing);
    }
    for byte in text {
        match byte {
            b'@' => return Err(Refusal::HostUserinfo),
            b',' | b' ' | b'\t' => return Err(Refusal::HostList),
            _ => {}
        }
    }
    let text = std::str::from_utf8(text).map_err(|_| Refusal::HostMalformed)?;
    let (host, port) = split_port(text)?;
    let name = host_name(host)?;
    let dotted = name.len() != host.len();
    if !dotted && !text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Ok(Cow::Borrowed(text));
    }
    let mut spelled = name.to_ascii_lowercase();
    if let Some(port) = port {
        spelled.push(':');
        spelled.push_str(port);
    }
    Ok(Cow::Owned(spelled))
}

/// The host and its port, which must be a decimal number from 1 to 65535 if it is there.
fn split_port(text: &str) -> Result<(&str, Option<&str>), Refusal> {
    let bytes = text.as_bytes();
    let after_bracket = bytes.iter().rposition(|byte| *byte == b']').map_or(0, |at| at + 1);
    let Some(colon) = bytes[after_bracket..].iter().position(|byte| *byte == b':') else {
        return Ok((text, None));
    };
    let (host, port) = text.split_at(after_bracket + colon);
    let port = &port[1..];
    let plain = port.bytes().all(|byte| byte.is_ascii_digit()) && !port.starts_with('0');
    match port.parse::<u16>() {
        Ok(_) if plain => Ok((host, Some(port))),
        _ => Err(Refusal::HostPort),
    }
}

/// The host without the root's dot.
fn host_name(host: &str) -> Result<&str, Refusal> {
    if let Some(address) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        return address.parse::<Ipv6Addr>().map(|_| host).map_err(|_| Refusal::HostMalformed);
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    let mut label_is_empty = true;
    for byte in name.bytes() {
        match byte {
            b'.' if !label_is_empty => label_is_empty = true,
            _ if is_label(byte) => label_is_empty = false,
            _ => return Err(Refusal::HostMalformed),
        }
    }
    match label_is_empty || HOST_BYTES_MAX < name.len() {
        true => Err(Refusal::HostMalformed),
        false => Ok(name),
    }
}

fn is_label(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~')
}
