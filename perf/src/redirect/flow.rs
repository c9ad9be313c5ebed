//! A flow that is not in the table, with and without programs: connections of one process, made in
//! one cgroup and in the other.

use std::net::SocketAddr;

use super::paired::{Rounds, between, median, ratio};
use super::place::Place;
use super::process::Process;
use super::{Deadline, MANY, table};
use crate::peers::Result;

const ROUNDS: usize = 100;
/// Requests on one connection, and what is sent on another.
const TRIPS: usize = 1000;
const STREAM_MIB: usize = 16;

/// What may change for the worse, as a part: or as much as the flow without programs differs from
/// itself in this run, if that is more.
const CHANGE_MAX: f64 = 0.03;

/// The figures of a round; less is better.
const FIGURES: [&str; 4] = ["p50 in µs", "p99 in µs", "µs for each MiB", "CPU of both sides in ms"];

pub(super) fn compare(deadline: Deadline) -> Result<bool> {
    // Another cgroup for the same again: the client comes into a new one before each measurement.
    let [none, many, same] = [Place::new("none")?, Place::new("many")?, Place::new("same")?];
    let mut sides = Sides::new(&none)?;
    let attached = many.attach(&table(MANY, &[sides.echo]))?;
    sides.measure()?;
    let (mut without, mut with, mut again) = (Rounds::new(), Rounds::new(), Rounds::new());
    for _ in 0..ROUNDS {
        deadline.check()?;
        for (place, rounds) in [(&none, &mut without), (&many, &mut with), (&same, &mut again)] {
            place.adopt(&sides.client)?;
            rounds.push(sides.measure()?);
        }
    }
    let (totals, connects) = (many.totals()?, 2 * ROUNDS as u64);
    if (totals.missed, totals.redirected) != (connects, 0) {
        return Err(format!("of {connects} connects the programs counted {totals:?}").into());
    }
    many.detach(attached)?;
    Ok(report(&without, &with, &again))
}

/// The two ends of the flow.
struct Sides {
    client: Process,
    server: Process,
    echo: SocketAddr,
    sink: SocketAddr,
}

impl Sides {
    fn new(place: &Place) -> Result<Self> {
        let (client, mut server) = (place.client()?, Process::start("server", &[""; 0])?);
        let [echo, sink] = server.ask("addresses")?;
        Ok(Self { client, server, echo, sink })
    }

    fn measure(&mut self) -> Result<[f64; 4]> {
        let before = self.client.cpu()? + self.server.cpu()?;
        let [p50, p99, _] = self.client.ask(&format!("trips {TRIPS} {}", self.echo))?;
        let [rate]: [f64; 1] = self.client.ask(&format!("stream {STREAM_MIB} {}", self.sink))?;
        let cpu = self.client.cpu()? + self.server.cpu()? - before;
        Ok([p50, p99, 1e6 / rate, cpu.as_secs_f64() * 1e3])
    }
}

fn report(without: &Rounds<4>, with: &Rounds<4>, again: &Rounds<4>) -> bool {
    let none = between(without, again);
    println!(
        "a flow that is not in a table of {MANY}: {TRIPS} requests, and a stream of {STREAM_MIB} \
         MiB at {:.0} MiB/s, in {ROUNDS} rounds",
        1e6 / median(&none, 2)
    );
    let mut met = true;
    for (figure, name) in FIGURES.iter().enumerate() {
        let (change, itself) = (ratio(with, &none, figure), ratio(again, without, figure));
        let (most, chance) = (1.0 + CHANGE_MAX, 1.0 + itself.noise());
        println!(
            "  {name}: {:.1} without programs, {:.1} with: {change} (≤ {most}, or what chance \
             does, {chance:.3}); without, again: {itself}",
            median(&none, figure),
            median(with, figure),
        );
        met &= change.median <= most.max(chance);
    }
    met
}
