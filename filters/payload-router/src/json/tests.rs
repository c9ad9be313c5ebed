//! Pointers, texts and cuts.
#![allow(clippy::unwrap_used, reason = "a test")]

use super::*;

fn scan(text: &[u8], pointer: &str, chunk: usize) -> (Scan, usize) {
    let mut scanner = Scanner::new(Pointer::parse(pointer).unwrap());
    let mut read = 0;
    for piece in text.chunks(chunk) {
        match scanner.push(piece) {
            Scan::More => read += piece.len(),
            decided => return (decided, read),
        }
    }
    (scanner.finish(), read)
}

fn found(value: &str) -> Scan {
    Scan::Found(value.to_owned())
}

#[test]
fn a_pointer_finds_the_same_value_however_the_text_is_cut() {
    use Why::{Absent, Malformed, NotScalar, TooDeep, TooLong};
    let deep = "[".repeat(DEPTH_MAX + 1);
    let long = format!("{{\"a\": \"{}\"}}", "x".repeat(KEY_BYTES_MAX + 1));
    let fits = format!("{{\"a\": \"{}\"}}", "x".repeat(KEY_BYTES_MAX));
    let cases: Vec<(&str, &str, Scan)> = vec![
        (r#"{"a": {"b": "x"}}"#, "/a/b", found("x")),
        (r#"{"z": [1, {"b": 2}], "a": {"c": {}, "b": "x"}}"#, "/a/b", found("x")),
        (r#"{"b": "no", "a": [{"b": "no"}, {"b": "x"}]}"#, "/a/1/b", found("x")),
        (r#"[[], [10, 11]]"#, "/1/1", found("11")),
        (r#"[5]"#, "/00", Scan::Missing(Absent)),
        (r#"[5]"#, "/-", Scan::Missing(Absent)),
        (r#"{"0": 7}"#, "/0", found("7")),
        (r#"{"a": -12.5e+3 }"#, "/a", found("-12.5e+3")),
        (r#"{"a": 0}"#, "/a", found("0")),
        (r#"{"a": true}"#, "/a", found("true")),
        (r#"{"a": false}"#, "/a", found("false")),
        (r#"{"a": null}"#, "/a", Scan::Missing(Absent)),
        (r#"{"a": "null"}"#, "/a", found("null")),
        ("42", "", found("42")),
        (r#" "top" "#, "", found("top")),
        (r#"{"": 1}"#, "/", found("1")),
        (r#"{"a/b": {"m~n": 1}}"#, "/a~1b/m~0n", found("1")),
        // Escapes, in names too.
        (r#"{"\u0061\u0062": "x"}"#, "/ab", found("x")),
        (r#"{"a": "\u00e9\ud83d\ude00\n\/"}"#, "/a", found("é😀\n/")),
        ("{\"é\": \"😀\"}", "/é", found("😀")),
        (r#"{"a": "\ud83d"}"#, "/a", Scan::Missing(Malformed)),
        (r#"{"a": "\ud83dx"}"#, "/a", Scan::Missing(Malformed)),
        (r#"{"a": "\ud83d\n"}"#, "/a", Scan::Missing(Malformed)),
        (r#"{"a": "\ude00"}"#, "/a", Scan::Missing(Malformed)),
        (r#"{"a": "\x"}"#, "/a", Scan::Missing(Malformed)),
        (r#"{"a": "\u12g4"}"#, "/a", Scan::Missing(Malformed)),
        // The first member of a name counts.
        (r#"{"a": "x", "a": "y"}"#, "/a", found("x")),
        (r#"{"a": 1, "a": {"b": 2}}"#, "/a/b", Scan::Missing(Absent)),
        (r#"{"a": {}, "a": {"b": 2}}"#, "/a/b", Scan::Missing(Absent)),
        (r#"{"a": {"b": 1}}"#, "/a", Scan::Missing(NotScalar)),
        (r#"{"a": [1]}"#, "/a", Scan::Missing(NotScalar)),
        (r#"{"b": 1}"#, "/a", Scan::Missing(Absent)),
        (r#"{}"#, "/a", Scan::Missing(Absent)),
        (r#"{"x": {"a": 1}}"#, "/a", Scan::Missing(Absent)),
        // What is passed over must be JSON.
        (r#"{"b": 01, "a": 1}"#, "/a", Scan::Missing(Malformed)),
        (r#"{"b": 1., "a": 1}"#, "/a", Scan::Missing(Malformed)),
        (r#"{"b": .1, "a": 1}"#, "/a", Scan::Missing(Malformed)),
        (r#"{"b": +1, "a": 1}"#, "/a", Scan::Missing(Malformed)),
        (r#"{"b": NaN, "a": 1}"#, "/a", Scan::Missing(Malformed)),
        (r#"{"b": tru, "a": 1}"#, "/a", Scan::Missing(Malformed)),
        (r#"{'a': 1}"#, "/a", Scan::Missing(Malformed)),
        (r#"{a: 1}"#, "/a", Scan::Missing(Malformed)),
        (r#"{"b": 1,, "a": 1}"#, "/a", Scan::Missing(Malformed)),
        (r#"{"b" 1, "a": 1}"#, "/a", Scan::Missing(Malformed)),
        (r#"{"b": [1}, "a": 1}"#, "/a", Scan::Missing(Malformed)),
        (r#"{"b": [1,], "a": 1}"#, "/a", Scan::Missing(Malformed)),
        (r#"{, "a": 1}"#, "/a", Scan::Missing(Malformed)),
        ("{\"b\": \"\t\", \"a\": 1}", "/a", Scan::Missing(Malformed)),
        ("\u{feff}{\"a\": 1}", "/a", Scan::Missing(Malformed)),
        (r#"{"a": 12"#, "/a", Scan::Missing(Malformed)),
        (r#"{"a": "x"#, "/a", Scan::Missing(Malformed)),
        ("", "/a", Scan::Missing(Malformed)),
        ("-", "", Scan::Missing(Malformed)),
        (&deep, "/0/a", Scan::Missing(TooDeep)),
        (&long, "/a", Scan::Missing(TooLong)),
        (&fits, "/a", Scan::Found("x".repeat(KEY_BYTES_MAX))),
    ];
    for (text, pointer, want) in cases {
        for chunk in 1..=text.len().clamp(1, 24) {
            let (got, _) = scan(text.as_bytes(), pointer, chunk);
            assert_eq!(got, want, "{pointer} in {text} by {chunk}");
        }
    }
}

#[test]
fn a_value_that_is_not_utf_8_is_malformed() {
    assert_eq!(scan(b"{\"a\": \"\xff\"}", "/a", 3).0, Scan::Missing(Why::Malformed));
}

#[test]
fn nothing_behind_the_value_is_read() {
    let text = br#"{"a": "x"} this is not JSON"#;
    let (got, read) = scan(text, "/a", 1);
    assert_eq!((got, read), (found("x"), br#"{"a": "x"#.len()));
}

#[test]
fn a_pointer_has_the_form_of_rfc_6901() {
    for bad in ["a", "a/b", "/~", "/~2", "/a~"] {
        assert_eq!(Pointer::parse(bad), None, "{bad}");
    }
    assert_eq!(Pointer::parse("/a~01"), Some(Pointer(["a~1".to_owned()].into())));
}
