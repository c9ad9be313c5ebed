//! Nothing is read two ways: whatever a client sends, every reader behind the waypoint sees the
//! requests that the waypoint answered, and no other.
//!
//! An origin that speaks in bytes keeps all that the waypoint forwards; three readers, each of
//! another kind ([`dialects`]), then say which requests they find in it.

mod answers;
mod dialects;
mod frames;
mod inputs;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use self::dialects::{Dialect, Seen, requests};
use self::inputs::{Input, Want};
use crate::harness::{PATIENCE, Waypoint, gateway_to, service};
use crate::streams::serve_raw;

/// What the origin answers.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nx-origin: 1\r\ncontent-length: 2\r\n\r\nok";

/// An origin that keeps all bytes of all its connections, and answers what it has read to the
/// letter.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Vec<Kept>>>);

/// One connection.
#[derive(Default)]
struct Kept {
    bytes: Vec<u8>,
    answered: usize,
}

impl Recorder {
    async fn start() -> (Self, SocketAddr) {
        let recorder = Self::default();
        let all = recorder.clone();
        let address = serve_raw(move |stream| all.clone().record(stream)).await;
        (recorder, address)
    }

    async fn record(self, mut stream: TcpStream) {
        let connection = {
            let mut all = self.0.lock();
            all.push(Kept::default());
            all.len() - 1
        };
        let mut read = Vec::new();
        while stream.read_buf(&mut read).await.is_ok_and(|bytes| 0 < bytes) {
            let answers = {
                let kept = &mut self.0.lock()[connection];
                kept.bytes.append(&mut read);
                let (seen, broken) = requests(&kept.bytes, Dialect::Strict);
                assert_eq!(broken, None, "forwarded: {}", kept.bytes.escape_ascii());
                seen.len() - std::mem::replace(&mut kept.answered, seen.len())
            };
            if stream.write_all(&ANSWER.repeat(answers)).await.is_err() {
                return;
            }
        }
    }

    /// How many whole requests have come.
    fn count(&self) -> usize {
        self.0.lock().iter().map(|kept| kept.answered).sum()
    }

    /// The requests of every connection, which all readers must find alike.
    fn agreed(&self) -> Vec<Seen> {
        let mut all = Vec::new();
        for kept in self.0.lock().iter() {
            let bytes = kept.bytes.escape_ascii();
            let [strict, forgiving, sloppy] =
                [Dialect::Strict, Dialect::Forgiving, Dialect::Sloppy]
                    .map(|dialect| requests(&kept.bytes, dialect));
            assert_eq!(strict.1, None, "{bytes}");
            assert_eq!(strict, forgiving, "{bytes}");
            assert_eq!(strict, sloppy, "{bytes}");
            all.extend(strict.0);
        }
        all
    }
}

/// What a client was told on one connection.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    /// Answers of the origin.
    passed: usize,
    /// Answers of the waypoint that were no refusals.
    own: usize,
    /// The check that refused what came then.
    refused: Option<(u16, String)>,
}

/// Reads what a client was told: nothing but the origin's answers, 100s, and one refusal at the end.
fn told(answer: &[u8]) -> Result<Told, String> {
    let (mut told, mut rest) = (Told::default(), answer);
    while !rest.is_empty() {
        let end = rest.windows(4).position(|end| end == b"\r\n\r\n").ok_or("a head is cut")?;
        let head = String::from_utf8_lossy(&rest[..end]).into_owned();
        rest = &rest[end + 4..];
        if head.starts_with("HTTP/1.1 100 ") {
            continue;
        }
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.ok_or("no length")?.parse().map_err(|_| "no number")?;
        let body = String::from_utf8_lossy(rest.get(..length).ok_or("a body is cut")?).into_owned();
        rest = &rest[length..];
        if told.refused.is_some() {
            return Err("an answer behind a refusal".into());
        }
        match head.contains("\r\nx-origin: 1") {
            true => told.passed += 1,
            false if !head.contains("\r\nconnection: close") => told.own += 1,
            false => {
                let status = head.get(9..12).and_then(|code| code.parse().ok()).ok_or("status")?;
                told.refused = Some((status, body));
            }
        }
    }
    Ok(told)
}

/// Sends these pieces, ends the sending side, and reads all that comes.
async fn ask(address: SocketAddr, pieces: &[&[u8]]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.set_nodelay(true).expect("a socket");
    let (mut read, mut write) = stream.split();
    let sending = async {
        for piece in pieces {
            // A refusal may close the connection before all is written.
            if write.write_all(piece).await.is_err() {
                return;
            }
            if 1 < pieces.len() {
                tokio::task::yield_now().await;
            }
        }
        let _ = write.shutdown().await;
    };
    let mut answer = Vec::new();
    let reading = async { _ = read.read_to_end(&mut answer).await };
    let both = async { tokio::join!(sending, reading) };
    timeout(PATIENCE, both).await.expect("the connection ends in time");
    answer
}

/// A waypoint before a recorder.
struct Bench {
    waypoint: Waypoint,
    recorder: Recorder,
    /// How often each check was named.
    named: BTreeMap<String, u64>,
}

