//! C3: whatever a client can do wrong with HTTP/2, against a whole process: each script says what its
//! connections send and exactly how they must end, and what one of them makes the process grow by is
//! bounded for all.
//!
//! A connection that must live shows it: behind the script comes one more request, which must be
//! answered, and a PING, which must be acknowledged. Every script runs on several connections at
//! once, beside nothing else, and afterwards the process holds what it held before.
//!
//! `h2` reads the frames. Where it is harder than RFC 9113 demands, or gives another reason, the
//! script says so and expects what is.

mod connection;
mod scripts;

use std::net::SocketAddr;

use bytes::Bytes;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use self::connection::run;
use self::scripts::Script;
use super::network::black_hole;
use super::scene::Holds;
use super::{Length, row};
use crate::harness::{Waypoint, gateway_with, get, service};
use crate::origin::{Origin, Speaks};
use crate::streams::serve_raw;

/// What one hostile connection may make the process grow by. A debug build's futures are several
/// times as large as those of a release build: a hundred streams that stand still take 2 MiB.
const GROWN_KIB: u64 = if cfg!(debug_assertions) { 3 << 10 } else { 1 << 10 };
/// What all may besides, in a process that has run every script before: what its allocator keeps,
/// buffers of the log.
const BESIDES_KIB: u64 = 48 << 10;

/// Requests of one connection that its endpoint may see: as many as may run, and as many as may be
/// reset before the connection ends.
const REQUESTS_MAX: usize = 201;

row!(attacks:
    attacks_on_http2_end_as_they_must_and_hold_little,
    attacks_on_http2_from_twenty_connections_end_as_they_must_and_hold_little);

async fn attacks(length: Length) {
    let origin = Origin::start(Speaks::Http1, |_| {
        http::Response::new(Bytes::from_static(&[b'x'; 64 << 10]))
    })
    .await;
    let hole = black_hole().await;
    let rule = |path, name| {
        format!(
            "{{matches: [{{path: {{value: {path}}}}}], backendRefs: [{{name: {name}, port: 80}}]}}"
        )
    };
    let timed = rule("/timed", "origin").replacen('{', "{timeouts: {request: 15s}, ", 1);
    let rules = [rule("/", "origin"), rule("/silent", "silent"), rule("/unread", "hole"), timed];
    let resources = gateway_with(&rules.join(", "))
        + &service("origin", "http", origin.address)
        + &service("silent", "http", silent().await)
        + &service("hole", "http", hole.address);
    let waypoint = Waypoint::start(&resources).await;
    let bench = Bench { origin, waypoint, connections: length.either(3, 20) };
    assert_eq!(get(bench.waypoint.http(), "/").await.status(), 200);
    let chosen: Vec<_> =
        scripts::all().filter(|script| !script.is_slow || length == Length::Long).collect();
    let mut wrong = bench.run(&chosen).await;
    if length == Length::Long {
        // Whatever one of them leaves behind is there twice.
        let quick: Vec<_> = scripts::all().filter(|script| !script.is_slow).collect();
        wrong.extend(bench.run(&quick).await);
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), chosen.len(), wrong.join("\n"));
}

/// An endpoint that takes everything and answers nothing.
async fn silent() -> SocketAddr {
    serve_raw(async |mut stream: TcpStream| {
        let mut taken = [0; 4096];
        while stream.read(&mut taken).await.is_ok_and(|bytes| 0 < bytes) {}
    })
    .await
}

struct Bench {
    origin: Origin,
    waypoint: Waypoint,
    connections: usize,
}

impl Bench {
    /// Runs scripts one after the other; gives what went wrong.
    async fn run(&self, scripts: &[&'static Script]) -> Vec<String> {
        let before = Holds::of(&self.waypoint).await;
        let mut wrong = Vec::new();
        for script in scripts {
            let seen = self.origin.seen().len();
            wrong.extend(self.script(script, before).await);
            let requests = self.origin.seen().len() - seen;
            if self.connections * REQUESTS_MAX < requests {
                wrong.push(format!("{}: the endpoint saw {requests} requests", script.name));
            }
            assert_eq!(get(self.waypoint.http(), "/").await.status(), 200, "{}", script.name);
            before.again(&self.waypoint, u64::MAX).await;
        }
        wrong
    }

    async fn script(&self, script: &'static Script, before: Holds) -> Vec<String> {
        let bytes = (script.bytes)();
        let mut running = JoinSet::new();
        for _ in 0..self.connections {
            running.spawn(run(self.waypoint.http(), script, bytes.clone()));
        }
        let (mut held, mut wrong) = (Vec::new(), Vec::new());
        while let Some(ended) = running.join_next().await {
            let (stream, came) = ended.expect("no panic");
            held.push(stream);
            if let Err(came) = came {
                let Script { name, source, ends, .. } = script;
                wrong.push(format!("{name} ({source}): wanted {ends:?}: {came:?}"));
            }
        }
        // While the connections that live are still there.
        let grown = before.grown_kib(&self.waypoint);
        if self.most_kib() < grown {
            wrong.push(format!("{}: the process grew by {grown} KiB", script.name));
        }
        wrong
    }

    fn most_kib(&self) -> u64 {
        self.connections as u64 * GROWN_KIB + BESIDES_KIB
    }
}
