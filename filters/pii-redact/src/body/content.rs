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

/// What the first bytes of a body tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// Text of two bytes a character.
    Wide,
    /// gzip, Zstandard, xz, bzip2.
    Packed,
    Binary,
    Json,
    Text,
}

/// What a body begins with, and what it then is. At most [`MARK_BYTES_MAX`] bytes long.
const MARKS: [(&[u8], Look); 7] = [
    (b"\xFE\xFF", Look::Wide),
    (b"\xFF\xFE", Look::Wide),
    (b"\x1F\x8B\x08", Look::Packed),
    (b"\x28\xB5\x2F\xFD", Look::Packed),
    (b"\xFD7zXZ", Look::Packed),
    (b"BZh9", Look::Packed),
    (b"%PDF-", Look::Binary),
];
/// How much of a body may be held back to learn what it is, in bytes.
pub(crate) const MARK_BYTES_MAX: usize = 5;
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Looks at the first bytes of a body; `None`: more of them must be seen, if there are.
pub(crate) fn look(first: &[u8]) -> Option<Look> {
    if let Some((_, look)) = MARKS.iter().find(|(mark, _)| first.starts_with(mark)) {
        return Some(*look);
    }
    let text = first.strip_prefix(BYTE_ORDER_MARK).unwrap_or(first).trim_ascii_start();
    let begins = |mark: &[u8]| mark.len() > first.len() && mark.starts_with(first);
    let open = MARKS.iter().any(|(mark, _)| begins(mark)) || begins(BYTE_ORDER_MARK);
    match text.first() {
        _ if open && first.len() < MARK_BYTES_MAX => None,
        None if first.len() < MARK_BYTES_MAX => None,
        Some(b'{' | b'[') => Some(Look::Json),
        _ => Some(Look::Text),
    }
}

/// Whether a byte occurs in no text.
pub(crate) fn is_binary(byte: u8) -> bool {
    matches!(byte, 0..=8 | 0x0B | 0x0E..=0x1A | 0x1C..=0x1D | 0x1F)
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
    fn the_first_bytes_tell_what_a_body_is_as_soon_as_they_can() {
        let cases: [(&[u8], Option<Look>); 13] = [
            (b"\xFF\xFEt\0", Some(Look::Wide)),
            (b"\x1F\x8B\x08\0", Some(Look::Packed)),
            (b"%PDF-1.7\n", Some(Look::Binary)),
            (b"\xEF\xBB\xBF {\"a\":1}", Some(Look::Json)),
            (b"{", Some(Look::Json)),
            (b"h", Some(Look::Text)),
            (b"     ", Some(Look::Text)),
            (b"(a", Some(Look::Text)),
            (b"", None),
            (b" \n", None),
            (b"\xFF", None),
            (b"\xEF\xBB", None),
            (b"%PDF", None),
        ];
        for (first, want) in cases {
            assert_eq!(look(first), want, "{first:?}");
        }
    }
}
