use super::*;

/// Decodes bytes that arrive one at a time, then at once: both must give the same.
fn decode(framing: Framing, bytes: &[u8]) -> Result<(Vec<u8>, HeaderMap, usize), Refusal> {
    let at_once = run(framing, &[bytes]);
    let singly = run(framing, &bytes.chunks(1).collect::<Vec<_>>());
    assert_eq!(at_once, singly, "{}", bytes.escape_ascii());
    at_once
}

/// The body, its trailers, and how many bytes were not taken.
fn run(framing: Framing, parts: &[&[u8]]) -> Result<(Vec<u8>, HeaderMap, usize), Refusal> {
    let mut decoder = Decoder::new(framing);
    let (mut buffer, mut body) = (BytesMut::new(), Vec::new());
    let mut parts = parts.iter();
    loop {
        match decoder.decode(&mut buffer)? {
            Piece::Data(data) => body.extend_from_slice(&data),
            Piece::More => match parts.next() {
                Some(part) => buffer.extend_from_slice(part),
                None => return Err(Refusal::HeadTimeout),
            },
            piece => {
                let rest = buffer.len() + parts.map(|part| part.len()).sum::<usize>();
                let trailers =
                    if let Piece::Trailers(trailers) = piece { trailers } else { HeaderMap::new() };
                return Ok((body, trailers, rest));
            }
        }
    }
}

#[test]
fn a_body_of_known_length_ends_there() {
    let none = HeaderMap::new();
    assert_eq!(decode(Framing::Length(3), b"abcGET"), Ok((b"abc".to_vec(), none.clone(), 3)));
    assert_eq!(decode(Framing::None, b"GET"), Ok((Vec::new(), none, 3)));
}

#[test]
fn chunks_give_their_data_and_their_trailers() {
    let (body, trailers, rest) =
        decode(Framing::Chunked, b"3\r\nabc\r\n2;x=\"y\"\r\nde\r\n0\r\nX-Sum: 1\r\n\r\nGET")
            .expect("a good body");
    assert_eq!((body.as_slice(), rest), (b"abcde".as_slice(), 3));
    assert_eq!(trailers.get("x-sum").map(HeaderValue::as_bytes), Some(b"1".as_slice()));
}

#[test]
fn chunks_that_could_be_read_two_ways_are_refused() {
    use Refusal as R;
    let extension = format!("1;{}\r\n", "x".repeat(300));
    let trailers = format!("0\r\na: {}\r\n", "b".repeat(TRAILER_BYTES_MAX));
    let many = format!("0\r\n{}\r\n", "a: b\r\n".repeat(TRAILER_FIELDS_MAX + 1));
    let cases = [
        ("3\nabc\r\n0\r\n\r\n", R::BareLineFeed),
        ("3\r\nabcd\r\n0\r\n\r\n", R::ChunkEndMalformed),
        ("3\r\nabc\n0\r\n\r\n", R::ChunkEndMalformed),
        ("3\r\nabc\r0\r\n\r\n", R::ChunkEndMalformed),
        ("\r\n", R::ChunkSizeMalformed),
        ("3\r\r\nabc", R::BareCarriageReturn),
        ("-1\r\n", R::ChunkSizeMalformed),
        ("0\r\n\n", R::BareLineFeed),
        ("0\r\na: b\n\r\n", R::BareLineFeed),
        ("0\r\na : b\r\n\r\n", R::TrailerMalformed),
        (extension.as_str(), R::ChunkExtensionTooLong),
        (trailers.as_str(), R::TrailersTooLong),
        (many.as_str(), R::TrailersTooLong),
    ];
    for (bytes, want) in cases {
        assert_eq!(decode(Framing::Chunked, bytes.as_bytes()), Err(want), "{bytes:?}");
    }
}
