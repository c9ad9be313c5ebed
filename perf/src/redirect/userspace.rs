//! The same flow straight, redirected in the kernel, and through a proxy in user space.

use std::net::SocketAddr;
use std::time::Duration;

use super::paired::{Rounds, median, ratio};
use super::place::Place;
use super::process::Process;
use super::{Deadline, MANY, entry, table, vip};
use crate::peers::Result;

const ROUNDS: usize = 40;
/// Connections of one request each; requests on one connection; what is sent on another.
const SHORT: usize = 200;
const TRIPS: usize = 500;
const STREAM_MIB: usize = 16;

/// The figures of a round, less is better: CPU is that of client, server and proxy together.
/// Where there is a budget, it is for the redirected flow, as a ratio to the proxied one.
const FIGURES: [(&str, Option<f64>); 8] = [
    ("a short connection, CPU in µs", Some(0.7)),
    ("a short connection, mean time in µs", None),
    ("a short connection, p99 in µs", None),
    ("a request on a long one, CPU in µs", Some(0.7)),
    ("a request on a long one, mean time in µs", None),
    ("a request on a long one, p99 in µs", None),
    ("a MiB of a stream, CPU in µs", Some(0.7)),
    ("a MiB of a stream, time in µs", None),
];

pub(super) fn compare(deadline: Deadline) -> Result<bool> {
    let place = Place::new("userspace")?;
    let mut sides = Sides::new(&place)?;
    let services = [vip(0), vip(1)];
    let mut many = table(MANY, &sides.server_at[..1]);
    many.entries.insert(services[1], entry(1, &sides.server_at[1..]));
    let redirect = place.attach(&many)?;
    let (server_at, proxy_at) = (sides.server_at, sides.proxy_at);
    sides.measure(proxy_at)?;
    let before = place.totals()?;
    let (mut straight, mut redirected, mut proxied) = (Rounds::new(), Rounds::new(), Rounds::new());
    let mut variants =
        [(server_at, &mut straight), (services, &mut redirected), (proxy_at, &mut proxied)];
    for _ in 0..ROUNDS {
        deadline.check()?;
        // Another one is the first in each round.
        variants.rotate_left(1);
        for (to, rounds) in &mut variants {
            rounds.push(sides.measure(*to)?);
        }
    }
    let totals = place.totals()?;
    let connects = (ROUNDS * (SHORT + 2)) as u64;
    let counted = (totals.redirected - before.redirected, totals.missed - before.missed);
    if counted != (connects, 2 * connects) {
        return Err(format!("of {} connects the programs counted {totals:?}", 3 * connects).into());
    }
    place.detach(redirect)?;
    Ok(report(&straight, &redirected, &proxied))
}

/// All processes that a flow goes through. The proxy's own connects are not in the cgroup.
struct Sides {
    client: Process,
    server: Process,
    proxy: Process,
    server_at: [SocketAddr; 2],
    proxy_at: [SocketAddr; 2],
}

impl Sides {
    fn new(place: &Place) -> Result<Self> {
        let (client, mut server) = (place.client()?, Process::start("server", &[""; 0])?);
        let server_at: [SocketAddr; 2] = server.ask("addresses")?;
        let mut proxy = Process::start("proxy", &server_at.map(|address| address.to_string()))?;
        let proxy_at = proxy.ask("addresses")?;
        Ok(Self { client, server, proxy, server_at, proxy_at })
    }

    /// One round's figures, by the addresses of the echo and of the sink.
    fn measure(&mut self, [echo, sink]: [SocketAddr; 2]) -> Result<[f64; 8]> {
        let begun = self.cpu()?;
        let [_, short_p99, short] = self.client.ask(&format!("short {SHORT} {echo}"))?;
        let short_cpu = self.cpu()?;
        let [_, trip_p99, trip] = self.client.ask(&format!("trips {TRIPS} {echo}"))?;
        let trip_cpu = self.cpu()?;
        let [rate]: [f64; 1] = self.client.ask(&format!("stream {STREAM_MIB} {sink}"))?;
        let stream_cpu = self.cpu()?;
        let micros = |cpu: Duration, count: usize| cpu.as_secs_f64() * 1e6 / count as f64;
        Ok([
            micros(short_cpu - begun, SHORT),
            short,
            short_p99,
            micros(trip_cpu - short_cpu, TRIPS),
            trip,
            trip_p99,
            micros(stream_cpu - trip_cpu, STREAM_MIB),
            1e6 / rate,
        ])
    }

    fn cpu(&mut self) -> Result<Duration> {
        Ok(self.client.cpu()? + self.server.cpu()? + self.proxy.cpu()?)
    }
}

fn report(straight: &Rounds<8>, redirected: &Rounds<8>, proxied: &Rounds<8>) -> bool {
    println!(
        "straight, redirected in the kernel, through a proxy in user space: {SHORT} short \
         connections, {TRIPS} requests on a long one, a stream of {STREAM_MIB} MiB, in {ROUNDS} \
         rounds"
    );
    let mut met = true;
    for (figure, (name, most)) in FIGURES.into_iter().enumerate() {
        let to_proxied = ratio(redirected, proxied, figure);
        println!(
            "  {name}: {:.1}, {:.1}, {:.1}; redirected is {} of straight, {to_proxied} of \
             proxied{}",
            median(straight, figure),
            median(redirected, figure),
            median(proxied, figure),
            ratio(redirected, straight, figure),
            most.map(|most| format!(" (≤ {most})")).unwrap_or_default(),
        );
        met &= most.is_none_or(|most| to_proxied.median <= most);
    }
    met
}
