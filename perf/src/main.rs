//! Benchmarks of the release binary beside nginx: CPU time per request, in one run.
//!
//! `waypoint-perf WAYPOINT` prints a table and exits with 1 when a budget is passed. Every load is
//! bounded in connections and time and goes to loopback; every process that is started is ended.

mod peers;
mod resources;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use peers::{Nginx, Peer, Waypoint};

/// Rounds of each comparison; they alternate between the peers, and the median counts.
const ROUNDS: usize = 5;
/// Length of one round, in seconds.
const SECONDS: u32 = 4;
const CONNECTIONS: u32 = 50;

/// Our CPU per plain GET, as a ratio to nginx's.
const PLAIN_RATIO_MAX: f64 = 1.6;
/// CPU that the chain adds to a request, in microseconds.
const CHAIN_MICROS_MAX: f64 = 40.0;
/// Idle resident memory with three filters, in KiB.
const IDLE_KIB_MAX: u64 = 45 * 1024;

/// What one round of load cost a peer.
#[derive(Clone, Copy)]
struct Cost {
    requests: u64,
    cpu: Duration,
}

impl Cost {
    fn micros(self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.requests.max(1) as f64
    }
}

fn main() -> ExitCode {
    let Some(binary) = std::env::args().nth(1).map(PathBuf::from) else {
        eprintln!("usage: waypoint-perf WAYPOINT (the release binary)");
        return ExitCode::from(64);
    };
    match run(&binary) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(binary: &Path) -> Result<bool, Box<dyn Error>> {
    let origin = Nginx::origin()?;
    let nginx = Nginx::proxy(origin.port())?;
    let plain = Waypoint::start(binary, &resources::plain(origin.port()))?;
    let (ours, theirs) = alternate(&plain, &nginx, &Load { path: "/orders", script: None })?;
    let ratio = ours / theirs;
    println!(
        "plain GET: nginx {theirs:.1} µs, waypoint {ours:.1} µs, ratio {ratio:.2} (≤ {PLAIN_RATIO_MAX})"
    );

    let script = resources::post_script()?;
    let chain = Waypoint::start(binary, &resources::chain(origin.port()))?;
    std::thread::sleep(Duration::from_secs(2));
    let idle = chain.resident_kib()?;
    println!("idle with three filters: {} KiB (< {IDLE_KIB_MAX})", idle);
    let load = Load { path: "/upload", script: Some(script.path()) };
    let (with, without) = alternate(&chain, &plain, &load)?;
    let added = with - without;
    println!(
        "1 KiB JSON POST: plain {without:.1} µs, three filters {with:.1} µs, added {added:.1} µs (≤ {CHAIN_MICROS_MAX})"
    );
    Ok(ratio <= PLAIN_RATIO_MAX && added <= CHAIN_MICROS_MAX && idle < IDLE_KIB_MAX)
}

/// Median CPU per request of two peers under the same load, in microseconds.
fn alternate(
    one: &dyn Peer,
    other: &dyn Peer,
    load: &Load<'_>,
) -> Result<(f64, f64), Box<dyn Error>> {
    let (mut ones, mut others) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ones.push(load.run(one)?.micros());
        others.push(load.run(other)?.micros());
    }
    Ok((median(ones), median(others)))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// What wrk sends.
struct Load<'a> {
    path: &'static str,
    /// A GET without one.
    script: Option<&'a Path>,
}

impl Load<'_> {
    fn run(&self, peer: &dyn Peer) -> Result<Cost, Box<dyn Error>> {
        let before = peer.cpu()?;
        let mut wrk = Command::new("wrk");
        wrk.args(["-t1", &format!("-c{CONNECTIONS}"), &format!("-d{SECONDS}s")]);
        if let Some(script) = self.script {
            wrk.arg("-s").arg(script);
        }
        let out = wrk.arg(format!("http://127.0.0.1:{}{}", peer.port(), self.path)).output()?;
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        if text.contains("Non-2xx") || text.contains("Socket errors") {
            return Err(format!("the load failed:\n{text}").into());
        }
        let requests = text
            .lines()
            .find_map(|line| line.trim().split_once(" requests in "))
            .and_then(|(count, _)| count.parse().ok())
            .ok_or_else(|| format!("wrk said nothing of requests:\n{text}"))?;
        Ok(Cost { requests, cpu: peer.cpu()? - before })
    }
}
