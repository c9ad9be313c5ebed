//! What a client may send that two parsers could read two ways, made from tables.
//!
//! `~` is CRLF. Every input is followed by [`BEHIND`], which must never be read as a part of what
//! stands before it, nor what stands before it as a part of [`BEHIND`].

mod bodies;
mod heads;
mod targets;

/// The request behind every input.
pub(super) const BEHIND: &str = "GET /behind HTTP/1.1~Host: a~~";

/// What must come of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want {
    /// It is a request that passes, and so does the one behind it.
    Passes,
    /// The waypoint answers it, for no route matches; the one behind it passes.
    Answered,
    /// It passes, and the connection ends: the one behind it is not read.
    Closes,
    /// It is refused by this check, and the connection ends.
    Refused(&'static str),
    /// It is refused by one of these checks.
    RefusedByAny(&'static [&'static str]),
    /// Whatever comes of it, all readers must agree.
    Agreed,
}

/// One input.
pub(super) struct Input {
    pub(super) bytes: Vec<u8>,
    pub(super) want: Want,
}

/// Every input of every table.
pub(super) fn made() -> Vec<Input> {
    let mut all = Made::default();
    heads::lengths(&mut all);
    heads::codings(&mut all);
    heads::lines(&mut all);
    heads::names(&mut all);
    heads::request_lines(&mut all);
    heads::hops(&mut all);
    heads::sizes(&mut all);
    targets::hosts(&mut all);
    targets::targets(&mut all);
    targets::absolute(&mut all);
    bodies::chunk_lines(&mut all);
    bodies::chunk_ends(&mut all);
    bodies::trailers(&mut all);
    all.0
}

#[derive(Default)]
struct Made(Vec<Input>);

impl Made {
    /// An input of text, in which `~` is CRLF and every other character below U+0100 is its byte.
    fn put(&mut self, text: &str, want: Want) {
        let bytes = text.replace('~', "\r\n") + &BEHIND.replace('~', "\r\n");
        let bytes = bytes.chars().map(|letter| u8::try_from(letter).expect("a byte")).collect();
        self.0.push(Input { bytes, want });
    }

    /// A POST with these field lines behind its `Host`, and a body.
    fn post(&mut self, fields: &str, body: &str, want: Want) {
        self.put(&format!("POST /post HTTP/1.1~Host: a~{fields}~~{body}"), want);
    }

    /// A GET with these field lines behind its `Host`.
    fn get(&mut self, fields: &str, want: Want) {
        self.put(&format!("GET /get HTTP/1.1~Host: a~{fields}~~"), want);
    }
}

/// Every control character but those that end lines, and TAB.
fn controls() -> impl Iterator<Item = char> {
    ('\0'..' ').chain(['\x7f']).filter(|control| !"\t\r\n".contains(*control))
}

/// A generator of numbers, so that a failure can be repeated (xorshift64*).
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(number).expect("31 bits") % bound.max(1)
    }
}

/// What framing is made of, and what breaks it.
const PIECES: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"\t",
    b":",
    b";",
    b",",
    b"0",
    b"1",
    b"a",
    b"\r\n\r\n",
    b"\x0b",
    b"\xa0",
    b"0\r\n\r\n",
    b"chunked",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Host: b\r\n",
    b"Connection: close\r\n",
    b"/../",
    b"%2f",
    b"HTTP/1.0",
    b"_",
    b"\"",
    b"\\",
    b"#",
    b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n",
    b"Expect: 100-continue\r\n",
    b"Upgrade: websocket\r\n",
];

/// Inputs that were good or nearly so, with a few accidents.
pub(super) fn mutated(count: usize, seed: u64) -> Vec<Input> {
    let good: Vec<Input> = made().into_iter().filter(|input| input.bytes.len() < 300).collect();
    let mut dice = Dice(seed);
    let mutate = |_| {
        let mut bytes = good[dice.below(good.len())].bytes.clone();
        for _ in 0..=dice.below(3) {
            let at = dice.below(bytes.len() + 1);
            let length = dice.below(12).min(bytes.len() - at);
            match dice.below(6) {
                0 => drop(bytes.drain(at..at + length)),
                1 => {
                    let copy = bytes[at..at + length].to_vec();
                    let to = dice.below(bytes.len() + 1);
                    drop(bytes.splice(to..to, copy));
                }
                2 if at < bytes.len() => bytes[at] ^= 1 << dice.below(8),
                _ => {
                    let piece = PIECES[dice.below(PIECES.len())];
                    drop(bytes.splice(at..at, piece.iter().copied()));
                }
            }
        }
        Input { bytes, want: Want::Agreed }
    };
    (0..count).map(mutate).collect()
}
