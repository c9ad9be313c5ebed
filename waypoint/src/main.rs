//! The `waypoint` command. All of it is in [`waypoint::cli`].

use std::process::ExitCode;

/// Small and steady under many short-lived allocations on several threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    waypoint::cli::main()
}
