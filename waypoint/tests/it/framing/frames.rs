//! What HTTP/2 can say that HTTP/1 cannot: none of it reaches an origin of HTTP/1 as something else.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Bench;
use crate::harness::PATIENCE;
use crate::http2_frames::{
    DATA, END_HEADERS, END_STREAM, HEADERS, PREFACE, RST_STREAM, SETTINGS, block, frame,
};

/// What must come of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Want {
    Passes,
    /// Refused with a status or a reset; the stream behind it passes.
    Refused,
    /// As [`Want::Refused`], or the connection ends: a field that HPACK's decoder does not take.
    Ends,
    /// Whatever comes of it, all readers must agree, and the stream behind it passes.
    Agreed,
}

use Want::{Agreed, Ends, Passes, Refused};

type Fields<'a> = &'a [(&'a str, &'a str)];

/// Fields of a request that has nothing wrong.
const GOOD: [(&str, &str); 4] =
    [(":method", "POST"), (":scheme", "http"), (":path", "/x"), (":authority", "a")];

/// One field that is added to a good request, with the body `abc`.
const ADDED: &[(&str, &str, Want)] = &[
    ("x", "y", Passes),
    ("x", "", Passes),
    ("x", "\u{e4}", Passes),
    ("x", " y ", Refused),
    ("x", "\ty", Refused),
    ("x", "y\r\nContent-Length: 30", Ends),
    ("x", "y\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", Ends),
    ("x", "y\rz", Ends),
    ("x", "y\nz", Ends),
    ("x", "y\0z", Ends),
    ("x", "\x7f", Ends),
    ("X", "y", Ends),
    ("Content-Length", "3", Ends),
    ("x y", "z", Ends),
    ("x:", "y", Ends),
    ("x: y\r\nz", "1", Ends),
    ("x\r\nTransfer-Encoding: chunked\r\ny", "1", Ends),
    ("x\ny", "1", Ends),
    ("x\0", "1", Ends),
    ("x\u{e4}", "1", Ends),
    ("", "1", Ends),
    ("x_y", "1", Refused),
    ("content_length", "30", Refused),
    ("connection", "close", Refused),
    ("connection", "x", Refused),
    ("keep-alive", "timeout=5", Refused),
    ("proxy-connection", "close", Refused),
    ("transfer-encoding", "chunked", Refused),
    ("transfer-encoding", "", Refused),
    ("upgrade", "websocket", Refused),
    ("upgrade", "h2c", Refused),
    ("te", "gzip", Refused),
    ("te", "trailers, gzip", Refused),
    ("te", "trailers", Passes),
    ("content-length", "3", Passes),
    ("content-length", "0", Refused),
    ("content-length", "2", Refused),
    ("content-length", "4", Refused),
    ("content-length", "30", Refused),
    ("content-length", "+3", Refused),
    ("content-length", "3, 3", Refused),
    ("content-length", "0x3", Refused),
    ("content-length", "", Refused),
    ("content-length", "03", Refused),
    ("content-length", "18446744073709551619", Refused),
    ("host", "a", Passes),
    ("host", "b", Refused),
    ("host", "", Refused),
    ("host", "a, b", Refused),
    ("expect", "100-continue", Passes),
    ("expect", "x", Refused),
    (":path", "/y", Refused),
    (":authority", "b", Refused),
    (":method", "GET", Refused),
    (":x", "y", Ends),
    (":status", "200", Refused),
    (":protocol", "websocket", Refused),
];