impl Bench {
    async fn start() -> Self {
        let (recorder, address) = Recorder::start().await;
        let resources = gateway_to("origin") + &service("origin", "http", address);
        let waypoint = Waypoint::start(&resources).await;
        Self { waypoint, recorder, named: BTreeMap::new() }
    }

    /// Sends an input; gives what is wrong with what came of it.
    async fn hold(&mut self, input: &Input, pieces: &[&[u8]]) -> Option<String> {
        let before = self.recorder.count();
        let answer = ask(self.waypoint.http(), pieces).await;
        let whole = self.recorder.count() - before;
        let told = match told(&answer) {
            Ok(told) => told,
            Err(what) => return Some(what),
        };
        if told.passed != whole {
            return Some(format!("{} answers to {whole} requests", told.passed));
        }
        let is_wanted = match (input.want, &told.refused) {
            (Want::Agreed, _) => true,
            (Want::Answered, None) => (told.own, whole) == (1, 1),
            _ if told.own != 0 => false,
            (Want::Passes, None) => whole == 2,
            (Want::Closes, None) => whole == 1,
            (Want::Refused(check), Some((_, name))) => whole == 0 && name == check,
            (Want::RefusedByAny(checks), Some((_, name))) => {
                whole == 0 && checks.contains(&name.as_str())
            }
            _ => false,
        };
        if let Some((_, name)) = &told.refused {
            *self.named.entry(name.clone()).or_default() += 1;
        }
        (!is_wanted).then(|| format!("{told:?}"))
    }

    async fn hold_all(&mut self, inputs: &[Input]) {
        let mut wrong = Vec::new();
        for input in inputs {
            if let Some(what) = self.hold(input, &[&input.bytes]).await {
                let bytes: String =
                    input.bytes.escape_ascii().to_string().chars().take(400).collect();
                wrong.push(format!("{bytes}\n    wanted {:?}: {what}", input.want));
            }
        }
        assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), inputs.len(), wrong.join("\n"));
        self.recorder.agreed();
    }
}

#[tokio::test]
async fn every_made_input_is_read_one_way_or_refused_by_name() {
    let mut bench = Bench::start().await;
    let inputs = inputs::made();
    assert!(1_000 < inputs.len(), "{}", inputs.len());

    bench.hold_all(&inputs).await;

    // Each is counted under its name, and every check of a request's bytes was reached.
    let metrics = bench.waypoint.metrics().await;
    for (name, count) in &bench.named {
        let line = format!("waypoint_refused_requests_total{{check=\"{name}\"}} {count}\n");
        assert!(metrics.contains(&line), "{line}{metrics}");
    }
    let elsewhere = |name: &&str| !bench.named.contains_key(*name);
    let names = waypoint::codec::Refusal::ALL.iter().map(|refusal| refusal.name());
    let unreached: Vec<_> = names.filter(elsewhere).collect();
    assert_eq!(unreached, UNREACHED);
}

/// Checks that no bytes of an HTTP/1 request reach: times, answers, and what only HTTP/2 has, and panics.
const UNREACHED: [&str; 13] = [
    "head_timeout",
    "connection_specific_field",
    "switch_unasked",
    "panicked",
    "stream_malformed",
    "preface_malformed",
    "live_heads_too_long",
    "ping_flood",
    "settings_flood",
    "priority_flood",
    "window_update_flood",
    "reset_flood",
    "continuation_flood",
];

#[tokio::test]
async fn accidents_in_good_requests_leave_no_two_readings() {
    let mut bench = Bench::start().await;
    bench.hold_all(&inputs::mutated(1_000, 0x5EED)).await;
}

#[tokio::test]
#[ignore = "minutes: make test-faults"]
async fn many_accidents_in_good_requests_leave_no_two_readings() {
    let mut bench = Bench::start().await;
    for seed in 1..=20 {
        bench.hold_all(&inputs::mutated(5_000, seed)).await;
    }
}

/// Inputs of each kind, short enough to be cut at every byte.
fn to_cut() -> Vec<Input> {
    let mut inputs = inputs::made();
    inputs.retain(|input| input.bytes.len() < 160 && !matches!(input.want, Want::RefusedByAny(_)));
    let every = inputs.len() / 12;
    inputs.into_iter().step_by(every).collect()
}

#[tokio::test]
async fn an_input_that_is_cut_anywhere_is_read_as_the_whole_one() {
    let mut bench = Bench::start().await;
    for input in to_cut() {
        let bytes = &input.bytes[..];
        let singly: Vec<&[u8]> = bytes.chunks(1).collect();
        let halves = (1..bytes.len()).map(|at| vec![&bytes[..at], &bytes[at..]]);
        for pieces in halves.chain([singly]) {
            let wrong = bench.hold(&input, &pieces).await;
            let cut = pieces[0].len();
            assert_eq!(wrong, None, "cut at {cut}: {} {:?}", bytes.escape_ascii(), input.want);
        }
    }
    bench.recorder.agreed();
}
