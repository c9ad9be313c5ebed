//! Three ways to read HTTP/1 from the same bytes: to the letter, and as two families of forgiving
//! servers do, which forgive different things.

/// How a reader reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// RFC 9112 to the letter.
    Strict,
    /// Lines end in LF, folded lines go on, blanks before a colon are nothing, `chunked` counts
    /// wherever a transfer coding says it, the last length counts.
    Forgiving,
    /// Lines end in LF or CR, the first length counts, whatever it is beside or begins with; only
    /// the very word `chunked` is a transfer coding; NUL ends a value; `_` is `-`.
    Sloppy,
}

/// A request as one of them has understood it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) method: String,
    pub(super) target: String,
    pub(super) host: String,
    pub(super) body: String,
}

/// What cannot be read, not even with more bytes.
#[derive(Debug, PartialEq)]
pub(super) struct Broken;

/// The whole requests at the front of some bytes, and whether what follows them is broken.
pub(super) fn requests(bytes: &[u8], dialect: Dialect) -> (Vec<Seen>, Option<Broken>) {
    let (mut rest, mut seen) = (bytes, Vec::new());
    loop {
        match request(rest, dialect) {
            Ok(Some((request, left))) => {
                seen.push(request);
                rest = left;
            }
            Ok(None) => return (seen, None),
            Err(broken) => return (seen, Some(broken)),
        }
    }
}

/// What was read, and what is left; `None` where bytes are missing.
type Step<'a, T> = Result<Option<(T, &'a [u8])>, Broken>;

/// Goes on with what was read, or gives up where bytes are missing.
macro_rules! more {
    ($step:expr) => {
        match $step? {
            Some(read) => read,
            None => return Ok(None),
        }
    };
}

fn request(bytes: &[u8], dialect: Dialect) -> Step<'_, Seen> {
    let (mut first, mut rest) = more!(line(bytes, dialect));
    while first.is_empty() {
        (first, rest) = more!(line(rest, dialect));
    }
    let words = words(first, dialect);
    let [method, target, version] = words[..] else { return Err(Broken) };
    if dialect == Dialect::Strict && ![&b"HTTP/1.1"[..], b"HTTP/1.0"].contains(&version) {
        return Err(Broken);
    }
    let (fields, rest) = more!(fields(rest, dialect));
    let (body, rest) = more!(body(rest, &fields, dialect));
    let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
    let host = values(&fields, "host").next().unwrap_or_default();
    let seen =
        Seen { method: text(method), target: text(target), host: text(host), body: text(&body) };
    Ok(Some((seen, rest)))
}

/// A line without its end.
fn line(bytes: &[u8], dialect: Dialect) -> Step<'_, &[u8]> {
    let ends = |byte: &u8| *byte == b'\n' || (dialect == Dialect::Sloppy && *byte == b'\r');
    let Some(end) = bytes.iter().position(ends) else { return Ok(None) };
    let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
    match dialect {
        Dialect::Strict => {
            let line = line.strip_suffix(b"\r").ok_or(Broken)?;
            if line.contains(&b'\r') { Err(Broken) } else { Ok(Some((line, rest))) }
        }
        Dialect::Forgiving => Ok(Some((line.strip_suffix(b"\r").unwrap_or(line), rest))),
        Dialect::Sloppy if bytes[end] == b'\r' => match rest.first() {
            None => Ok(None),
            Some(_) => Ok(Some((line, rest.strip_prefix(b"\n").unwrap_or(rest)))),
        },
        Dialect::Sloppy => Ok(Some((line, rest))),
    }
}

fn words(line: &[u8], dialect: Dialect) -> Vec<&[u8]> {
    match dialect {
        Dialect::Strict => line.split(|byte| *byte == b' ').collect(),
        Dialect::Forgiving | Dialect::Sloppy => {
            let blank = |byte: &u8| b" \t\x0b\x0c\0".contains(byte);
            line.split(blank).filter(|word| !word.is_empty()).collect()
        }
    }
}