/// One pseudo-header field of a good request with another value.
const CHANGED: &[(&str, &str, Want)] = &[
    (":path", "/", Passes),
    (":path", "/a?b", Passes),
    (":path", "//a/../b", Passes),
    (":path", "", Refused),
    (":path", "a", Refused),
    (":path", "*", Refused),
    (":path", "/a b", Refused),
    (":path", "/a HTTP/1.1\r\nHost: b\r\n\r\n", Refused),
    (":path", "/a\r\n", Refused),
    (":path", "/a\tb", Refused),
    (":path", "/\0", Refused),
    // The library of HTTP/2 cuts the fragment off: nobody behind it sees one.
    (":path", "/a#b", Agreed),
    (":path", "/a\\b", Refused),
    (":path", "/%2f", Refused),
    (":path", "/%00", Refused),
    (":path", "/..;/", Refused),
    (":path", "/\u{e4}", Ends),
    (":path", "http://a/", Refused),
    (":path", "http://b/", Refused),
    (":path", "b:80", Refused),
    (":path", "/a\x7f", Refused),
    (":method", "GET / HTTP/1.1\r\nHost: b\r\n\r\n", Ends),
    (":method", "G T", Ends),
    (":method", "", Ends),
    (":method", "G\0T", Ends),
    (":method", "G(T", Ends),
    (":method", "CONNECT", Refused),
    (":method", "QUERY", Passes),
    (":scheme", "https", Passes),
    (":scheme", "", Refused),
    (":scheme", "ftp", Refused),
    (":scheme", "http://b", Refused),
    (":scheme", "http\r\n", Refused),
    (":authority", "A.", Passes),
    (":authority", "a:80", Passes),
    (":authority", "u@a", Refused),
    (":authority", "a b", Refused),
    (":authority", "a,b", Refused),
    (":authority", "a/b", Refused),
    (":authority", "a/b?c", Refused),
    (":authority", "a#b", Refused),
    (":authority", "a\\b", Refused),
    (":authority", "a:99999", Refused),
    (":authority", "a:", Refused),
    (":authority", "[::1", Refused),
    (":authority", "", Refused),
    (":authority", "a\r\nX: y", Refused),
    (":authority", "a\0b", Refused),
    (":authority", "\u{e4}", Ends),
];

/// Trailers of a good request.
const TRAILERS: &[(&str, &str, Want)] = &[
    ("x", "y", Passes),
    ("content-length", "3", Refused),
    ("host", "b", Refused),
    ("transfer-encoding", "chunked", Refused),
    ("connection", "close", Refused),
    ("authorization", "b", Refused),
    ("cookie", "b", Refused),
    ("te", "trailers", Refused),
    // The library of HTTP/2 drops it: it is not in the trailers that pass.
    (":path", "/y", Agreed),
    ("x", "y\r\nz: 1", Ends),
    ("X", "y", Ends),
    ("x_y", "z", Refused),
];

/// The frames of a request on stream 1.
fn request(fields: Fields<'_>, data: &[&str], trailers: Fields<'_>) -> Vec<u8> {
    let ends = |is_last: bool| if is_last { END_STREAM } else { 0 };
    let headers = END_HEADERS | ends(data.is_empty() && trailers.is_empty());
    let mut bytes = frame(HEADERS, headers, 1, &block(fields));
    for (at, piece) in data.iter().enumerate() {
        let last = at + 1 == data.len() && trailers.is_empty();
        bytes.extend(frame(DATA, ends(last), 1, piece.as_bytes()));
    }
    if !trailers.is_empty() {
        bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(trailers)));
    }
    bytes
}

/// What came of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Came {
    Passed,
    Refused,
    /// The connection ended without a word on it.
    Nothing,
}

/// Sends frames on stream 1, then a good request on stream 3; what came of both.
async fn ask(address: SocketAddr, bytes: &[u8]) -> [Came; 2] {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let settings = frame(SETTINGS, 0, 0, &[]);
    let behind = frame(HEADERS, END_HEADERS | END_STREAM, 3, &block(&GOOD));
    let sent = [PREFACE, &settings[..], bytes, &behind].concat();
    stream.write_all(&sent).await.expect("written");
    let mut came = [Came::Nothing; 2];
    let mut ended = [false; 2];
    let reading = async {
        while ended != [true; 2] {
            let mut header = [0; 9];
            if stream.read_exact(&mut header).await.is_err() {
                return;
            }
            let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
            let mut payload = vec![0; length];
            if stream.read_exact(&mut payload).await.is_err() {
                return;
            }
            let at = match header[8] {
                1 => 0,
                3 => 1,
                _ => continue,
            };
            match header[3] {
                // A head of 1xx may come before.
                HEADERS if came[at] != Came::Passed => came[at] = status(&payload),
                RST_STREAM => came[at] = Came::Refused,
                _ => {}
            }
            ended[at] |=
                header[3] == RST_STREAM || (header[3] <= HEADERS && header[4] & END_STREAM != 0);
        }
    };
    timeout(PATIENCE, reading).await.expect("in time");
    came
}

