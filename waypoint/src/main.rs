//! The `waypoint` command. All of it is in [`waypoint::cli`].

use std::process::ExitCode;

/// It has a thread that gives back what is free, so that the budget of memory has it again
/// (docs/decisions/0028): [`waypoint::memory`] begins it, `.cargo/config.toml` says how soon.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    waypoint::cli::main()
}
