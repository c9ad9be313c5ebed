//! The cases, numbered as the Autobahn suite numbers its categories.

use std::slice::from_ref;

use super::server::MESSAGE_BYTES_MAX;

/// What a client sends, and what the end of what it gets must be.
pub(super) struct Case {
    pub(super) name: String,
    pub(super) pieces: Vec<Vec<u8>>,
    pub(super) ends: Vec<u8>,
    pub(super) compressed: bool,
}

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
const FIN: u8 = 0x80;
/// The first reserved bit: a compressed message.
const COMPRESSED: u8 = 0x40;

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A frame as a server sends it.
fn plain(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        short @ 0..=125 => frame.push(u8::try_from(short).expect("short")),
        middle @ 126..=0xffff => {
            frame.push(126);
            frame.extend(u16::try_from(middle).expect("16 bits").to_be_bytes());
        }
        long => {
            frame.push(127);
            frame.extend((long as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    frame
}

/// A frame as a client sends it.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = plain(first, payload);
    frame[1] |= 0x80;
    let masked = payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask);
    frame.truncate(frame.len() - payload.len());
    frame.extend(MASK);
    frame.extend(masked);
    frame
}

fn closing(code: u16) -> Vec<u8> {
    code.to_be_bytes().to_vec()
}

#[derive(Default)]
struct Made(Vec<Case>);

impl Made {
    /// Frames in pieces as they are; what is got ends so.
    fn put(&mut self, name: String, pieces: Vec<Vec<u8>>, ends: Vec<u8>) {
        self.0.push(Case { name, pieces, ends, compressed: false });
    }

    /// Frames, then a close; what is got ends with these frames and a close.
    fn good(&mut self, name: String, frames: &[Vec<u8>], answers: &[Vec<u8>]) {
        let close = closing(1000);
        let pieces = [frames, &[frame(FIN | CLOSE, &close)]].concat();
        let ends = [answers.concat(), plain(FIN | CLOSE, &close)].concat();
        self.put(name, pieces, ends);
    }

    /// Frames that the server ends the connection for, with this code.
    fn bad(&mut self, name: String, frames: &[Vec<u8>], code: u16) {
        self.put(name, frames.to_vec(), plain(FIN | CLOSE, &closing(code)));
    }
}

pub(super) fn all() -> Vec<Case> {
    let mut all = Made::default();
    framing(&mut all);
    pings(&mut all);
    reserved(&mut all);
    opcodes(&mut all);
    fragments(&mut all);
    utf8(&mut all);
    closes(&mut all);
    sizes(&mut all);
    compression(&mut all);
    all.0
}

/// 1.*: text and bytes of each length's form, whole and in pieces that are not frames.
fn framing(all: &mut Made) {
    for (kind, byte) in [(TEXT, b'*'), (BINARY, 0xfe)] {
        for length in [0, 1, 124, 125, 126, 127, 128, 65_535, 65_536] {
            let payload = vec![byte; length];
            let (sent, back) = (frame(FIN | kind, &payload), plain(FIN | kind, &payload));
            all.good(format!("1 {kind} {length}"), from_ref(&sent), from_ref(&back));
            let pieces: Vec<_> = sent.chunks(997).map(<[u8]>::to_vec).collect();
            all.good(format!("1 {kind} {length} in pieces"), &pieces, &[back]);
        }
        let singly: Vec<_> = frame(FIN | kind, b"hello").chunks(1).map(<[u8]>::to_vec).collect();
        all.good(format!("1 {kind} singly"), &singly, &[plain(FIN | kind, b"hello")]);
    }
    all.bad("1 without a mask".into(), &[plain(FIN | TEXT, b"hello")], 1002);
}

/// 2.*: pings and pongs.
fn pings(all: &mut Made) {
    for payload in [&b""[..], b"hello", b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff", &[0xfe; 125]] {
        let (sent, back) = (frame(FIN | PING, payload), plain(FIN | PONG, payload));
        all.good(format!("2 ping {}", payload.len()), from_ref(&sent), from_ref(&back));
        let singly: Vec<_> = sent.chunks(1).map(<[u8]>::to_vec).collect();
        all.good(format!("2 ping {} singly", payload.len()), &singly, &[back]);
        let pong = frame(FIN | PONG, payload);
        all.good(format!("2 pong {}", payload.len()), from_ref(&pong), &[]);
        let (ping, answer) = (frame(FIN | PING, b"x"), plain(FIN | PONG, b"x"));
        all.good(format!("2 pong {}, then a ping", payload.len()), &[pong, ping], &[answer]);
    }
    let pings: Vec<_> = (0..10).map(|at| frame(FIN | PING, &[at])).collect();
    let pongs: Vec<_> = (0..10).map(|at| plain(FIN | PONG, &[at])).collect();
    all.good("2 ten pings".into(), &pings, &pongs);
    all.bad("2 a ping of 126".into(), &[frame(FIN | PING, &[0xfe; 126])], 1002);
    all.bad("2 a ping in fragments".into(), &[frame(PING, b"x")], 1002);
}

/// 3.*: reserved bits, each alone and together, alone and behind a message.
fn reserved(all: &mut Made) {
    for bits in 1..8 {
        let bits = bits << 4;
        let hello = frame(FIN | TEXT, b"hello");
        for kind in [TEXT, BINARY, PING, CLOSE] {
            let bad = frame(FIN | bits | kind, b"");
            all.bad(format!("3 {bits:x} {kind}"), from_ref(&bad), 1002);
            let behind = [hello.clone(), frame(FIN | PING, b"x"), bad];
            all.bad(format!("3 {bits:x} {kind} behind a message"), &behind, 1002);
        }
    }
}

/// 4.*: opcodes that are none.
fn opcodes(all: &mut Made) {
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        for payload in [&b""[..], b"x"] {
            let bad = frame(FIN | opcode, payload);
            all.bad(format!("4 {opcode} {}", payload.len()), from_ref(&bad), 1002);
            let behind = [frame(FIN | TEXT, b"hello"), bad, frame(FIN | PING, b"")];
            all.bad(format!("4 {opcode} {} behind a message", payload.len()), &behind, 1002);
        }
    }
}

