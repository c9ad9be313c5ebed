//! The node agent's half in the kernel: small programs on a cgroup that send the connects to
//! service ports that need L7 straight to a waypoint, and leave everything else alone.
//!
//! [`Table`] says what is to happen, [`Redirect`] puts it into the kernel. What was applied stays
//! in force without the process that did it.

mod kernel;
mod table;

pub use kernel::{
    Applied, ApplyError, Bounds, DEFAULT_PINS, Done, OpenError, Options, Redirect, Repaired,
    TableError, cgroup_id, default_cgroup,
};
pub use table::{
    ENTRIES_MAX, EXEMPT_MAX, Entry, Exempt, Mark, REFUSALS_MAX, SERVICE_MAX, TARGETS_MAX, Table,
    Target, Unready,
};
