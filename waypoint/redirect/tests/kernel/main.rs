//! The redirection on the real kernel, as root. Each test has a cgroup, a bpffs and a folder of
//! pins of its own and takes them away again; clients are processes of their own, for a socket
//! belongs to the cgroup that its process was in.
//!
//! `WAYPOINT_TEST_SKIP=redirect` passes over them where the kernel lacks what they need.

#![expect(clippy::unwrap_used, reason = "helpers of tests, too")]

mod agent;
mod connects;
mod doctor;
mod exempt;
mod life;
mod objects;
mod place;
mod process;
mod tables;
