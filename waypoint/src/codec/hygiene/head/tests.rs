use super::*;

/// Feeds a head one byte at a time: what is found may not depend on how bytes arrive.
fn scan(head: &[u8]) -> Result<Option<HeadBounds>, Refusal> {
    let limits = HeadLimits::from(&CodecLimits::default());
    let mut scan = HeadScan::default();
    for end in 1..=head.len() {
        if let Some(bounds) = scan.advance(&head[..end], &limits)? {
            return Ok(Some(bounds));
        }
    }
    assert_eq!(HeadScan::default().advance(head, &limits), Ok(None), "as a whole");
    Ok(None)
}

#[test]
fn a_head_ends_at_its_empty_line_and_every_line_ends_in_crlf() {
    use Refusal as R;
    type Want = Result<Option<(usize, usize)>, Refusal>;
    let cases: [(&[u8], Want); 11] = [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\nbody", Ok(Some((0, 27)))),
        (b"\r\nGET / HTTP/1.1\r\n\r\n", Ok(Some((2, 20)))),
        (b"GET / HTTP/1.1\r\n", Ok(None)),
        (b"\r\n\r\nGET / HTTP/1.1\r\n\r\n", Err(R::RequestLineMalformed)),
        (b"GET / HTTP/1.1\nHost: a\r\n\r\n", Err(R::BareLineFeed)),
        (b"GET / HTTP/1.1\r\nHost: a\n\r\n", Err(R::BareLineFeed)),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\n", Err(R::BareLineFeed)),
        (b"GET / HTTP/1.1\rHost: a\r\n\r\n", Err(R::BareCarriageReturn)),
        (b"GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n", Err(R::BareCarriageReturn)),
        (b"GET / HTTP/1.1\r\r\n\r\n", Err(R::BareCarriageReturn)),
        (b"\x16\x03\x01", Err(R::MethodMalformed)),
    ];
    for (head, want) in cases {
        let want = want.map(|bounds| bounds.map(|(begin, end)| HeadBounds { begin, end }));
        assert_eq!(scan(head), want, "{}", head.escape_ascii());
    }
}

#[test]
fn a_head_past_a_limit_is_refused_before_it_has_ended() {
    let limits = CodecLimits::default();
    let refusal =
        |head: String| HeadScan::default().advance(head.as_bytes(), &HeadLimits::from(&limits));
    let target = format!("GET /{}", "a".repeat(limits.target_bytes_max + 100));
    assert_eq!(refusal(target), Err(Refusal::TargetTooLong));
    let fields = format!("GET / HTTP/1.1\r\n{}", "a: b\r\n".repeat(limits.headers_max + 1));
    assert_eq!(refusal(fields), Err(Refusal::TooManyFields));
    let long = format!("GET / HTTP/1.1\r\na: {}", "b".repeat(limits.head_bytes_max));
    assert_eq!(refusal(long), Err(Refusal::HeadTooLong));
}

#[test]
fn a_first_line_has_the_same_verdict_whole_and_in_pieces() {
    let limits = HeadLimits::from(&CodecLimits::default());
    let long = |length: usize| format!("{} / HTTP/1.1\r\n", "M".repeat(length));
    let most = limits.first_line_bytes - " / HTTP/1.1".len();
    for (line, want) in [
        (long(most), Ok(None)),
        (long(most + 1), Err(Refusal::TargetTooLong)),
        ("\x16\x03 / HTTP/1.1\r\n".to_owned(), Err(Refusal::MethodMalformed)),
    ] {
        let mut singly = HeadScan::default();
        let pieces = (1..=line.len()).map(|end| &line.as_bytes()[..end]);
        let last =
            pieces.map(|piece| singly.advance(piece, &limits)).find(|scanned| *scanned != Ok(None));
        assert_eq!(last.unwrap_or(Ok(None)), want);
        assert_eq!(HeadScan::default().advance(line.as_bytes(), &limits), want);
    }
}

#[test]
fn what_the_parser_refuses_has_a_name() {
    use Refusal as R;
    let cases = [
        (" GET / HTTP/1.1", "a: b", R::MethodMalformed),
        ("G(T / HTTP/1.1", "a: b", R::MethodMalformed),
        ("GET\t/ HTTP/1.1", "a: b", R::MethodMalformed),
        ("GET /", "a: b", R::RequestLineMalformed),
        ("GET  / HTTP/1.1", "a: b", R::RequestLineMalformed),
        ("GET / HTTP/1.1 ", "a: b", R::RequestLineMalformed),
        ("GET / http/1.1", "a: b", R::RequestLineMalformed),
        ("GET / HTTP/1.01", "a: b", R::RequestLineMalformed),
        ("GET /\t HTTP/1.1", "a: b", R::TargetMalformed),
        ("GET / HTTP/2.0", "a: b", R::VersionUnsupported),
        ("GET / HTTP/1.2", "a: b", R::VersionUnsupported),
        ("GET / HTTP/1.1", " a: b", R::FoldedField),
        ("GET / HTTP/1.1", "a: b\r\n\tc", R::FoldedField),
        ("GET / HTTP/1.1", "a : b", R::WhitespaceBeforeColon),
        ("GET / HTTP/1.1", "a\t: b", R::WhitespaceBeforeColon),
        ("GET / HTTP/1.1", ": b", R::FieldNameEmpty),
        ("GET / HTTP/1.1", "a(: b", R::FieldNameMalformed),
        ("GET / HTTP/1.1", "a b: c", R::FieldNameMalformed),
        ("GET / HTTP/1.1", "a", R::FieldMalformed),
        ("GET / HTTP/1.1", "a: b\0", R::ControlCharacter),
        ("GET / HTTP/1.1", "a: b\x7f", R::ControlCharacter),
    ];
    for (line, field, want) in cases {
        let head = format!("{line}\r\n{field}\r\n\r\n");
        assert_eq!(diagnose(head.as_bytes()), want, "{head:?}");
    }
}

#[test]
fn a_name_with_an_underscore_is_refused() {
    assert_eq!(field_name(b"x_user"), Err(Refusal::FieldNameUnderscore));
    assert_eq!(field_name(b"x-user"), Ok(()));
}
