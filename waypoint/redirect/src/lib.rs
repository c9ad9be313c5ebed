//! The node agent's half in the kernel: small programs on a cgroup that send the connects to
//! service ports that need L7 straight to a waypoint, and leave everything else alone.
//!
//! [`Table`] says what is to happen, [`Redirect`] puts it into the kernel. What was applied stays
//! in force without the process that did it.
//!
//! What the hooks cannot do: a socket that was made before its process came into the cgroup is not
//! seen; a connection that exists is not moved; on an MPTCP socket `getpeername` names the
//! waypoint; a socket that is confined to IPv6 cannot reach a waypoint that has IPv4 only, and its
//! connect fails with ENETUNREACH.

mod detach;
mod doctor;
mod kernel;
mod privileges;
mod state;
mod table;

pub use detach::{DetachError, Detached, detach};
pub use doctor::{Finding, doctor};
pub use kernel::{
    Applied, ApplyError, Bounds, DEFAULT_PINS, Done, OpenError, Options, Redirect, Repaired,
    TableError, cgroup_id, cgroup_path, cgroups_above, default_cgroup,
};
pub use privileges::{PrivilegesError, drop_privileges, drop_privileges_of_thread};
pub use state::{
    Counters, EntryState, ExemptState, HookState, LinkState, State, StateError, TargetState, Totals,
};
pub use table::{
    ENTRIES_MAX, EXEMPT_MAX, Entry, Exempt, Mark, REFUSALS_MAX, SERVICE_MAX, TARGETS_MAX, Table,
    Target, Unready,
};