/// 5.*: messages in fragments, and fragments of none.
fn fragments(all: &mut Made) {
    let ping = || frame(FIN | PING, b"p");
    let pong = || plain(FIN | PONG, b"p");
    for kind in [TEXT, BINARY] {
        let back = || plain(FIN | kind, b"onetwo");
        let two = [frame(kind, b"one"), frame(FIN | CONTINUATION, b"two")];
        all.good(format!("5 {kind} in two"), &two, &[back()]);
        let [one, last] = two;
        let between = [one.clone(), ping(), last.clone()];
        all.good(format!("5 {kind} with a ping between"), &between, &[pong(), back()]);
        let three = [one.clone(), frame(CONTINUATION, b""), ping(), ping(), last.clone()];
        all.good(format!("5 {kind} with an empty one"), &three, &[pong(), pong(), back()]);
        let singly: Vec<_> =
            [one.clone(), last.clone()].concat().chunks(1).map(<[u8]>::to_vec).collect();
        all.good(format!("5 {kind} in two, singly"), &singly, &[back()]);
        let twice = [one.clone(), last.clone(), one.clone(), last.clone()];
        all.good(format!("5 {kind} twice"), &twice, &[back(), back()]);
        all.bad(format!("5 {kind} begun twice"), &[one.clone(), one.clone()], 1002);
        all.bad(format!("5 {kind} whole within another"), &[one, frame(FIN | kind, b"x")], 1002);
        all.bad(format!("5 {kind} of no message"), from_ref(&last), 1002);
        all.bad(format!("5 {kind} behind a message"), &[frame(FIN | kind, b"x"), last], 1002);
    }
    all.bad("5 a pong in fragments".into(), &[frame(PONG, b"x"), frame(FIN, b"y")], 1002);
    all.bad("5 an open fragment of no message".into(), &[frame(CONTINUATION, b"x")], 1002);
}

