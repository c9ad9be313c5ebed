//! File descriptors: as many as the process may have, and some kept for connections upstream.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors for everything but connections: files, sockets that listen, the runtime, the operator.
const RESERVED: u64 = 64;

/// The least that is left for connections, whatever the limit is.
const CONNECTIONS_MIN: u64 = 8;

/// How many descriptors the process may have; `None`: without a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptors(pub Option<u64>);

impl Descriptors {
    /// Raises the soft limit to the hard one, and gives what is in force then.
    pub fn raise() -> Self {
        let limit = getrlimit(Resource::Nofile);
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        match setrlimit(Resource::Nofile, raised) {
            Ok(()) => Self(limit.maximum),
            Err(_) => Self(limit.current),
        }
    }
}

/// How many downstream connections there may be: what was asked for, or what the descriptors allow.
/// Half of them are kept for connections upstream, so that whoever was accepted can be served.
pub fn connections_within(descriptors: Descriptors, wanted: u32) -> u32 {
    let Some(all) = descriptors.0 else { return wanted };
    let fit = (all.saturating_sub(RESERVED) / 2).max(CONNECTIONS_MIN);
    wanted.min(u32::try_from(fit).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_descriptors_are_for_connections_downstream() {
        for (all, wanted, want) in [
            (Some(1024), 10_000, 480),
            (Some(1_048_576), 10_000, 10_000),
            (Some(1024), 100, 100),
            (Some(70), 10_000, 8),
            (Some(0), 10_000, 8),
            (None, 10_000, 10_000),
        ] {
            assert_eq!(connections_within(Descriptors(all), wanted), want, "{all:?}");
        }
    }
}
