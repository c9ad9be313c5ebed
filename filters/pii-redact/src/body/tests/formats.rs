//! Actions, operators and decoding, seen through bodies.

use miniz_oxide::deflate::{compress_to_vec, compress_to_vec_zlib};

use super::*;

#[test]
fn operators_write_what_they_are_told() {
    let config = r#"{"salt":"0123456789abcdef","maskChar":"X","entities":[
        {"type":"card","operator":"mask","keepLast":4},
        {"type":"email","operator":"hash"},
        {"type":"phone","with":"(phone)"},
        {"type":"ssn","operator":"mask","maskChar":"x"}]}"#;
    let body = "4111-1111-1111-1111 a@b.com A@B.com 090-1234-5678 123-45-6789 1.2.3.4";
    let out = redact_by(config, "text/plain", body);
    let parts: Vec<&str> = out.split(' ').collect();
    assert_eq!(parts[0], "XXXX-XXXX-XXXX-1111");
    assert_eq!(parts[1], parts[2]);
    assert!(parts[1].starts_with("<EMAIL:") && parts[1].len() == 40);
    assert_eq!(parts[3..], ["(phone)", "xxx-xx-xxxx", "1.2.3.4"]);
}

#[test]
fn a_replacement_is_escaped_for_its_format() {
    let config = r#"{"entities":[{"type":"email","with":"\"& \\"}]}"#;
    assert_eq!(redact_by(config, "application/json", r#"["a@b.com"]"#), r#"["\"& \\"]"#);
    let form = redact_by(config, "application/x-www-form-urlencoded", "a=a@b.com&b=1");
    assert_eq!(form, "a=%22%26%20%5C&b=1");
}

#[test]
fn allowed_values_stay_and_longer_ones_do_not() {
    let config = r#"{"allow":["noreply@example.com","127.0.0.1"]}"#;
    let body = "noreply@example.com xnoreply@example.com 127.0.0.1 127.0.0.11";
    assert_eq!(redact_by(config, "text/plain", body), "noreply@example.com <EMAIL> 127.0.0.1 <IP>");
}

#[test]
fn counted_entities_stay_and_are_counted_once() {
    let config = r#"{"action":"count","entities":["card",{"type":"email","action":"redact"}]}"#;
    let mut scan = scan(config, "text/plain", None);
    let body = b"4111111111111111 a@b.com 4111 1111 1111 1111@x";
    let out = run(&mut scan, [&body[..]]).unwrap();
    assert_eq!(out, b"4111111111111111 <EMAIL> 4111 1111 1111 1111@x");
    let counts: Vec<_> = scan.tally().take().collect();
    assert_eq!(counts, [(Entity::Email, 1), (Entity::Card, 2)]);
    assert_eq!(scan.tally().take().count(), 0);
}

#[test]
fn nothing_of_a_blocked_match_leaves() {
    let mut scan = scan(r#"{"action":"block"}"#, "text/plain", None);
    assert_eq!(scan.push(b"clean a@b.").unwrap(), b"clean ");
    assert_eq!(scan.push(b"com "), Err(Stop::Blocked(Entity::Email)));
}

#[test]
fn numbers_and_keys_of_json_follow_their_switches() {
    let body = r#"{"a@b.com":4111111111111111,"x":[-4111111111111111,4111111111111111.5]}"#;
    let off = redact_by(r#"{"jsonNumbers":false}"#, "application/json", body);
    assert_eq!(off, body);
    let keys = redact_by(r#"{"jsonKeys":true}"#, "application/json", body);
    assert_eq!(keys, r#"{"<EMAIL>":"<CARD>","x":["<CARD>","<CARD>"]}"#);
}

#[test]
fn what_is_nested_too_deeply_is_scanned_as_text() {
    let body = format!("{}\"a\\u0040b.com\" 1.2.3.4", "[".repeat(2000));
    let out = redact("application/json", &body);
    assert!(out.ends_with("\"<EMAIL>\" <IP>"), "{}", &out[1990..]);
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut packed = b"\x1F\x8B\x08\x0E\0\0\0\0\0\xFF\x02\0\x01\x02name\0comment\0".to_vec();
    packed[3] = 4 | 8 | 16 | 2;
    packed.extend([0xAA, 0xBB]);
    packed.extend(compress_to_vec(text, 6));
    packed.extend([0; 8]);
    packed
}

#[test]
fn gzip_and_deflate_are_decoded_in_chunks_of_any_size() {
    let text = "mail taro@example.com, ".repeat(500);
    let want = text.replace("taro@example.com", "<EMAIL>");
    let two = [gzip(text.as_bytes()), gzip(text.as_bytes())].concat();
    let cases = [
        (Coding::Gzip, gzip(text.as_bytes()), want.clone()),
        (Coding::Gzip, two, want.repeat(2)),
        (Coding::Deflate, compress_to_vec_zlib(text.as_bytes(), 6), want.clone()),
        (Coding::Deflate, compress_to_vec(text.as_bytes(), 6), want),
    ];
    for (coding, packed, want) in cases {
        for size in [1, 2, 7, 100, packed.len()] {
            let mut scan = scan("{}", "text/plain", Some(coding));
            let out = run(&mut scan, packed.chunks(size)).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), want, "{coding:?} by {size}");
        }
    }
}

#[test]
fn a_body_that_is_not_in_its_coding_is_stopped() {
    let packed = gzip(b"text");
    let cases: [(Coding, &[u8]); 5] = [
        (Coding::Gzip, b"plain a@b.com text"),
        (Coding::Gzip, &packed[..packed.len() - 3]),
        (Coding::Gzip, &[&packed[..], b"trailing bytes"].concat()),
        (Coding::Deflate, b"\x78\x9C\xFF\xFF\xFF\xFF"),
        (Coding::Deflate, &[&compress_to_vec_zlib(b"a", 6)[..], b"x"].concat()),
    ];
    for (coding, body) in cases {
        let mut scan = scan("{}", "text/plain", Some(coding));
        assert_eq!(run(&mut scan, [body]), Err(Stop::Malformed), "{body:?}");
    }
    assert_eq!(run(&mut scan("{}", "text/plain", Some(Coding::Gzip)), []), Ok(Vec::new()));
}

#[test]
fn a_bomb_is_stopped_by_its_ratio_or_its_size() {
    let bomb = gzip(&vec![b'a'; 4 << 20]);
    let mut by_ratio = scan("{}", "text/plain", Some(Coding::Gzip));
    assert_eq!(run(&mut by_ratio, [&bomb[..]]), Err(Stop::TooLarge));
    let config = r#"{"inflate":{"bytesMax":1000,"ratioMax":5000}}"#;
    let mut by_size = scan(config, "text/plain", Some(Coding::Gzip));
    assert_eq!(run(&mut by_size, [&gzip(&[b'a'; 1001])[..]]), Err(Stop::TooLarge));
}

#[test]
fn text_that_cannot_be_read_is_stopped_at_its_first_bytes() {
    for body in
        [&b"\xFF\xFEa\0@\0b\0"[..], b"\xFE\xFF\0a", b"\x1F\x8B\x08\0\0\0", b"\x28\xB5\x2F\xFD\0"]
    {
        let mut scan = scan("{}", "text/plain", None);
        assert_eq!(run(&mut scan, [body]), Err(Stop::Unreadable), "{body:?}");
    }
    let wide: Vec<u8> = "a@b.com".bytes().flat_map(|byte| [byte, 0]).collect();
    assert_eq!(run(&mut scan("{}", "text/plain", None), [&wide[..]]).unwrap(), b"<EMAIL>\0");
}
