//! What a script is, and all of them.

mod floods;
mod forms;
mod heads;
mod hpack;
mod settings;
mod states;

use crate::http2_frames::{
    CONTINUATION, END_HEADERS, END_STREAM, HEADERS, RST_STREAM, block, frame,
};

/// What one connection sends, and how it must end.
pub(super) struct Script {
    pub(super) name: &'static str,
    /// The section, or the CVE.
    pub(super) source: &'static str,
    /// All behind the preface and an empty SETTINGS.
    pub(super) bytes: fn() -> Vec<u8>,
    pub(super) ends: Ends,
    /// Whether preface and SETTINGS are left to `bytes`.
    pub(super) is_bare: bool,
    /// Whether it waits for a time of many seconds.
    pub(super) is_slow: bool,
}

/// How a script ends. All but the first two also demand that the connection serves on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ends {
    /// With a GOAWAY of this reason, and closed.
    Goaway(u32),
    /// With an answer of HTTP/1.1 of this status, and closed.
    Http1(u16),
    /// This stream is reset for this reason.
    Reset(u32, u32),
    /// This stream is answered with this status.
    Status(u32, u16),
    /// It serves on.
    Serves,
    /// It lives, and takes no more streams while those that it has run.
    Full,
}

pub(super) const NO_ERROR: u32 = 0;
pub(super) const PROTOCOL_ERROR: u32 = 1;
pub(super) const FLOW_CONTROL_ERROR: u32 = 3;
pub(super) const STREAM_CLOSED: u32 = 5;
pub(super) const FRAME_SIZE_ERROR: u32 = 6;
pub(super) const REFUSED_STREAM: u32 = 7;
pub(super) const CANCEL: u32 = 8;
pub(super) const ENHANCE_YOUR_CALM: u32 = 11;

const fn script(
    name: &'static str,
    source: &'static str,
    bytes: fn() -> Vec<u8>,
    ends: Ends,
) -> Script {
    Script { name, source, bytes, ends, is_bare: false, is_slow: false }
}

impl Script {
    const fn bare(mut self) -> Self {
        self.is_bare = true;
        self
    }

    const fn slow(mut self) -> Self {
        self.is_slow = true;
        self
    }
}

/// Every script, in the order of the files.
pub(super) fn all() -> impl Iterator<Item = &'static Script> {
    [settings::ALL, forms::ALL, states::ALL, hpack::ALL, heads::ALL, floods::ALL]
        .into_iter()
        .flatten()
}

/// The same for so many streams of the client, in order.
fn repeated(times: u32, frames: impl Fn(u32) -> Vec<u8>) -> Vec<u8> {
    (0..times).flat_map(|index| frames(1 + 2 * index)).collect()
}

/// A head, which goes on in CONTINUATION where it is long.
fn head(stream: u32, block: &[u8], ends: bool) -> Vec<u8> {
    let mut parts = block.chunks(16_000);
    let flags = if ends { END_STREAM } else { 0 };
    let first = parts.next().unwrap_or_default();
    let rest: Vec<_> = parts.collect();
    let ended = |is_last: bool| if is_last { END_HEADERS } else { 0 };
    let mut all = frame(HEADERS, flags | ended(rest.is_empty()), stream, first);
    for (index, part) in rest.iter().enumerate() {
        all.extend(frame(CONTINUATION, ended(index + 1 == rest.len()), stream, part));
    }
    all
}

/// `GET http://a/`.
const GET: &[(&str, &str)] =
    &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")];

/// `GET http://a/`, but for the authority from the static table.
fn get_block() -> Vec<u8> {
    [&[0x82, 0x86, 0x84], &block(&GET[3..])[..]].concat()
}

/// A whole GET.
pub(super) fn get(stream: u32) -> Vec<u8> {
    head(stream, &get_block(), true)
}

/// The head of a POST whose body is to come.
fn post(stream: u32) -> Vec<u8> {
    head(stream, &[&[0x83, 0x86, 0x84], &block(&GET[3..])[..]].concat(), false)
}

/// The head of a POST that is never answered; its body is to come.
fn post_silent(stream: u32) -> Vec<u8> {
    post_to(stream, "/silent")
}

/// The head of a POST to a route whose requests have 15 s; its body is to come.
fn post_timed(stream: u32) -> Vec<u8> {
    post_to(stream, "/timed")
}

/// The head of a POST whose body nobody reads, for its endpoint answers no SYN; it is to come.
fn post_unread(stream: u32) -> Vec<u8> {
    post_to(stream, "/unread")
}

fn post_to(stream: u32, path: &str) -> Vec<u8> {
    let fields = block(&[(":path", path), (":authority", "a")]);
    head(stream, &[&[0x83, 0x86], &fields[..]].concat(), false)
}

/// A GET with these fields besides, or behind.
fn get_with(fields: &[(&str, &str)]) -> Vec<u8> {
    head(1, &[get_block(), block(fields)].concat(), true)
}

fn reset(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes())
}
