//! Stage 3: who sent this request, and what the next hop is told about it.
//!
//! Takes a decoded request and its connection; gives the same request with forwarding headers that
//! can be trusted. It refuses nothing here: a caller that lies is corrected. It holds nothing, so
//! dropping a request in this stage loses nothing.
//!
//! Fails closed: `x-forwarded-for`, `-proto` and `-host` of a caller that is not a configured
//! trusted hop are removed and made anew, and identity headers that only a proxy may write
//! (`x-forwarded-client-cert`, `x-envoy-*`) are always removed.

use std::net::IpAddr;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;

use crate::codec::ConnectionInfo;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED: HeaderName = http::header::FORWARDED;
const CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");

/// Networks whose `x-forwarded-*` headers are believed.
#[derive(Clone, Debug, Default)]
pub struct TrustedHops(pub Vec<IpNet>);

impl TrustedHops {
    fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// Rewrites the forwarding headers for the next hop.
///
/// A trusted hop's `x-forwarded-for` is kept and its address appended; its `x-forwarded-proto` is
/// kept if it is `http` or `https`. Anyone else's are replaced.
///
/// # Source
///
/// RFC 7239 section 8 (security considerations); Envoy's `use_remote_address`.
pub fn bind(headers: &mut HeaderMap, connection: &ConnectionInfo, trusted: &TrustedHops) {
    let peer = connection.peer.ip().to_canonical();
    if trusted.contains(peer) {
        append_peer(headers, peer);
    } else {
        headers.remove(FORWARDED);
        headers.remove(FORWARDED_HOST);
        headers.insert(FORWARDED_FOR, address_value(peer));
        headers.remove(FORWARDED_PROTO);
    }
    let proto = headers.get(FORWARDED_PROTO).map(HeaderValue::as_bytes);
    if !matches!(proto, Some(b"http" | b"https")) {
        let made = if connection.tls.is_some() { "https" } else { "http" };
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static(made));
    }
    headers.remove(CLIENT_CERT);
    remove_envoy_headers(headers);
}

fn append_peer(headers: &mut HeaderMap, peer: IpAddr) {
    let mut chain: Vec<u8> = Vec::with_capacity(64);
    for value in headers.get_all(FORWARDED_FOR) {
        if !chain.is_empty() {
            chain.extend_from_slice(b", ");
        }
        chain.extend_from_slice(value.as_bytes());
    }
    if !chain.is_empty() {
        chain.extend_from_slice(b", ");
    }
    chain.extend_from_slice(peer.to_string().as_bytes());
    let value = HeaderValue::from_bytes(&chain).unwrap_or_else(|_| address_value(peer));
    headers.insert(FORWARDED_FOR, value);
}

fn address_value(address: IpAddr) -> HeaderValue {
    HeaderValue::from_str(&address.to_string()).expect("an IP address is a valid header value")
}

fn remove_envoy_headers(headers: &mut HeaderMap) {
    if !headers.keys().any(|name| name.as_str().starts_with("x-envoy-")) {
        return;
    }
    let names: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with("x-envoy-")).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(peer: &str) -> ConnectionInfo {
        ConnectionInfo {
            peer: format!("{peer}:4000").parse().unwrap(),
            local: "127.0.0.1:80".parse().unwrap(),
            entrance: "gateway/default/80".into(),
            tls: None,
            id: 1,
        }
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn a_caller_that_is_not_trusted_cannot_choose_its_address() {
        let mut map = headers(&[
            ("x-forwarded-for", "1.2.3.4"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-client-cert", "By=spiffe://x"),
            ("x-envoy-internal", "true"),
        ]);
        bind(&mut map, &connection("192.0.2.7"), &TrustedHops::default());
        assert_eq!(map["x-forwarded-for"], "192.0.2.7");
        assert_eq!(map["x-forwarded-proto"], "http");
        assert!(!map.contains_key("x-forwarded-client-cert"));
        assert!(!map.contains_key("x-envoy-internal"));
    }

    #[test]
    fn a_trusted_hop_keeps_the_chain_and_is_appended() {
        let mut map = headers(&[("x-forwarded-for", "1.2.3.4"), ("x-forwarded-proto", "https")]);
        let trusted = TrustedHops(vec!["10.0.0.0/8".parse().unwrap()]);
        bind(&mut map, &connection("10.1.1.1"), &trusted);
        assert_eq!(map["x-forwarded-for"], "1.2.3.4, 10.1.1.1");
        assert_eq!(map["x-forwarded-proto"], "https");
    }
}
