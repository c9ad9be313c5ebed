//! Benchmarks of the release binary beside nginx and Envoy: CPU time per request and memory, in one
//! run.
//!
//! `waypoint-perf WAYPOINT ENVOY [PART]...` prints what was measured and exits with 1 when a budget is
//! passed. `waypoint-perf train WAYPOINT` gives an instrumented build what it learns from.
//! Every load is bounded in connections and time and goes to loopback; every process that is started
//! is ended.

mod envoy;
mod hostile;
mod peers;
mod redirect;
mod resources;
mod train;

use std::error::Error;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use envoy::Envoy;
use peers::{Nginx, Peer, Waypoint};

/// Rounds of each comparison.
const ROUNDS: usize = 9;
/// Length of one round, in seconds.
const SECONDS: u32 = 3;
const CONNECTIONS: u32 = 50;
/// How long filters have to start, and connections to rest, before anything is measured.
const SETTLE: Duration = Duration::from_secs(2);

/// Our CPU per plain GET, as a ratio to nginx's.
const PLAIN_RATIO_MAX: f64 = 1.4;
/// CPU that the chain adds to a request, in microseconds.
const CHAIN_MICROS_MAX: f64 = 40.0;
/// Idle resident memory with three filters, in KiB.
const IDLE_KIB_MAX: u64 = 45 * 1024;
/// Resident memory for each idle connection of HTTP/1, in KiB.
const CONNECTION_KIB_MAX: f64 = 10.0;
/// Idle connections that are held at a time; each takes a descriptor here and one there.
const IDLE_CONNECTIONS: usize = 10_000;
/// Resident memory for one hostile connection, in KiB.
const HOSTILE_KIB_MAX: f64 = 1024.0;
/// CPU per request with [`MANY_RULES`], as a ratio to that with [`FEW_RULES`].
const ROUTED_RATIO_MAX: f64 = 1.1;
const FEW_RULES: usize = 10;
const MANY_RULES: usize = 10_000;

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

/// One comparison, and whether its budgets were met.
type Part = fn(&Path, &Path, &Nginx) -> Result<bool, Box<dyn Error>>;

/// `redirect` is the last one: it ends the run where the kernel or root is missing.
const PARTS: [(&str, Part); 5] = [
    ("plain", plain),
    ("routed", routed),
    ("connections", connections),
    ("chain", chain),
    ("redirect", redirect::part),
];

fn main() -> ExitCode {
    if let Some(end) = redirect::role() {
        return end;
    }
    let paths: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let known = |part: &PathBuf| PARTS.iter().any(|(name, _)| part.as_os_str() == *name);
    match paths.as_slice() {
        [mode, waypoint] if mode.as_os_str() == "train" => {
            end(train::train(waypoint).map(|()| true))
        }
        [waypoint, envoy, parts @ ..] if parts.iter().all(known) => {
            end(run(waypoint, envoy, parts))
        }
        _ => {
            let names = PARTS.map(|(name, _)| name).join("|");
            eprintln!(
                "usage: waypoint-perf WAYPOINT ENVOY [{names}]... (our release binary, and Envoy's)\n\
                 \x20      waypoint-perf train WAYPOINT (an instrumented build)"
            );
            ExitCode::from(64)
        }
    }
}

