//! What a guest may read of a request by `proxy_get_property`, beyond what its headers tell.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use http::Version;
use parking_lot::Mutex;
use waypoint_abi::Attributes;

use crate::codec::ConnectionInfo;
use crate::route::RouteId;
use crate::trace::TraceIds;

/// The facts of one request that only the proxy knows.
pub struct StreamFacts {
    connection: Arc<ConnectionInfo>,
    version: Version,
    started: SystemTime,
    ids: TraceIds,
    port: u16,
    route: Mutex<Option<RouteId>>,
    upstream: Mutex<Option<SocketAddr>>,
}

impl StreamFacts {
    /// The facts at the time at which the request's head was read.
    pub fn new(
        connection: Arc<ConnectionInfo>,
        version: Version,
        ids: TraceIds,
        port: u16,
    ) -> Self {
        let (route, upstream) = (Mutex::new(None), Mutex::new(None));
        Self { connection, version, started: SystemTime::now(), ids, port, route, upstream }
    }

    /// The entrance's port, as the resources name it.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Sets the route, once it is chosen.
    pub fn set_route(&self, route: &RouteId) {
        *self.route.lock() = Some(route.clone());
    }

    /// Sets the endpoint, once it has answered.
    pub fn set_upstream(&self, address: SocketAddr) {
        *self.upstream.lock() = Some(address);
    }

    fn connection_attribute(&self, path: &[&str]) -> Option<Vec<u8>> {
        let tls = self.connection.tls.as_ref();
        match path {
            ["connection", "id"] | ["connection_id"] => {
                Some(self.connection.id.to_le_bytes().to_vec())
            }
            ["connection", "mtls"] => Some(vec![u8::from(self.connection.certificate().is_some())]),
            ["connection", "requested_server_name"] => text(tls?.sni.as_deref()?),
            ["connection", "tls_version"] => text(&format!("TLSv{}", tls?.version)),
            ["connection", fact] => self.certificate_attribute(fact),
            _ => None,
        }
    }

    /// Of a certificate that was verified; of another one nothing is said.
    fn certificate_attribute(&self, fact: &str) -> Option<Vec<u8>> {
        let peer = self.connection.certificate()?;
        match fact {
            "subject_peer_certificate" => text(&peer.subject),
            "uri_san_peer_certificate" => text(peer.uri_san.as_deref()?),
            "dns_san_peer_certificate" => text(peer.dns_san.as_deref()?),
            "sha256_peer_certificate_digest" => text(&peer.sha256),
            _ => None,
        }
    }
}

/// # Source
///
/// Envoy's attributes (`docs/root/intro/arch_overview/advanced/attributes.rst`): strings raw,
/// integers 8 bytes little endian, booleans one byte, times in nanoseconds.
impl Attributes for StreamFacts {
    fn get(&self, path: &[&str]) -> Option<Vec<u8>> {
        match path {
            ["source", "address"] => text(&self.connection.peer.to_string()),
            ["source", "port"] => integer(i64::from(self.connection.peer.port())),
            ["destination", "address"] => text(&self.connection.local.to_string()),
            ["destination", "port"] => integer(i64::from(self.connection.local.port())),
            ["request", "id"] => Some(self.ids.request_id.as_bytes().to_vec()),
            ["request", "protocol"] => text(protocol(self.version)),
            ["request", "time"] => {
                let since = self.started.duration_since(UNIX_EPOCH).unwrap_or_default();
                integer(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
            }
            ["xds", "route_name"] | ["route_name"] => text(self.route.lock().as_deref()?),
            ["xds", "listener_direction"] | ["listener_direction"] => integer(1),
            ["upstream", "address"] => text(&self.upstream.lock().as_ref()?.to_string()),
            ["upstream", "port"] => integer(i64::from(self.upstream.lock().as_ref()?.port())),
            _ => self.connection_attribute(path),
        }
    }
}

/// The protocol as Envoy spells it, in attributes and in the access log.
pub fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/1.1",
    }
}

fn text(value: &str) -> Option<Vec<u8>> {
    Some(value.as_bytes().to_vec())
}

fn integer(value: i64) -> Option<Vec<u8>> {
    Some(value.to_le_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair,
        KeyUsagePurpose, SanType,
    };
    use rustls_pki_types::UnixTime;
    use waypoint_policies::{ClientAuthority, ClientValidation, ResourceKey, ValidationMode};

    use super::*;
    use crate::codec::TlsInfo;
    use crate::identity::{ClientTrust, PeerCertificate};
    use crate::listener::TlsTerms;

    /// A certificate with names of both kinds, as it is after its verification.
    fn verified() -> PeerCertificate {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let mut params = CertificateParams::new(["cart.shop".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "cart");
        params.subject_alt_names.push(SanType::URI("spiffe://a/cart".try_into().unwrap()));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let leaf = params.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap();
        let (kind, namespace, name) = ("ConfigMap".into(), "shop".into(), "authority".into());
        let source = ResourceKey { kind, namespace, name };
        let authorities =
            vec![ClientAuthority { source, pem: issuer.pem().into(), revocations: None }];
        let settings = ClientValidation { mode: ValidationMode::AllowValidOnly, authorities };
        let (trust, problems) = ClientTrust::build(&settings, None, &TlsTerms::provider());
        assert!(problems.is_empty());
        trust.verify(&[leaf.der().clone()], UnixTime::now()).unwrap()
    }

    fn facts(peer: Option<PeerCertificate>) -> StreamFacts {
        let (alpn, peer) = (None, peer.map(Arc::new));
        let tls = TlsInfo { sni: Some("shop.test".to_owned()), alpn, version: "1.3", peer };
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let connection =
            ConnectionInfo::new(at(4000), at(443), "gateway/shop/443".into(), Some(tls));
        let ids = crate::trace::bind(&mut http::HeaderMap::new());
        StreamFacts::new(Arc::new(connection), Version::HTTP_2, ids, 443)
    }

    #[test]
    fn a_guest_reads_of_a_client_certificate_what_it_reads_on_envoy() {
        let peer = verified();
        let digest = peer.sha256.clone();
        let facts = facts(Some(peer));
        for (name, want) in [
            ("mtls", "\u{1}"),
            ("tls_version", "TLSv1.3"),
            ("requested_server_name", "shop.test"),
            ("subject_peer_certificate", "CN=cart"),
            ("uri_san_peer_certificate", "spiffe://a/cart"),
            ("dns_san_peer_certificate", "cart.shop"),
            ("sha256_peer_certificate_digest", &digest),
        ] {
            assert_eq!(
                facts.get(&["connection", name]).as_deref(),
                Some(want.as_bytes()),
                "{name}"
            );
        }
    }

    #[test]
    fn a_guest_reads_nothing_of_a_certificate_that_was_not_verified() {
        let facts = facts(None);
        assert_eq!(facts.get(&["connection", "mtls"]), Some(vec![0]));
        for name in ["subject", "uri_san", "dns_san"] {
            assert_eq!(facts.get(&["connection", &format!("{name}_peer_certificate")]), None);
        }
        assert_eq!(facts.get(&["connection", "sha256_peer_certificate_digest"]), None);
    }
}
