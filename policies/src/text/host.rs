//! Hosts: names of them, and origins.

use super::Format;
use crate::model::Hostname;
use crate::route::OriginMatch;

/// A hostname, or `*.` and a suffix.
///
/// # Source
///
/// Gateway API, `Hostname`.
#[derive(Debug)]
pub(crate) struct HostnameText;

impl Format for HostnameText {
    const NAME: &'static str = "gateway-hostname";
    const EXPECTED: &'static str =
        "a lower-case DNS name such as `api.example.com` or `*.example.com`, without a port";
    const PATTERN: Option<&'static str> =
        Some("^(\\*\\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$");
    type Value = Hostname;

    fn parse(text: &str) -> Result<Hostname, String> {
        let name = text.strip_prefix("*.").unwrap_or(text);
        if text.parse::<std::net::IpAddr>().is_ok() {
            return Err(format!("`{text}` is an address; a hostname is a name"));
        }
        if text.len() > 253 || !name.split('.').all(is_label) {
            return Err(format!("`{text}` is not a hostname"));
        }
        let name = name.to_owned();
        Ok(if text.starts_with("*.") { Hostname::Wildcard(name) } else { Hostname::Exact(name) })
    }
}

/// A hostname without a wildcard.
///
/// # Source
///
/// Gateway API, `PreciseHostname`.
#[derive(Debug)]
pub(crate) struct PreciseHostname;

impl Format for PreciseHostname {
    const NAME: &'static str = "gateway-precise-hostname";
    const EXPECTED: &'static str =
        "a lower-case DNS name such as `api.example.com`, without a wildcard and a port";
    type Value = String;

    fn parse(text: &str) -> Result<String, String> {
        match HostnameText::parse(text)? {
            Hostname::Exact(name) => Ok(name),
            Hostname::Wildcard(_) => Err(format!("`{text}` has a wildcard")),
        }
    }
}

/// An origin that scripts come from.
///
/// # Source
///
/// Gateway API, `CORSOrigin`.
#[derive(Debug)]
pub(crate) struct OriginText;

impl Format for OriginText {
    const NAME: &'static str = "cors-origin";
    const EXPECTED: &'static str =
        "`*`, or an origin such as `https://app.example.com` or `https://*.example.com:8443`";
    type Value = OriginMatch;

    fn parse(text: &str) -> Result<OriginMatch, String> {
        OriginMatch::parse(text)
    }
}

/// A DNS label.
pub(super) fn is_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}