fn end(met: Result<bool, Box<dyn Error>>) -> ExitCode {
    match met {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the parts that were named, or all; each prints what it found, whatever the others found.
fn run(waypoint: &Path, envoy: &Path, parts: &[PathBuf]) -> Result<bool, Box<dyn Error>> {
    let origin = Nginx::origin()?;
    let mut met = true;
    for (name, part) in PARTS {
        if parts.is_empty() || parts.iter().any(|part| part.as_os_str() == name) {
            met &= part(waypoint, envoy, &origin)?;
        }
    }
    Ok(met)
}

/// A plain GET beside nginx and Envoy.
fn plain(waypoint: &Path, envoy: &Path, origin: &Nginx) -> Result<bool, Box<dyn Error>> {
    let nginx = Nginx::proxy(origin.port())?;
    let ours = Waypoint::start(waypoint, &resources::plain(origin.port()))?;
    let envoy = Envoy::plain(envoy, origin.port())?;
    let get = Load { path: "/orders", script: None };
    let rounds = alternate([&ours, &nginx, &envoy], &get)?;
    let ratio = rounds.median(|[ours, nginx, _]| ours / nginx);
    println!(
        "plain GET: waypoint {:.1} µs, nginx {:.1} µs, envoy {:.1} µs; \
         {ratio:.2} of nginx's (≤ {PLAIN_RATIO_MAX})",
        rounds.median(|round| round[0]),
        rounds.median(|round| round[1]),
        rounds.median(|round| round[2]),
    );
    Ok(ratio <= PLAIN_RATIO_MAX)
}

/// The choice among many routes beside that among few.
fn routed(waypoint: &Path, _: &Path, origin: &Nginx) -> Result<bool, Box<dyn Error>> {
    let start = |rules| Waypoint::start(waypoint, &resources::routed(origin.port(), rules));
    let (few, many) = (start(FEW_RULES)?, start(MANY_RULES)?);
    let scripts = (resources::routed_script(FEW_RULES)?, resources::routed_script(MANY_RULES)?);
    let load = |script| Load { path: "/", script: Some(script) };
    let loads = [load(scripts.0.path()), load(scripts.1.path())];
    let rounds = alternate_loads([(&few, &loads[0]), (&many, &loads[1])])?;
    let ratio = rounds.median(|[few, many]| many / few);
    println!(
        "a GET among {FEW_RULES} rules {:.1} µs, among {MANY_RULES} {:.1} µs: \
         {ratio:.2} (≤ {ROUTED_RATIO_MAX})",
        rounds.median(|round| round[0]),
        rounds.median(|round| round[1]),
    );
    Ok(ratio <= ROUTED_RATIO_MAX)
}

/// Memory of connections that rest, and of those that take what they can get.
fn connections(waypoint: &Path, _: &Path, origin: &Nginx) -> Result<bool, Box<dyn Error>> {
    let fresh = Waypoint::start(waypoint, &resources::plain(origin.port()))?;
    let idle = idle_connection_kib(&fresh)?;
    println!(
        "an idle connection: {idle:.1} KiB (≤ {CONNECTION_KIB_MAX}, mean of {IDLE_CONNECTIONS})"
    );
    drop(fresh);
    let mut met = idle <= CONNECTION_KIB_MAX;
    for attack in &hostile::ATTACKS {
        let held = hostile::connection_kib(attack, waypoint, origin)?;
        println!(
            "a hostile connection, {}: {:.0} KiB (≤ {HOSTILE_KIB_MAX}; {:.0} to {:.0})",
            attack.name, held.mean, held.least, held.most
        );
        met &= held.mean <= HOSTILE_KIB_MAX;
    }
    Ok(met)
}

/// Three filters: what they take at rest, and what they add to a request.
fn chain(waypoint: &Path, envoy: &Path, origin: &Nginx) -> Result<bool, Box<dyn Error>> {
    let plain = Waypoint::start(waypoint, &resources::plain(origin.port()))?;
    let envoy_plain = Envoy::plain(envoy, origin.port())?;
    let script = resources::post_script()?;
    let post = Load { path: "/upload", script: Some(script.path()) };
    let chain = Waypoint::start(waypoint, &resources::chain(origin.port()))?;
    std::thread::sleep(SETTLE);
    let idle = chain.resident_kib()?;
    println!("idle with three filters: {idle} KiB (< {IDLE_KIB_MAX})");
    let envoy_chain = Envoy::chain(envoy, origin.port())?;
    std::thread::sleep(SETTLE);
    let rounds = alternate([&plain, &chain, &envoy_plain, &envoy_chain], &post)?;
    let added = rounds.median(|[plain, chain, ..]| chain - plain);
    println!(
        "1 KiB JSON POST: waypoint {:.1} µs, with three filters {:.1} µs, \
         added {added:.1} µs (≤ {CHAIN_MICROS_MAX})",
        rounds.median(|round| round[0]),
        rounds.median(|round| round[1]),
    );
    println!(
        "the same on envoy: {:.1} µs, {:.1} µs, added {:.1} µs",
        rounds.median(|round| round[2]),
        rounds.median(|round| round[3]),
        rounds.median(|[.., plain, chain]| chain - plain),
    );
    Ok(added <= CHAIN_MICROS_MAX && idle < IDLE_KIB_MAX)
}

/// What a process grows by for each of many connections that have sent one request and stay.
fn idle_connection_kib(waypoint: &Waypoint) -> Result<f64, Box<dyn Error>> {
    std::thread::sleep(SETTLE); // What its start has left free goes back to the system first.
    let before = waypoint.resident_kib()?;
    let mut connections = Vec::with_capacity(IDLE_CONNECTIONS);
    for _ in 0..IDLE_CONNECTIONS {
        let mut stream = TcpStream::connect(("127.0.0.1", waypoint.port()))?;
        stream.write_all(b"GET /orders HTTP/1.1\r\nhost: a\r\n\r\n")?;
        if stream.read(&mut [0; 1024])? == 0 {
            return Err("a connection was not kept".into());
        }
        connections.push(stream);
    }
    // A connection gives its buffers back when it has been idle for a second.
    std::thread::sleep(SETTLE);
    let grown = waypoint.resident_kib()?.saturating_sub(before);
    Ok(grown as f64 / IDLE_CONNECTIONS as f64)
}

/// CPU per request of each peer, in microseconds, in each round. What is compared is compared within
/// a round: the machine is faster in one than in another.
struct Rounds<const N: usize>(Vec<[f64; N]>);

impl<const N: usize> Rounds<N> {
    fn median(&self, of: impl Fn([f64; N]) -> f64) -> f64 {
        let mut values: Vec<f64> = self.0.iter().copied().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    }
}

/// Gives every peer the same load, one after the other, round by round.
fn alternate<const N: usize>(
    peers: [&dyn Peer; N],
    load: &Load<'_>,
) -> Result<Rounds<N>, Box<dyn Error>> {
    alternate_loads(peers.map(|peer| (peer, load)))
}

/// Gives every peer its load, one after the other, round by round.
fn alternate_loads<const N: usize>(
    peers: [(&dyn Peer, &Load<'_>); N],
) -> Result<Rounds<N>, Box<dyn Error>> {
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let mut round = [0.0; N];
        for ((peer, load), cost) in peers.iter().zip(&mut round) {
            *cost = load.run(*peer)?.micros();
        }
        rounds.push(round);
    }
    Ok(Rounds(rounds))
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
        let url = format!("http://127.0.0.1:{}{}", peer.port(), self.path);
        let requests = wrk(&url, self.script, SECONDS)?;
        Ok(Cost { requests, cpu: peer.cpu()? - before })
    }
}

/// Has wrk ask for so many seconds: a GET without a script; gives how many requests were answered.
///
/// # Errors
///
/// A wrk that cannot be run, and a request that was answered with more than 399 or not at all.
fn wrk(url: &str, script: Option<&Path>, seconds: u32) -> Result<u64, Box<dyn Error>> {
    let mut wrk = Command::new("wrk");
    wrk.args(["-t1", &format!("-c{CONNECTIONS}"), &format!("-d{seconds}s")]);
    if let Some(script) = script {
        wrk.arg("-s").arg(script);
    }
    let out = wrk.arg(url).output()?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    if text.contains("Non-2xx") || text.contains("Socket errors") {
        return Err(format!("the load failed:\n{text}").into());
    }
    let requests = text
        .lines()
        .find_map(|line| line.trim().split_once(" requests in "))
        .and_then(|(count, _)| count.parse().ok())
        .ok_or_else(|| {
            let errors = String::from_utf8_lossy(&out.stderr);
            format!("wrk said nothing of requests ({}):\n{text}{errors}", out.status)
        })?;
    Ok(requests)
}