type Fields = Vec<(String, Vec<u8>)>;

/// The fields up to the empty line: names in lower case.
fn fields(mut rest: &[u8], dialect: Dialect) -> Step<'_, Fields> {
    let mut fields = Fields::new();
    loop {
        let (line, left) = more!(line(rest, dialect));
        rest = left;
        if line.is_empty() {
            return Ok(Some((fields, rest)));
        }
        let folded = matches!(line[0], b' ' | b'\t');
        match (dialect, fields.last_mut()) {
            (Dialect::Strict, _) if folded => return Err(Broken),
            (Dialect::Forgiving, Some((_, value))) if folded => {
                value.extend_from_slice(line);
                continue;
            }
            _ => {}
        }
        let colon = line.iter().position(|byte| *byte == b':');
        let Some((name, value)) = colon.map(|colon| (&line[..colon], &line[colon + 1..])) else {
            if dialect == Dialect::Strict {
                return Err(Broken);
            }
            continue;
        };
        fields.push(field(name, value, dialect)?);
    }
}

fn field(name: &[u8], value: &[u8], dialect: Dialect) -> Result<(String, Vec<u8>), Broken> {
    let token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    let control = |byte: &u8| byte.is_ascii_control() && *byte != b'\t';
    let lower = |name: &[u8]| String::from_utf8_lossy(name).to_ascii_lowercase();
    match dialect {
        Dialect::Strict if name.is_empty() || !name.iter().all(token) => Err(Broken),
        Dialect::Strict if value.iter().any(control) => Err(Broken),
        Dialect::Strict => Ok((lower(name), value.trim_ascii().to_vec())),
        Dialect::Forgiving => Ok((lower(name.trim_ascii()), value.trim_ascii().to_vec())),
        Dialect::Sloppy => {
            let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
            let name = lower(name.trim_ascii()).replace('_', "-");
            Ok((name, value[..end].trim_ascii().to_vec()))
        }
    }
}

fn values<'a>(fields: &'a Fields, name: &'a str) -> impl DoubleEndedIterator<Item = &'a [u8]> {
    fields.iter().filter(move |(other, _)| other == name).map(|(_, value)| &value[..])
}

/// Where a body ends.
enum End {
    Length(usize),
    LastChunk,
}

fn end(fields: &Fields, dialect: Dialect) -> Result<End, Broken> {
    let coding = |coding: &[u8]| coding.to_ascii_lowercase();
    let mut codings = values(fields, "transfer-encoding");
    let mut lengths = values(fields, "content-length");
    match dialect {
        Dialect::Strict => match (codings.next(), lengths.next()) {
            _ if codings.next().is_some() || lengths.next().is_some() => Err(Broken),
            (Some(_), Some(_)) => Err(Broken),
            (Some(chunked), None) if coding(chunked) == b"chunked" => Ok(End::LastChunk),
            (Some(_), None) => Err(Broken),
            (None, None) => Ok(End::Length(0)),
            (None, Some(length)) => {
                let plain = !length.is_empty() && length.iter().all(u8::is_ascii_digit);
                if plain { Ok(End::Length(number(length, 10))) } else { Err(Broken) }
            }
        },
        Dialect::Forgiving => {
            if codings.any(|value| coding(value).windows(7).any(|part| part == b"chunked")) {
                return Ok(End::LastChunk);
            }
            Ok(End::Length(lengths.next_back().map_or(0, |length| number(length, 10))))
        }
        Dialect::Sloppy => match lengths.next() {
            Some(length) => {
                let length = length.trim_ascii().strip_prefix(b"+").unwrap_or(length);
                Ok(End::Length(number(length, 10)))
            }
            None if codings.any(|value| coding(value) == b"chunked") => Ok(End::LastChunk),
            None => Ok(End::Length(0)),
        },
    }
}

