//! `x-forwarded-client-cert`: what the next hop is told of a verified client certificate.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;

use super::PeerCertificate;

/// Characters of a line of PEM.
const LINE: usize = 64;

/// The header's value: hash, certificate, subject and the first URI and DNS name, as Istio's gateways
/// have Envoy write it.
///
/// # Source
///
/// Envoy, HTTP header manipulation, `x-forwarded-client-cert` (`SANITIZE_SET`).
pub(super) fn client_cert(peer: &PeerCertificate) -> Option<HeaderValue> {
    let mut out = format!("Hash={};Cert=\"", peer.sha256);
    encode_pem(&mut out, peer.chain.first()?);
    // Writing to a String cannot fail.
    let _ = write!(out, "\";Subject=\"{}\"", peer.subject.replace('"', "\\\""));
    for (key, name) in [("URI", &peer.uri_san), ("DNS", &peer.dns_san)] {
        let Some(name) = name else { continue };
        let _ = match name.contains([',', ';', '=', '"']) {
            true => write!(out, ";{key}=\"{}\"", name.replace('"', "\\\"")),
            false => write!(out, ";{key}={name}"),
        };
    }
    HeaderValue::try_from(out).ok()
}

/// PEM in which only letters, digits and `-._~` stand for themselves.
fn encode_pem(out: &mut String, der: &[u8]) {
    let text = STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(LINE.min(rest.len()));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    for byte in pem.bytes() {
        match byte {
            b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            byte if byte.is_ascii_alphanumeric() => out.push(char::from(byte)),
            byte => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
}
