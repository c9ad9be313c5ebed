//! What a program on the cgroup adds to connect().
//!
//! One process makes the sockets of all variants, in one cgroup after the other, and then connects
//! them in turns: a socket stays in the cgroup that it was made in.

use super::paired::{Rounds, between, median, ratio};
use super::place::Place;
use super::{Deadline, MANY, table, vip};
use crate::peers::Result;

/// Connects in a row that are timed together; then they are ended, which is not timed.
pub(super) const BATCH: usize = 32;
/// For the client: its own two listeners.
pub(super) const OWN: &str = "own";
const ROUNDS: usize = 200;
/// Sockets of each variant in a round: 102,400 connects of each variant altogether.
const POOL: usize = 512;

/// CPU of a connect to what is not in the table, as a ratio to that with no program attached.
const MISS_RATIO_MAX: f64 = 1.05;
/// CPU of a connect that is redirected, as a ratio to that with no program attached.
const HIT_RATIO_MAX: f64 = 1.15;

/// A prime number, for the client's turns.
const VARIANTS: usize = 5;

/// Of each variant, of each round, the CPU and the wall time of a connect, in nanoseconds.
#[derive(Default)]
struct Found {
    none: Rounds<2>,
    miss_one: Rounds<2>,
    miss_many: Rounds<2>,
    hit: Rounds<2>,
    none_again: Rounds<2>,
}

pub(super) fn compare(deadline: Deadline) -> Result<bool> {
    let [none, one, many] = [Place::new("none")?, Place::new("one")?, Place::new("many")?];
    let mut client = none.client()?;
    let own: [std::net::SocketAddr; 2] = client.ask("own")?;
    let attached = (one.attach(&table(1, &own))?, many.attach(&table(MANY, &own))?);
    let (mut found, service) = (Found::default(), vip(MANY - 1).to_string());
    let mut variants: [(&Place, &str, &mut Rounds<2>); VARIANTS] = [
        (&none, OWN, &mut found.none),
        (&one, OWN, &mut found.miss_one),
        (&many, OWN, &mut found.miss_many),
        (&many, &service, &mut found.hit),
        (&none, OWN, &mut found.none_again),
    ];
    for _ in 0..ROUNDS {
        deadline.check()?;
        // Another one is the first in each round.
        variants.rotate_left(1);
        let mut question = "connects".to_owned();
        for (place, to, _) in &variants {
            place.adopt(&client)?;
            client.ask::<u8, 0>(&format!("pool {POOL}"))?;
            question = format!("{question} {to}");
        }
        let figures: [f64; 2 * VARIANTS] = client.ask(&question)?;
        for ((.., rounds), figures) in variants.iter_mut().zip(figures.chunks_exact(2)) {
            rounds.push([figures[0], figures[1]]);
        }
    }
    counted(&one, 0)?;
    counted(&many, (ROUNDS * POOL) as u64)?;
    one.detach(attached.0)?;
    many.detach(attached.1)?;
    Ok(report(&found))
}

/// The programs have seen what they were to see, or something else was measured.
fn counted(place: &Place, redirected: u64) -> Result<()> {
    let totals = place.totals()?;
    if (totals.missed, totals.redirected) == ((ROUNDS * POOL) as u64, redirected) {
        return Ok(());
    }
    Err(format!("of {} connects of each kind the programs counted {totals:?}", ROUNDS * POOL)
        .into())
}

fn report(found: &Found) -> bool {
    let none = between(&found.none, &found.none_again);
    println!(
        "connect(), {} of each kind: CPU {:.0} ns, wall time {:.0} ns; the same again {}",
        ROUNDS * POOL,
        median(&none, 0),
        median(&none, 1),
        ratio(&found.none_again, &found.none, 0),
    );
    let line = |name: &str, rounds: &Rounds<2>, most: f64| {
        let cpu = ratio(rounds, &none, 0);
        println!(
            "  {name}: CPU {:.0} ns, {cpu} of none's (≤ {most}); wall time {:.0} ns, {}",
            median(rounds, 0),
            median(rounds, 1),
            ratio(rounds, &none, 1),
        );
        cpu.median <= most
    };
    let miss_one = line("not in a table of 1", &found.miss_one, MISS_RATIO_MAX);
    let miss_many = line(&format!("not in a table of {MANY}"), &found.miss_many, MISS_RATIO_MAX);
    let hit = line("redirected to one of two", &found.hit, HIT_RATIO_MAX);
    miss_one && miss_many && hit
}
