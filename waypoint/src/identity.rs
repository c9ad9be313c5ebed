//! Stage 3: who sent this request, and what the next hop is told about it.
//!
//! Takes a decoded request and its connection; gives the same request with forwarding headers that
//! can be trusted. It refuses nothing here: a caller that lies is corrected, and a client without
//! the certificate that its port demands was refused in the handshake, by a [`ClientTrust`]. It
//! holds nothing, so dropping a request in this stage loses nothing.
//!
//! Fails closed: `x-forwarded-for`, `-proto` and `-host` of a caller that is not a configured
//! trusted hop are removed and made anew, and identity headers that only a proxy may write
//! (`x-forwarded-client-cert`, `x-envoy-*`) are always removed; the former is made anew where the
//! client's certificate was verified. What such a caller's `baggage` says of a workload is removed.

mod baggage;
mod certificate;
mod distinguished_name;
mod forwarded;
mod spiffe;
mod trust;

use std::net::IpAddr;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;

use crate::codec::ConnectionInfo;

pub use certificate::{CertificateFault, PeerCertificate};
pub(crate) use trust::fault;
pub use trust::{ClientTrust, TrustProblem};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED: HeaderName = http::header::FORWARDED;
const CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");

/// Networks whose `x-forwarded-*` headers are believed.
#[derive(Clone, Debug, Default)]
pub struct TrustedHops(pub Vec<IpNet>);

impl TrustedHops {
    /// Whether an address is in one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
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
    let proto = HeaderValue::from_static(if connection.tls.is_some() { "https" } else { "http" });
    if !headers.keys().any(may_forge) {
        headers.insert(FORWARDED_FOR, connection.peer_value.clone());
        headers.insert(FORWARDED_PROTO, proto);
        return forward_certificate(headers, connection);
    }
    if trusted.contains(connection.peer.ip()) {
        append_peer(headers, &connection.peer_value);
    } else {
        headers.remove(FORWARDED);
        headers.remove(FORWARDED_HOST);
        headers.insert(FORWARDED_FOR, connection.peer_value.clone());
        headers.remove(FORWARDED_PROTO);
        baggage::remove_workload(headers);
    }
    let kept = headers.get(FORWARDED_PROTO).map(HeaderValue::as_bytes);
    if !matches!(kept, Some(b"http" | b"https")) {
        headers.insert(FORWARDED_PROTO, proto);
    }
    headers.remove(CLIENT_CERT);
    remove_envoy_headers(headers);
    forward_certificate(headers, connection);
}

fn forward_certificate(headers: &mut HeaderMap, connection: &ConnectionInfo) {
    if let Some(value) = connection.certificate().and_then(|peer| peer.forwarded.clone()) {
        headers.insert(CLIENT_CERT, value);
    }
}

/// Whether a name may be one of those that are removed or read here. Most requests have none, and
/// one look at their names is cheaper than a search for each of ours.
fn may_forge(name: &HeaderName) -> bool {
    let name = name.as_str();
    name.starts_with("x-forwarded-")
        || name.starts_with("x-envoy-")
        || matches!(name, "forwarded" | "baggage")
}

fn append_peer(headers: &mut HeaderMap, peer: &HeaderValue) {
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
    chain.extend_from_slice(peer.as_bytes());
    let value = HeaderValue::from_bytes(&chain).unwrap_or_else(|_| peer.clone());
    headers.insert(FORWARDED_FOR, value);
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
        let peer = format!("{peer}:4000").parse().unwrap();
        let local = "127.0.0.1:80".parse().unwrap();
        ConnectionInfo::new(peer, local, "gateway/default/80".into(), None)
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
            ("baggage", "k8s.namespace.name=bank,tenant=a"),
        ]);
        bind(&mut map, &connection("192.0.2.7"), &TrustedHops::default());
        assert_eq!(map["x-forwarded-for"], "192.0.2.7");
        assert_eq!(map["x-forwarded-proto"], "http");
        assert!(!map.contains_key("x-forwarded-client-cert"));
        assert!(!map.contains_key("x-envoy-internal"));
        assert_eq!(map["baggage"], "tenant=a");
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
