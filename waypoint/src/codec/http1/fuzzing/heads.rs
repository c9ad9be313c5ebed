//! Heads of requests.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, header};

use super::{Read, SECOND, as_server};
use crate::codec::{
    Body, CodecLimits, EncodedSlashes, Refusal,
    fuzzing::cuttings,
    http1::{
        encode,
        head::{self, Head},
    },
    hygiene::{self, Framing, HeadLimits, HeadScan},
    sending::Sending,
};

/// The longest body that is made up for a head that promises one, in bytes.
const MADE_BODY_BYTES_MAX: u64 = 64;

/// Reads a request's head from bytes.
///
/// # Panics
///
/// If the verdict depends on how the bytes arrive; if a plain reader of lines or hyper reads another
/// method, target, header or end of body; or if what we would send on is read as another request.
pub fn request_head(bytes: &[u8]) {
    let limits = CodecLimits::default();
    let mut verdicts = cuttings(bytes).into_iter().map(|pieces| bounds(&pieces, &limits));
    let first = verdicts.next().expect("at least one cutting");
    for verdict in verdicts {
        assert_eq!(verdict, first, "{}", bytes.escape_ascii());
    }
    let Some((begin, end)) = first else { return };
    let bytes = Bytes::copy_from_slice(&bytes[begin..end]);
    let Ok(head) = parse(&bytes, &limits) else { return };
    same_as_plain(&bytes, &head);
    same_as_hyper(&bytes, &head);
    same_when_sent_on(&head);
}

fn parse(bytes: &Bytes, limits: &CodecLimits) -> Result<Head, Refusal> {
    head::parse(bytes, false, limits)
}

/// Where the head is, if it ends and its lines are whole.
fn bounds(pieces: &[&[u8]], limits: &CodecLimits) -> Option<(usize, usize)> {
    let limits = HeadLimits::from(limits);
    let (mut scan, mut buffer) = (HeadScan::default(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        if let Some(bounds) = scan.advance(&buffer, &limits).ok()? {
            return Some((bounds.begin, bounds.end));
        }
    }
    None
}

/// A reader of lines that forgives nothing.
fn same_as_plain(bytes: &[u8], head: &Head) {
    let text = bytes.escape_ascii();
    let mut lines = bytes.split(|byte| *byte == b'\n').map(|line| {
        line.strip_suffix(b"\r").or(line.is_empty().then_some(line)).expect("CRLF ends a line")
    });
    let first = lines.next().expect("a first line");
    let words: Vec<&[u8]> = first.split(|byte| *byte == b' ').collect();
    let [method, _target, version] = words[..] else { panic!("{text}") };
    assert_eq!(method, head.request.method().as_str().as_bytes(), "{text}");
    assert_eq!(version, format!("{:?}", head.request.version()).as_bytes(), "{text}");
    let mut fields = HeaderMap::new();
    for line in lines.filter(|line| !line.is_empty()) {
        let colon = line.iter().position(|byte| *byte == b':').expect("a colon");
        let name = HeaderName::from_bytes(&line[..colon]).expect("a name");
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).expect("a value");
        fields.append(name, value);
    }
    assert_eq!(framing_of(&fields), head.framing, "{text}");
    same_fields(&fields, head);
}

/// Where a body ends for whoever takes the first of each.
fn framing_of(fields: &HeaderMap) -> Framing {
    let number = |value: &HeaderValue| value.to_str().ok()?.parse().ok();
    match (fields.get(header::TRANSFER_ENCODING), fields.get(header::CONTENT_LENGTH)) {
        (Some(_), _) => Framing::Chunked,
        (None, Some(length)) => match number(length) {
            Some(0) | None => Framing::None,
            Some(length) => Framing::Length(length),
        },
        (None, None) => Framing::None,
    }
}