/// 200 is a field of HPACK's static table, and stands first.
fn status(block: &[u8]) -> Came {
    let first = block.iter().find(|byte| *byte & 0xe0 != 0x20);
    if first == Some(&0x88) { Came::Passed } else { Came::Refused }
}

/// Every input, with a name for failures.
fn inputs() -> Vec<(String, Vec<u8>, Want)> {
    let mut all = Vec::new();
    let mut put = |fields: Fields<'_>, data: &[&str], trailers: Fields<'_>, want| {
        let name = format!("{fields:?} {data:?} {trailers:?}");
        all.push((name, request(fields, data, trailers), want));
    };
    for (name, value, want) in ADDED {
        put(&[&GOOD[..], &[(*name, *value)]].concat(), &["abc"], &[], *want);
    }
    for (name, value, want) in CHANGED {
        put(
            &GOOD.map(|field| if field.0 == *name { (*name, *value) } else { field }),
            &["abc"],
            &[],
            *want,
        );
    }
    for (name, value, want) in TRAILERS {
        put(&GOOD, &["abc"], &[(*name, *value)], *want);
    }
    for missing in 0..3 {
        let mut fields = GOOD.to_vec();
        fields.remove(missing);
        put(&fields, &["abc"], &[], Refused);
    }
    put(&GOOD[..3], &[], &[], Refused);
    put(&[&GOOD[..3], &[("host", "a")]].concat(), &[], &[], Passes);
    put(&[&GOOD[..], &[("host", "a"), ("host", "a")]].concat(), &[], &[], Refused);
    put(&[&[("x", "y")], &GOOD[..]].concat(), &[], &[], Refused);
    put(&[&GOOD[..], &[("cookie", "a=b"), ("cookie", "c=d")]].concat(), &[], &[], Passes);
    let length = |text| [&GOOD[..], &[("content-length", text)]].concat();
    put(&length("3"), &[], &[], Refused);
    put(&length("0"), &[], &[], Passes);
    put(&length("3"), &["a", "b", "", "c"], &[], Passes);
    put(&length("3"), &["ab", "cd"], &[], Refused);
    put(&length("3"), &["ab"], &[("x", "y")], Refused);
    put(&[&length("3")[..], &[("content-length", "3")]].concat(), &["abc"], &[], Refused);
    put(&[&length("3")[..], &[("content-length", "4")]].concat(), &["abc"], &[], Refused);
    // What looks like HTTP/1 within the data is data.
    let second = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    put(&GOOD, &[second], &[], Passes);
    put(&GOOD, &["", "5\r\n", second], &[], Passes);
    put(&length("42"), &[second], &[], Agreed);
    all
}

#[tokio::test]
async fn nothing_that_only_http2_can_say_is_another_request_to_an_origin_of_http1() {
    let bench = Bench::start().await;
    let inputs = inputs();
    let mut wrong = Vec::new();
    for (name, bytes, want) in &inputs {
        let before = bench.recorder.count();
        let [first, behind] = ask(bench.waypoint.http(), bytes).await;
        let passed = [first, behind].iter().filter(|came| **came == Came::Passed).count();
        let whole = bench.recorder.count() - before;
        let is_wanted = match want {
            Passes => (first, behind) == (Came::Passed, Came::Passed),
            Refused => (first, behind) == (Came::Refused, Came::Passed),
            Ends => first != Came::Passed,
            Agreed => behind == Came::Passed,
        };
        if !is_wanted || (passed != whole && *want != Ends) || whole < passed {
            wrong.push(format!("{name}: wanted {want:?}: {first:?}, {behind:?}, {whole} came"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), inputs.len(), wrong.join("\n"));
    let smuggled =
        bench.recorder.agreed().into_iter().find(|seen| seen.target.contains("smuggled"));
    assert_eq!(smuggled, None);
}
