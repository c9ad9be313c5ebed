//! What the agent may do once its programs are loaded: change maps and links, and nothing else.

use std::io;

use rustix::thread::CapabilitySet;

/// What stays: maps and links need CAP_BPF, the hooks of cgroups CAP_NET_ADMIN.
const KEPT: CapabilitySet = CapabilitySet::BPF.union(CapabilitySet::NET_ADMIN);

/// Why privileges were not dropped. Then the process should end.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegesError {
    /// Capabilities belong to threads: those that are running already would keep theirs.
    #[error("{0} threads are running; privileges are dropped before the first one is started")]
    Threads(usize),
    /// A capability that the agent needs is missing from the start.
    #[error("CAP_BPF and CAP_NET_ADMIN are needed, this process has not both")]
    Missing,
    /// The kernel refused.
    #[error("{call}: {source}")]
    Call {
        /// The call.
        call: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Keeps CAP_BPF and CAP_NET_ADMIN, gives all else away for good, programs that this process
/// starts included. To be called after [`crate::Redirect::open`] and before any thread is made.
///
/// # Errors
/// [`PrivilegesError`]; some privileges may be gone then.
pub fn drop_privileges() -> Result<(), PrivilegesError> {
    let call = |call| move |source: io::Error| PrivilegesError::Call { call, source };
    let threads = std::fs::read_dir("/proc/self/task").map_err(call("/proc/self/task"))?;
    let threads = threads.count();
    if threads != 1 {
        return Err(PrivilegesError::Threads(threads));
    }
    drop_privileges_of_thread()
}

/// The same for this thread and those that it will start; threads that run already keep theirs.
///
/// # Errors
/// [`PrivilegesError`]; some privileges may be gone then.
pub fn drop_privileges_of_thread() -> Result<(), PrivilegesError> {
    let call =
        |call| move |errno: rustix::io::Errno| PrivilegesError::Call { call, source: errno.into() };
    let mut sets = rustix::thread::capabilities(None).map_err(call("capget"))?;
    if !sets.permitted.contains(KEPT) {
        return Err(PrivilegesError::Missing);
    }
    rustix::thread::set_no_new_privs(true).map_err(call("PR_SET_NO_NEW_PRIVS"))?;
    rustix::thread::clear_ambient_capability_set().map_err(call("PR_CAP_AMBIENT"))?;
    // A process without CAP_SETPCAP cannot narrow the bounding set; no_new_privs then still keeps
    // what it starts from gaining anything.
    if sets.effective.contains(CapabilitySet::SETPCAP) {
        narrow_bounding_set().map_err(call("PR_CAPBSET_DROP"))?;
    }
    sets.permitted = KEPT;
    sets.effective = KEPT;
    sets.inheritable = CapabilitySet::empty();
    rustix::thread::set_capabilities(None, sets).map_err(call("capset"))
}

/// Drops every capability that this kernel knows but ours.
fn narrow_bounding_set() -> rustix::io::Result<()> {
    for number in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        if KEPT.contains(capability) {
            continue;
        }
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            Err(rustix::io::Errno::INVAL) => break, // beyond the last one
            answer => answer?,
        }
    }
    Ok(())
}
