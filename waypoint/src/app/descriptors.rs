//! File descriptors: how many connections there may be for those that the process may have.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that are not for connections: listening sockets, files, the operator's ports and
/// their connections, what threads and children need.
const RESERVED: u64 = 64;

/// A client's connection, and one to an endpoint on its behalf. Without the second, clients that
/// only hold connections open would keep those that are served from being answered.
const PER_CONNECTION: u64 = 2;

/// Connections that there are room for in any case.
const CONNECTIONS_MIN: u64 = 16;

/// Raises the process's limit as far as it may, and gives how many connections of clients it has
/// room for, at most as many as asked for. Past them, clients wait in the kernel's queue.
pub(super) fn connections_max(asked: u32) -> usize {
    let room = room_in(raised_limit());
    let connections = room.min(u64::from(asked));
    if connections < u64::from(asked) {
        tracing::warn!(asked, connections, "fewer connections: the limit on descriptors is low");
    }
    usize::try_from(connections).unwrap_or(usize::MAX)
}

/// Connections for so many descriptors; `None` is no limit.
fn room_in(limit: Option<u64>) -> u64 {
    limit.map_or(u64::MAX, |limit| {
        (limit.saturating_sub(RESERVED) / PER_CONNECTION).max(CONNECTIONS_MIN)
    })
}

/// Many systems set a low soft limit for the sake of programs that use select(2), and leave it to
/// others to raise it to the hard one.
fn raised_limit() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    if raised.is_ok() { maximum } else { current }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_descriptors_are_for_clients() {
        for (limit, want) in [
            (Some(1_024), 480),
            (Some(1_048_576), 524_256),
            (Some(65), CONNECTIONS_MIN),
            (Some(0), CONNECTIONS_MIN),
            (None, u64::MAX),
        ] {
            assert_eq!(room_in(limit), want, "{limit:?}");
        }
    }
}
