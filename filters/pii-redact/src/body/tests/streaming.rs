//! What must hold for every format and every cut into chunks.

use super::corpus::{CLEAN, DIRTY};
use super::*;
use crate::window::REACH_BYTES;

#[test]
fn every_document_of_the_corpus_is_redacted_as_expected() {
    for (content_type, body, want) in DIRTY {
        assert_eq!(redact(content_type, body), *want, "{content_type}");
    }
}

#[test]
fn clean_bodies_leave_byte_for_byte() {
    for (content_type, body) in CLEAN {
        let out = run(&mut scan("{}", content_type, None), [*body]).unwrap();
        assert_eq!(out, *body, "{content_type}");
    }
}

fn all_documents() -> impl Iterator<Item = (&'static str, Vec<u8>)> {
    let dirty = DIRTY.iter().map(|(kind, body, _)| (*kind, body.as_bytes().to_vec()));
    let clean = CLEAN.iter().map(|(kind, body)| (*kind, body.to_vec()));
    dirty.chain(clean)
}

#[test]
fn a_split_at_any_byte_changes_nothing() {
    for (content_type, body) in all_documents() {
        let whole = run(&mut scan("{}", content_type, None), [&body[..]]).unwrap();
        for place in 0..=body.len() {
            let (first, second) = body.split_at(place);
            let out = run(&mut scan("{}", content_type, None), [first, second]).unwrap();
            assert_eq!(out, whole, "{content_type} at {place}");
        }
    }
}

#[test]
fn chunks_of_any_small_size_change_nothing() {
    for (content_type, body) in all_documents() {
        let whole = run(&mut scan("{}", content_type, None), [&body[..]]).unwrap();
        for size in [1, 2, 3, 5, 7, 11, 13, 17] {
            let out = run(&mut scan("{}", content_type, None), body.chunks(size)).unwrap();
            assert_eq!(out, whole, "{content_type} by {size}");
        }
    }
}

#[test]
fn no_more_is_held_back_than_the_longest_match() {
    let mut bodies: Vec<(&str, Vec<u8>)> = all_documents().collect();
    for pattern in
        ["a", "1", "a@", "a.", "1:", "4111 ", "あ", "０", "+1", "a1", "::", "%40", "\\u0040"]
    {
        let text = pattern.repeat(3000);
        bodies.push(("text/plain", text.clone().into()));
        bodies.push(("application/x-www-form-urlencoded", text.clone().into()));
        bodies.push(("application/json", format!("\"{text}\"").into()));
    }
    for (content_type, body) in bodies {
        let mut scan = scan("{}", content_type, None);
        for (index, chunk) in body.chunks(10).enumerate() {
            scan.push(chunk).unwrap();
            let held = scan.scan.redactor.held();
            assert!(held <= REACH_BYTES, "{content_type} holds {held} at {index}");
        }
    }
}

#[test]
fn valid_json_stays_valid_and_keeps_its_structure() {
    fn shape(value: &serde_json::Value) -> String {
        match value {
            serde_json::Value::Object(map) => {
                let fields: Vec<_> = map.iter().map(|(k, v)| format!("{k}:{}", shape(v))).collect();
                format!("{{{}}}", fields.join(","))
            }
            serde_json::Value::Array(list) => {
                format!("[{}]", list.iter().map(shape).collect::<Vec<_>>().join(","))
            }
            _ => "_".into(),
        }
    }
    let config = r#"{"entities":[{"type":"email","with":"\"\\é<x>"},{"type":"card","operator":"mask","keepLast":4},"ip","phone","myNumber"]}"#;
    let mut seen = 0;
    for (content_type, body, _) in DIRTY {
        let Ok(before) =
            serde_json::from_str::<serde_json::Value>(body.trim_start_matches('\u{feff}'))
        else {
            continue;
        };
        let out = redact_by(config, content_type, body);
        let after = serde_json::from_str(out.trim_start_matches('\u{feff}')).unwrap();
        assert_eq!(shape(&before), shape(&after));
        seen += 1;
    }
    assert!(seen >= 5);
}

#[test]
fn what_may_leave_leaves_at_once() {
    let cases: [(&str, &[u8], &[u8]); 8] = [
        ("text/event-stream", b":\n\n", b":\n\n"),
        ("text/plain", b"a ", b"a "),
        ("application/json", b"[1,\"x y\"", b"[1,\"x y\""),
        ("application/x-ndjson", b"{\"a\":1}\n", b"{\"a\":1}\n"),
        ("application/octet-stream", b"ok\n", b"ok\n"),
        ("application/octet-stream", b"PK\x03\x04 taro@exam", b"PK\x03\x04 taro@exam"),
        ("application/x-www-form-urlencoded", b"a=1&", b"a=1&"),
        ("multipart/mixed; boundary=b", b"--b\r\n\r\nhello there ", b"--b\r\n\r\nhello there "),
    ];
    for (content_type, chunk, want) in cases {
        let left = scan("{}", content_type, None).push(chunk).unwrap();
        assert_eq!(left, want, "{content_type}");
    }
}

/// A small deterministic generator (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

#[test]
fn mutated_documents_never_panic_and_chunks_change_nothing() {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let documents: Vec<_> = all_documents().collect();
    for round in 0..20_000 {
        let (content_type, _) = &documents[random.below(documents.len())];
        let (_, body) = &documents[random.below(documents.len())];
        let mut body = body.clone();
        for _ in 0..random.below(6) {
            let place = random.below(body.len() + 1);
            match random.below(4) {
                0 if place < body.len() => body[place] = random.below(256) as u8,
                1 => body.insert(place, b"\"\\%@&=\n\r:0-."[random.below(12)]),
                2 => body.truncate(place),
                _ => {
                    let (_, other) = &documents[random.below(documents.len())];
                    let begin = random.below(other.len() + 1);
                    let tail = other[begin..].to_vec();
                    body.splice(place..place, tail);
                }
            }
        }
        let whole = run(&mut scan("{}", content_type, None), [&body[..]]);
        let (mut rest, mut chunks) = (&body[..], Vec::new());
        while !rest.is_empty() {
            let (chunk, behind) = rest.split_at(1 + random.below(rest.len().min(40)));
            chunks.push(chunk);
            rest = behind;
        }
        let cut = run(&mut scan("{}", content_type, None), chunks.iter().copied());
        let text = String::from_utf8_lossy(&body);
        assert_eq!(cut, whole, "round {round}, {content_type}: {text}");
    }
}
