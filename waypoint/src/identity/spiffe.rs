//! The grammar of SPIFFE IDs.

/// A SPIFFE ID's and a trust domain's length, in bytes.
const ID_BYTES_MAX: usize = 2048;
const TRUST_DOMAIN_BYTES_MAX: usize = 255;

/// Whether a URI claims to be a SPIFFE ID, right or wrong.
pub(super) fn claims_to_be(uri: &str) -> bool {
    uri.split_once(':').is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case("spiffe"))
}

/// Whether a text is a workload's SPIFFE ID: a trust domain and a path of segments, and nothing else.
///
/// # Source
///
/// SPIFFE-ID, sections 2.1 to 2.4; X509-SVID, section 5.2: a workload's has a path.
pub(super) fn is_workload(text: &str) -> bool {
    let Some((domain, path)) = text.strip_prefix("spiffe://").and_then(|id| id.split_once('/'))
    else {
        return false;
    };
    let in_domain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_');
    let in_segment = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let is_segment =
        |segment: &str| !matches!(segment, "" | "." | "..") && segment.bytes().all(in_segment);
    text.len() <= ID_BYTES_MAX
        && (1..=TRUST_DOMAIN_BYTES_MAX).contains(&domain.len())
        && domain.bytes().all(in_domain)
        && path.split('/').all(is_segment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_trust_domain_and_a_path_and_nothing_else() {
        let long = format!("spiffe://{}/a", "d".repeat(TRUST_DOMAIN_BYTES_MAX + 1));
        let longest = format!("spiffe://d/{}", "a".repeat(ID_BYTES_MAX - "spiffe://d/".len()));
        for (id, want) in [
            ("spiffe://cluster.local/ns/shop/sa/cart", true),
            ("spiffe://a_b-c.1/A.b_c-9", true),
            (longest.as_str(), true),
            (&format!("{longest}a"), false),
            (&long, false),
            ("spiffe://cluster.local", false),
            ("spiffe://cluster.local/", false),
            ("spiffe:///ns", false),
            ("spiffe://Cluster.local/ns", false),
            ("SPIFFE://cluster.local/ns", false),
            ("spiffe://cluster.local:8080/ns", false),
            ("spiffe://user@cluster.local/ns", false),
            ("spiffe://cluster.local/ns/", false),
            ("spiffe://cluster.local//ns", false),
            ("spiffe://cluster.local/ns/./a", false),
            ("spiffe://cluster.local/ns/../a", false),
            ("spiffe://cluster.local/n%73", false),
            ("spiffe://cluster.local/ns?a=b", false),
            ("spiffe://cluster.local/ns#a", false),
            ("spiffe://cluster.local/n\u{e4}", false),
            ("https://cluster.local/ns", false),
            ("", false),
        ] {
            assert_eq!(is_workload(id), want, "{id}");
        }
    }
}
