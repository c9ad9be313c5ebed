use super::*;
use http::{HeaderName, HeaderValue};

type Fields = &'static [(&'static str, &'static str)];

fn headers(fields: Fields) -> HeaderMap {
    let field = |(name, value): &(&'static str, &'static str)| {
        (HeaderName::from_static(name), HeaderValue::from_static(value))
    };
    fields.iter().map(field).collect()
}

#[test]
fn the_end_of_a_body_has_one_reading_or_none() {
    use Refusal as R;
    const CL: &str = "content-length";
    const TE: &str = "transfer-encoding";
    let cases: [(Fields, Result<Framing, Refusal>); 24] = [
        (&[], Ok(Framing::None)),
        (&[(CL, "0")], Ok(Framing::None)),
        (&[(CL, "42")], Ok(Framing::Length(42))),
        (&[(CL, "9223372036854775807")], Ok(Framing::Length(i64::MAX as u64))),
        (&[(CL, "9223372036854775808")], Err(R::ContentLengthMalformed)),
        (&[(CL, "")], Err(R::ContentLengthMalformed)),
        (&[(CL, "+1")], Err(R::ContentLengthMalformed)),
        (&[(CL, "-1")], Err(R::ContentLengthMalformed)),
        (&[(CL, "1 1")], Err(R::ContentLengthMalformed)),
        (&[(CL, "0x1")], Err(R::ContentLengthMalformed)),
        (&[(CL, "010")], Err(R::ContentLengthMalformed)),
        (&[(CL, "1.0")], Err(R::ContentLengthMalformed)),
        (&[(CL, "1, 1")], Err(R::ContentLengthRepeated)),
        (&[(CL, "1"), (CL, "1")], Err(R::ContentLengthRepeated)),
        (&[(CL, "1"), (CL, "2")], Err(R::ContentLengthRepeated)),
        (&[(TE, "chunked")], Ok(Framing::Chunked)),
        (&[(TE, "Chunked")], Ok(Framing::Chunked)),
        (&[(TE, "chunked"), (CL, "1")], Err(R::ContentLengthWithTransferEncoding)),
        (&[(TE, "chunked"), (CL, "0")], Err(R::ContentLengthWithTransferEncoding)),
        (&[(TE, "chunked, chunked")], Err(R::TransferEncodingRepeated)),
        (&[(TE, "chunked"), (TE, "chunked")], Err(R::TransferEncodingRepeated)),
        (&[(TE, "gzip, chunked")], Err(R::TransferEncodingRepeated)),
        (&[(TE, "xchunked")], Err(R::TransferEncodingUnsupported)),
        (&[(TE, "identity")], Err(R::TransferEncodingUnsupported)),
    ];
    for (fields, want) in cases {
        assert_eq!(request_framing(Version::HTTP_11, &headers(fields)), want, "{fields:?}");
    }
    let on_10 = request_framing(Version::HTTP_10, &headers(&[(TE, "chunked")]));
    assert_eq!(on_10, Err(R::TransferEncodingOnHttp10));
}

#[test]
fn a_chunk_line_is_a_size_and_well_formed_extensions() {
    use Refusal as R;
    let long = format!("1;{}", "x".repeat(CHUNK_EXTENSION_BYTES_MAX));
    let cases = [
        ("0", Ok(0)),
        ("1aF", Ok(0x1af)),
        ("000000000000010", Ok(16)),
        ("5;a", Ok(5)),
        ("5;a=b;c=\"d e\\\"f\"", Ok(5)),
        ("", Err(R::ChunkSizeMalformed)),
        ("g", Err(R::ChunkSizeMalformed)),
        ("0x5", Err(R::ChunkSizeMalformed)),
        ("+5", Err(R::ChunkSizeMalformed)),
        ("5 ", Err(R::ChunkSizeMalformed)),
        (" 5", Err(R::ChunkSizeMalformed)),
        ("1111111111111111", Err(R::ChunkSizeMalformed)),
        ("5;", Err(R::ChunkExtensionMalformed)),
        ("5; a", Err(R::ChunkExtensionMalformed)),
        ("5;a ", Err(R::ChunkExtensionMalformed)),
        ("5;a=", Err(R::ChunkExtensionMalformed)),
        ("5;=b", Err(R::ChunkExtensionMalformed)),
        ("5;a=\"b", Err(R::ChunkExtensionMalformed)),
        ("5;a\0", Err(R::ChunkExtensionMalformed)),
        ("5;a=\"\0\"", Err(R::ChunkExtensionMalformed)),
        (long.as_str(), Err(R::ChunkExtensionTooLong)),
    ];
    for (line, want) in cases {
        assert_eq!(chunk_line(line.as_bytes()), want, "{line:?}");
    }
}
