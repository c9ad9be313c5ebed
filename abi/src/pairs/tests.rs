//! The serialization, by its bytes.

use super::{PAIRS_BYTES_MAX, PAIRS_MAX, decode_pairs, encode_pairs};
use crate::headers::Headers;

#[test]
fn pairs_have_the_abis_bytes() {
    let headers: Headers = [("a", "1"), ("bc", "")].into_iter().collect();
    let bytes = b"\x02\0\0\0\x01\0\0\0\x01\0\0\0\x02\0\0\0\0\0\0\0a\x001\0bc\0\0";
    assert_eq!(encode_pairs(&headers), &bytes[..]);
    assert_eq!(decode_pairs(bytes), Some(headers));
}

#[test]
fn pairs_round_trip() {
    let lines = |n: usize| (0..n).map(|i| (format!("n{i}"), "v".repeat(i % 40)));
    for count in [0, 1, 7, 100, PAIRS_MAX] {
        let headers: Headers = lines(count).collect();
        assert_eq!(decode_pairs(&encode_pairs(&headers)), Some(headers), "{count}");
    }
    let too_many: Headers = lines(PAIRS_MAX + 1).collect();
    assert_eq!(decode_pairs(&encode_pairs(&too_many)), None);
    let too_long: Headers = [("a", "b".repeat(PAIRS_BYTES_MAX))].into_iter().collect();
    assert_eq!(decode_pairs(&encode_pairs(&too_long)), None);
}

#[test]
fn empty_map_has_three_spellings() {
    for bytes in [&b""[..], b"\0", b"\0\0\0\0"] {
        assert_eq!(decode_pairs(bytes), Some(Headers::new()), "{bytes:?}");
    }
}

#[test]
fn every_cut_and_every_wrong_byte_of_the_frame_is_refused() {
    let whole = encode_pairs(&[("name", "value"), ("n", "v")].into_iter().collect());
    for end in 2..whole.len() {
        assert_eq!(decode_pairs(&whole[..end]), None, "cut at {end}");
    }
    for at in 0..20 {
        let mut wrong = whole.to_vec();
        wrong[at] ^= 0x80;
        assert_eq!(decode_pairs(&wrong), None, "byte {at}");
    }
    let mut longer = whole.to_vec();
    longer.push(0);
    assert_eq!(decode_pairs(&longer), None, "a byte too many");
}
