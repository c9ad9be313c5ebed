//! What a body is, by its content type.

/// How a body is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Json,
    /// JSON documents, one a line.
    Lines,
    /// Server-sent events.
    Events,
    Form,
    /// With its boundary.
    Multipart(Vec<u8>),
    /// Pictures, sound, video, fonts: never scanned.
    Media,
    /// gRPC: never scanned.
    Grpc,
    /// Text in a charset in which ASCII does not stand for itself.
    Charset,
    /// No content type, or one that is none of these.
    Unknown,
}

/// Charsets in which bytes below 0x80 are ASCII wherever they stand.
const CHARSETS: [&[u8]; 6] =
    [b"utf-8", b"utf8", b"us-ascii", b"ascii", b"latin1", b"unicode-1-1-utf-8"];
/// The same, by the beginning of their name.
const CHARSET_FAMILIES: [&[u8]; 4] = [b"iso-8859-", b"windows-125", b"cp125", b"koi8-"];

/// Types that are text although their name does not begin so.
const TEXT_TYPES: [&[u8]; 13] = [
    b"application/xml",
    b"application/javascript",
    b"application/x-javascript",
    b"application/ecmascript",
    b"application/graphql",
    b"application/yaml",
    b"application/x-yaml",
    b"application/toml",
    b"application/sql",
    b"application/csv",
    b"application/rtf",
    b"application/x-sh",
    b"message/rfc822",
];
const LINE_TYPES: [&[u8]; 8] = [
    b"application/x-ndjson",
    b"application/ndjson",
    b"application/jsonl",
    b"application/jsonlines",
    b"application/x-jsonlines",
    b"application/json-lines",
    b"application/json-seq",
    b"application/stream+json",
];

/// What a content type says.
pub(crate) fn kind(content_type: &[u8]) -> Kind {
    let lower = content_type.to_ascii_lowercase();
    let name = lower.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
    let kind = kind_of_name(name, content_type);
    let readable = parameter(content_type, b"charset").is_none_or(|charset| is_readable(&charset));
    match kind {
        Kind::Media | Kind::Grpc | Kind::Unknown | Kind::Multipart(_) => kind,
        _ if !readable => Kind::Charset,
        _ => kind,
    }
}

fn kind_of_name(name: &[u8], content_type: &[u8]) -> Kind {
    match name {
        b"text/event-stream" => Kind::Events,
        b"text/json" | b"text/x-json" | b"application/json" => Kind::Json,
        b"application/x-www-form-urlencoded" => Kind::Form,
        _ if LINE_TYPES.contains(&name) => Kind::Lines,
        _ if name.starts_with(b"application/grpc") => Kind::Grpc,
        _ if name.ends_with(b"+json") => Kind::Json,
        _ if name.ends_with(b"+xml") || name.ends_with(b"+yaml") => Kind::Text,
        _ if name.starts_with(b"text/") || TEXT_TYPES.contains(&name) => Kind::Text,
        _ if name.starts_with(b"multipart/") => match parameter(content_type, b"boundary") {
            Some(boundary) if is_boundary(&boundary) => Kind::Multipart(boundary),
            _ => Kind::Text,
        },
        _ => {
            let media: [&[u8]; 4] = [b"image/", b"audio/", b"video/", b"font/"];
            let is_media = media.iter().any(|family| name.starts_with(family));
            if is_media { Kind::Media } else { Kind::Unknown }
        }
    }
}

/// Source: RFC 2046, 5.1.1.
fn is_boundary(boundary: &[u8]) -> bool {
    (1..=70).contains(&boundary.len()) && boundary.iter().all(|b| (0x20..0x7F).contains(b))
}

fn is_readable(charset: &[u8]) -> bool {
    let charset = charset.to_ascii_lowercase();
    CHARSETS.contains(&charset.as_slice())
        || CHARSET_FAMILIES.iter().any(|family| charset.starts_with(family))
}

/// A parameter's value, without its quotes.
fn parameter(content_type: &[u8], name: &[u8]) -> Option<Vec<u8>> {
    content_type.split(|&byte| byte == b';').skip(1).find_map(|parameter| {
        let mut parts = parameter.splitn(2, |&byte| byte == b'=');
        let key = parts.next()?.trim_ascii();
        let value = parts.next()?.trim_ascii();
        let value =
            value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value);
        key.eq_ignore_ascii_case(name).then(|| value.to_vec())
    })
}

/// Text in a coding of two bytes a character begins so.
const WIDE_MARKS: [&[u8]; 2] = [b"\xFE\xFF", b"\xFF\xFE"];
/// gzip, Zstandard, xz, bzip2.
const PACKED_MARKS: [&[u8]; 4] = [b"\x1F\x8B\x08", b"\x28\xB5\x2F\xFD", b"\xFD7zXZ", b"BZh9"];

/// What the first bytes of a body tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    Wide,
    Packed,
    Binary,
    Json,
    Text,
}

/// Looks at the first bytes of a body.
pub(crate) fn look(first: &[u8]) -> Look {
    let starts = |marks: &[&[u8]]| marks.iter().any(|mark| first.starts_with(mark));
    let control = |byte: &u8| matches!(byte, 0..=8 | 0x0B | 0x0E..=0x1A | 0x1C..=0x1D | 0x1F);
    if starts(&WIDE_MARKS) {
        Look::Wide
    } else if starts(&PACKED_MARKS) {
        Look::Packed
    } else if first.starts_with(b"%PDF-") || first.iter().any(control) {
        Look::Binary
    } else {
        let text = first.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(first).trim_ascii_start();
        if matches!(text.first(), Some(b'{' | b'[')) { Look::Json } else { Look::Text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_type_says_how_a_body_is_read() {
        let cases = [
            ("application/json", Kind::Json),
            ("Application/JSON; charset=UTF-8", Kind::Json),
            ("application/problem+json", Kind::Json),
            ("application/x-ndjson", Kind::Lines),
            ("text/event-stream;charset=utf-8", Kind::Events),
            ("application/x-www-form-urlencoded", Kind::Form),
            ("text/csv; charset=\"windows-1252\"", Kind::Text),
            ("image/svg+xml", Kind::Text),
            ("image/png", Kind::Media),
            ("application/grpc+proto", Kind::Grpc),
            ("application/octet-stream", Kind::Unknown),
            ("", Kind::Unknown),
            ("text/plain; charset=utf-16", Kind::Charset),
            ("text/plain; charset=Shift_JIS", Kind::Charset),
            ("text/plain; charset=iso-2022-jp", Kind::Charset),
            ("multipart/form-data; boundary=\"a b\"", Kind::Multipart(b"a b".to_vec())),
            ("multipart/form-data", Kind::Text),
        ];
        for (text, want) in cases {
            assert_eq!(kind(text.as_bytes()), want, "{text}");
        }
    }

    #[test]
    fn the_first_bytes_tell_text_from_the_rest() {
        let cases: [(&[u8], Look); 8] = [
            (b"\xFF\xFEt\0", Look::Wide),
            (b"\x1F\x8B\x08\0", Look::Packed),
            (b"\x89PNG\r\n\x1A\n", Look::Binary),
            (b"%PDF-1.7\n", Look::Binary),
            (b"\xEF\xBB\xBF {\"a\":1}", Look::Json),
            (b"hello\n", Look::Text),
            (b"\x1B[0m colours", Look::Text),
            (b"", Look::Text),
        ];
        for (first, want) in cases {
            assert_eq!(look(first), want, "{first:?}");
        }
    }
}
