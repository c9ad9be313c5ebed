//! What redirection in the kernel costs: a connect that it looks at, a flow that it leaves alone,
//! and a flow that it redirects beside a proxy in user space that does the same.
//!
//! Everything is measured in turns, round by round, and compared within a round. The clients are in
//! a cgroup of their own, on loopback; root is needed, a waypoint is not.

mod client;
mod connects;
mod flow;
mod paired;
mod place;
mod process;
mod proxy;
mod server;
mod userspace;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use waypoint_redirect::{Entry, Table, Target, Unready};

use crate::peers::{Nginx, Result};

pub(crate) use process::role;

/// A request, and its answer.
const MESSAGE_BYTES: usize = 64;
/// Service ports in a large table.
const MANY: usize = 10_000;
/// The whole part; it fails if it takes longer.
const TIME_MAX: Duration = Duration::from_secs(90);

/// All comparisons, one after the other.
pub(crate) fn part(_: &Path, _: &Path, _: &Nginx) -> Result<bool> {
    let deadline = Deadline(Instant::now() + TIME_MAX);
    let connects = connects::compare(deadline)?;
    let flow = flow::compare(deadline)?;
    let userspace = userspace::compare(deadline)?;
    Ok(connects && flow && userspace)
}

#[derive(Clone, Copy)]
struct Deadline(Instant);

impl Deadline {
    fn check(self) -> Result<()> {
        if Instant::now() < self.0 {
            return Ok(());
        }
        Err(format!("redirect takes longer than {} s here", TIME_MAX.as_secs()).into())
    }
}

/// So many service ports, all with the same targets. Nobody listens at any of them.
fn table(count: usize, targets: &[SocketAddr]) -> Table {
    let entries = (0..count).map(|at| (vip(at), entry(at, targets))).collect();
    Table { entries, ..Table::default() }
}

fn entry(at: usize, targets: &[SocketAddr]) -> Entry {
    Entry {
        service: format!("perf/service-{at}:80"),
        targets: targets.iter().map(|address| Target { address: *address, weight: 1 }).collect(),
        unready: Unready::Refuse,
        refuse_udp: false,
    }
}

/// The address of a service.
fn vip(at: usize) -> SocketAddr {
    let [_, _, high, low] = u32::try_from(at).unwrap_or(u32::MAX).to_be_bytes();
    (Ipv4Addr::new(127, 77, high, low), 80).into()
}