/// 6.*: text that is UTF-8 and text that is none, whole and cut between any two bytes.
fn utf8(all: &mut Made) {
    let good = [
        "",
        "hello",
        "κόσμε",
        "Hello-µ@ßöäüàá-UTF-8!!",
        "\u{0}",
        "\u{80}",
        "\u{800}",
        "\u{10000}",
        "\u{7f}",
        "\u{7ff}",
        "\u{ffff}",
        "\u{d7ff}",
        "\u{e000}",
        "\u{fffd}",
        "\u{10ffff}",
        "\u{feff}",
    ];
    for text in good {
        let back = plain(FIN | TEXT, text.as_bytes());
        all.good(format!("6 {text:?}"), &[frame(FIN | TEXT, text.as_bytes())], from_ref(&back));
        for at in 1..text.len() {
            let (one, two) = text.as_bytes().split_at(at);
            let cut = [frame(TEXT, one), frame(FIN | CONTINUATION, two)];
            all.good(format!("6 {text:?} cut at {at}"), &cut, from_ref(&back));
        }
    }
    let bad: [&[u8]; 20] = [
        b"\x80",
        b"\xbf",
        b"\x80\xbf",
        b"\xc0\xaf",
        b"\xc1\xbf",
        b"\xe0\x80\xaf",
        b"\xf0\x80\x80\xaf",
        b"\xc0\x80",
        b"\xed\xa0\x80",
        b"\xed\xbf\xbf",
        b"\xed\xa0\x80\xed\xb0\x80",
        b"\xf4\x90\x80\x80",
        b"\xf8\x88\x80\x80\x80",
        b"\xfc\x84\x80\x80\x80\x80",
        b"\xfe",
        b"\xff",
        b"\xce\xba\xe1",
        b"hello\xff",
        b"\xe1\x80",
        b"\xf0\x90\x80",
    ];
    for bytes in bad {
        let name = bytes.escape_ascii();
        all.bad(format!("6 {name}"), &[frame(FIN | TEXT, bytes)], 1007);
        let cut = [frame(TEXT, b"hello"), frame(FIN | CONTINUATION, bytes)];
        all.bad(format!("6 {name} in the second fragment"), &cut, 1007);
        let binary = frame(FIN | BINARY, bytes);
        all.good(format!("6 {name} as bytes"), &[binary], &[plain(FIN | BINARY, bytes)]);
    }
}

/// 7.*: closes, with and without a code and a reason, and what comes behind them.
fn closes(all: &mut Made) {
    let mut close = |name: String, payload: &[u8], ends: &[u8]| {
        let sent = frame(FIN | CLOSE, payload);
        all.put(name.clone(), vec![sent.clone()], ends.to_vec());
        for (what, more) in [
            ("a message", frame(FIN | TEXT, b"late")),
            ("a ping", frame(FIN | PING, b"late")),
            ("another close", sent.clone()),
        ] {
            all.put(format!("{name}, {what} behind"), vec![sent.clone(), more], ends.to_vec());
        }
    };
    close("7 without a code".into(), b"", &plain(FIN | CLOSE, b""));
    for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999] {
        let payload = closing(code);
        close(format!("7 {code}"), &payload, &plain(FIN | CLOSE, &payload));
        let payload = [payload, b"because".to_vec()].concat();
        close(format!("7 {code} with a reason"), &payload, &plain(FIN | CLOSE, &payload));
    }
    // Which code a server answers a bad close with is its own affair: the end is the same for all.
    for code in [0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999, 5000, 65_535] {
        close(format!("7 {code}, which is none"), &closing(code), b"");
    }
    let long = [closing(1000), vec![b'x'; 123]].concat();
    close("7 the longest reason".into(), &long, &plain(FIN | CLOSE, &long));
    all.bad(
        "7 too long a reason".into(),
        &[frame(FIN | CLOSE, &[long, vec![b'x']].concat())],
        1002,
    );
    all.put("7 half a code".into(), vec![frame(FIN | CLOSE, b"\x03")], Vec::new());
    let reason = [closing(1000), b"\xce\xba\xed\xa0\x80".to_vec()].concat();
    all.put("7 a reason that is no text".into(), vec![frame(FIN | CLOSE, &reason)], Vec::new());
    all.put("7 no close".into(), vec![frame(FIN | TEXT, b"hello")], plain(FIN | TEXT, b"hello"));
    all.put("7 half a frame".into(), vec![frame(FIN | TEXT, b"hello")[..8].to_vec()], Vec::new());
    all.put("7 nothing".into(), Vec::new(), Vec::new());
}

