//! The `waypoint` command. All of it is in [`waypoint::cli`].

use std::process::ExitCode;

/// What is free goes back to the system by itself, so that the budget of memory has it again; how it
/// is compiled stands in `.cargo/config.toml` (docs/decisions/0028).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    waypoint::cli::main()
}