/// Digits up to whatever is none; no digit is zero.
fn number(text: &[u8], radix: u32) -> usize {
    let digits = text.iter().map_while(|byte| char::from(*byte).to_digit(radix));
    digits.fold(0_usize, |number, digit| {
        number.saturating_mul(radix as usize).saturating_add(digit as usize)
    })
}

fn body<'a>(bytes: &'a [u8], fields: &Fields, dialect: Dialect) -> Step<'a, Vec<u8>> {
    match end(fields, dialect)? {
        End::LastChunk => chunks(bytes, dialect),
        End::Length(length) => {
            Ok(bytes.split_at_checked(length).map(|(body, rest)| (body.to_vec(), rest)))
        }
    }
}

fn chunks(mut rest: &[u8], dialect: Dialect) -> Step<'_, Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let (size, left) = more!(line(rest, dialect));
        let size = chunk_size(size, dialect)?;
        if size == 0 {
            let (_, left) = more!(self::fields(left, dialect));
            return Ok(Some((body, left)));
        }
        let Some((data, left)) = left.split_at_checked(size) else { return Ok(None) };
        body.extend_from_slice(data);
        rest = match (dialect, left) {
            (_, [] | [b'\r']) => return Ok(None),
            (_, [b'\r', b'\n', left @ ..]) => left,
            (Dialect::Strict, _) => return Err(Broken),
            (Dialect::Forgiving, [b'\n', left @ ..]) => left,
            (Dialect::Forgiving, left) => left,
            // It looks at neither of the two bytes.
            (Dialect::Sloppy, [_, _, left @ ..]) => left,
            (Dialect::Sloppy, _) => return Ok(None),
        };
    }
}

fn chunk_size(line: &[u8], dialect: Dialect) -> Result<usize, Broken> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    match dialect {
        Dialect::Strict => match line.get(digits) {
            None | Some(b';') if 0 < digits && digits < 16 => Ok(number(line, 16)),
            _ => Err(Broken),
        },
        Dialect::Forgiving => Ok(number(line.trim_ascii(), 16)),
        Dialect::Sloppy => {
            let line = line.trim_ascii();
            Ok(number(line.strip_prefix(b"0x").unwrap_or(line), 16))
        }
    }
}

/// They do disagree where bytes can be read two ways: agreement on what we send on means something.
#[test]
fn the_three_readers_disagree_about_what_can_be_read_two_ways() {
    let count = |text: &str| {
        let bytes = text.replace('~', "\r\n");
        [Dialect::Strict, Dialect::Forgiving, Dialect::Sloppy]
            .map(|dialect| requests(bytes.as_bytes(), dialect).0.len())
    };
    let second = "GET /b HTTP/1.1~Host: a~~";
    let cases = [
        ("POST / HTTP/1.1~Host: a~Content-Length: 3~~abc", [2, 2, 2]),
        ("POST / HTTP/1.1~Host: a~Transfer-Encoding: chunked~~3~abc~0~~", [2, 2, 2]),
        ("POST / HTTP/1.1~Host: a~Content-Length: 35~Transfer-Encoding: chunked~~0~~", [0, 2, 0]),
        ("POST / HTTP/1.1~Host: a~Content-Length: 5~Transfer-Encoding: chunked~~0~~", [0, 2, 2]),
        ("POST / HTTP/1.1~Host: a~Content-Length: 0~Content-Length: 25~~", [0, 1, 2]),
        ("POST / HTTP/1.1~Host: a~X: b\n Content-Length: 25~~", [0, 2, 1]),
        ("POST / HTTP/1.1~Host: a~X: b\rContent-Length: 25~~", [0, 2, 1]),
        ("POST / HTTP/1.1~Host: a~Content_Length: 25~~", [2, 2, 1]),
        ("POST / HTTP/1.1~Host: a~Transfer-Encoding: xchunked~~1a~", [0, 0, 1]),
    ];
    for (text, want) in cases {
        assert_eq!(count(&(text.to_owned() + second)), want, "{text}");
    }
}