/// Every field that we have was sent so, and every field that was sent and that we do not have is
/// one that ends at this hop.
fn same_fields(sent: &HeaderMap, head: &Head) {
    let ours = head.request.headers();
    for name in ours.keys().filter(|name| *name != header::TE) {
        let values = |fields: &HeaderMap| fields.get_all(name).iter().cloned().collect::<Vec<_>>();
        assert_eq!(values(ours), values(sent), "{name}");
    }
    let options: Vec<_> = sent.get_all(header::CONNECTION).iter().map(|v| v.as_bytes()).collect();
    let options = options.join(&b","[..]).to_ascii_lowercase();
    let is_named = |name: &str| {
        options.split(|byte| *byte == b',').any(|option| option.trim_ascii() == name.as_bytes())
    };
    for name in sent.keys().filter(|name| !ours.contains_key(*name)) {
        let ends_here = hygiene::is_connection_specific(name)
            || matches!(name.as_str(), "host" | "expect" | "te" | "http2-settings")
            || is_named(name.as_str());
        assert!(ends_here, "{name} is lost");
    }
}

/// hyper as a server, given the head, a body as the head promises it, and a second request.
fn same_as_hyper(bytes: &[u8], head: &Head) {
    let text = bytes.escape_ascii();
    let (body, sent) = match head.framing {
        Framing::None => (Vec::new(), Vec::new()),
        Framing::Length(length) if MADE_BODY_BYTES_MAX < length => return,
        Framing::Length(length) => {
            let body = vec![b'x'; usize::try_from(length).expect("short")];
            (body.clone(), body)
        }
        Framing::Chunked => (b"x".to_vec(), b"1\r\nx\r\n0\r\n\r\n".to_vec()),
    };
    let seen = as_server([bytes, &sent, SECOND].concat());
    let [first, rest @ ..] = &seen[..] else { panic!("hyper refuses {text}") };
    let (ours, theirs) = (&head.request, &first.head);
    assert_eq!(ours.method(), theirs.method(), "{text}");
    assert_eq!(ours.version(), theirs.version(), "{text}");
    assert_eq!(ours.uri().query(), theirs.uri().query(), "{text}");
    let path =
        hygiene::normalise_path(theirs.uri().path(), EncodedSlashes::Refuse).expect("a path");
    let is_server = path == "*" || (path.len() <= 1 && ours.uri().path() == "*");
    assert!(is_server || ours.uri().path() == path, "{text}: {path}");
    if let Some(authority) = theirs.uri().authority() {
        let authority = hygiene::authority(authority.as_str().as_bytes()).expect("an authority");
        assert_eq!(ours.uri().authority().expect("one").as_str(), authority, "{text}");
    }
    same_fields(theirs.headers(), head);
    assert_eq!(first.body, body, "{text}");
    // Whether the connection stays is for us to say: we close it, and nobody reads on.
    match rest {
        [] => {}
        [Read { head, .. }] => assert_eq!(head.uri(), "/second", "{text}"),
        more => panic!("{text}: {more:?}"),
    }
}

/// What an endpoint gets is the same request to the same parser.
fn same_when_sent_on(head: &Head) {
    let request = copy(&head.request);
    let sending = match head.framing {
        Framing::None => Sending::of_request(request.method(), request.headers(), &Body::empty()),
        Framing::Length(length) => Sending::Length(length),
        Framing::Chunked => Sending::Open,
    };
    let mut out = Vec::new();
    encode::request_head(&mut out, &request, sending, head.upgrade.is_some());
    let text = out.escape_ascii().to_string();
    // A body without a byte gets a length, which the client may have left out.
    let CodecLimits { headers_max, head_bytes_max, .. } = CodecLimits::default();
    let limits = CodecLimits {
        headers_max: headers_max + 1,
        head_bytes_max: head_bytes_max + b"content-length: 0\r\n".len(),
        ..CodecLimits::default()
    };
    assert_eq!(bounds(&[&out], &limits), Some((0, out.len())), "{text}");
    let again =
        parse(&Bytes::from(out), &limits).unwrap_or_else(|refusal| panic!("{text}: {refusal}"));
    assert_eq!(again.framing, head.framing, "{text}");
    assert_eq!(again.upgrade, head.upgrade, "{text}");
    let (sent, read) = (&head.request, &again.request);
    assert_eq!((read.method(), read.uri()), (sent.method(), sent.uri()), "{text}");
    let without_length = |request: &Request<()>| {
        let mut fields = request.headers().clone();
        fields.remove(header::CONTENT_LENGTH);
        fields
    };
    assert_eq!(without_length(read), without_length(sent), "{text}");
}

fn copy(request: &Request<()>) -> Request<()> {
    let mut copy = Request::new(());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    copy
}