/// 9.* and 10.*: long messages, many fragments, many messages.
fn sizes(all: &mut Made) {
    for kind in [TEXT, BINARY] {
        for kib in [64, 256, 1024] {
            let payload = vec![b'*'; kib << 10];
            let back = plain(FIN | kind, &payload);
            let sent = frame(FIN | kind, &payload);
            all.good(format!("9 {kind} {kib} KiB"), from_ref(&sent), from_ref(&back));
            let fragments: Vec<_> = payload.chunks(payload.len() / 64).collect();
            let last = fragments.len() - 1;
            let fragment = |(at, part): (usize, &&[u8])| {
                frame(if at == 0 { kind } else { 0 } | if at == last { FIN } else { 0 }, part)
            };
            let frames: Vec<_> = fragments.iter().enumerate().map(fragment).collect();
            all.good(format!("9 {kind} {kib} KiB in 64"), &frames, from_ref(&back));
        }
        for length in [0, 16, 64, 1024] {
            let frames = vec![frame(FIN | kind, &vec![b'*'; length]); 500];
            let backs = vec![plain(FIN | kind, &vec![b'*'; length]); 500];
            all.good(format!("9 {kind} 500 of {length}"), &frames, &backs);
        }
    }
    let payload = vec![b'*'; 65_536];
    let pieces: Vec<_> = frame(FIN | TEXT, &payload).chunks(1300).map(<[u8]>::to_vec).collect();
    all.good("10 in packets".into(), &pieces, &[plain(FIN | TEXT, &payload)]);
    let longest = vec![0xfe; MESSAGE_BYTES_MAX];
    let back = plain(FIN | BINARY, &longest);
    all.good("9 the longest".into(), &[frame(FIN | BINARY, &longest)], &[back]);
    let long = vec![0; MESSAGE_BYTES_MAX + 1];
    all.bad("9 too long".into(), &[frame(FIN | BINARY, &long)], 1009);
}

/// 12.* and 13.*: compressed messages, as RFC 7692 gives them; both ends have agreed on them.
fn compression(all: &mut Made) {
    let hello: &[u8] = b"\xf2\x48\xcd\xc9\xc9\x07\x00";
    let messages: [(&str, &[u8]); 6] = [
        ("one block", hello),
        ("the window of the one before", b"\xf2\x00\x11\x00\x00"),
        ("not compressed", b"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00"),
        ("a final block", b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00"),
        ("two blocks", b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00"),
        ("nothing", b"\x00"),
    ];
    let mut put = |name: String, frames: Vec<(u8, &[u8])>| {
        let close = closing(1000);
        let all_frames = || frames.iter().copied().chain([(FIN | CLOSE, &close[..])]);
        let pieces = all_frames().map(|(first, payload)| frame(first, payload)).collect();
        let ends = all_frames().flat_map(|(first, payload)| plain(first, payload)).collect();
        all.0.push(Case { name, pieces, ends, compressed: true });
    };
    for kind in [TEXT, BINARY] {
        for (name, payload) in messages {
            let first = FIN | COMPRESSED | kind;
            put(
                format!("12 {kind} {name}"),
                vec![(FIN | COMPRESSED | kind, hello), (first, payload)],
            );
            let (one, two) = payload.split_at(payload.len() / 2);
            let cut = vec![(COMPRESSED | kind, one), (FIN | PING, &b"p"[..]), (FIN, two)];
            put(format!("13 {kind} {name} in two"), cut);
        }
        put(
            format!("12 {kind} beside a plain one"),
            vec![(FIN | kind, b"plain"), (FIN | COMPRESSED | kind, hello)],
        );
    }
    let many = vec![(FIN | COMPRESSED | TEXT, hello); 500];
    put("12 five hundred".into(), many);
}
