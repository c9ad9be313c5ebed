//! PEM, as far as it can be told from its frame: blocks of a label, each whole and in base64. What
//! they say is read by whoever has a reader of it.

use crate::text::{Base64, Format};

/// Certificates (RFC 7468, section 5).
pub(crate) const CERTIFICATE: &str = "CERTIFICATE";

/// Certificate revocation lists (RFC 7468, section 6).
pub(crate) const REVOCATION_LIST: &str = "X509 CRL";

/// Whether a text holds blocks of this label, and each is whole.
///
/// # Source
///
/// RFC 7468, section 3.
pub(crate) fn holds(text: &str, label: &str) -> bool {
    let end = format!("-----END {label}-----");
    let begin = format!("-----BEGIN {label}-----");
    let mut blocks = text.split(begin.as_str()).skip(1).peekable();
    let is_whole = |block: &str| {
        let body = block.split_once(end.as_str()).map(|(body, _)| body);
        body.is_some_and(|body| Base64::parse(body).is_ok_and(|der| !der.is_empty()))
    };
    blocks.peek().is_some() && blocks.all(is_whole)
}
