//! The Rust guest of the tests, built once.

use std::{env, ffi::OsStr, path::PathBuf, process::Command, sync::LazyLock};

use waypoint_abi::Module;

use crate::support::load;

const TARGET: &str = "wasm32-wasip1";

static GUEST: LazyLock<Module> = LazyLock::new(|| load(&build()).expect("the guest is a filter"));

/// `tests/guests`, loaded; its configuration chooses what it does.
pub(crate) fn guest() -> &'static Module {
    &GUEST
}

/// Builds the guest with a cargo of its own. A target folder shared with the outer cargo would
/// wait for that cargo's lock, and its flags would leak into the guest.
fn build() -> Vec<u8> {
    let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/guests");
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("guests");
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in env::vars_os().filter(|(name, _)| leaks(name)) {
        cargo.env_remove(name);
    }
    cargo.args(["build", "--release", "--locked", "--target", TARGET, "--target-dir"]);
    cargo.arg(&target).arg("--manifest-path").arg(source.join("Cargo.toml"));
    let output = cargo.output().expect("cargo runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the guest does not build:\n{said}");
    let built = target.join(TARGET).join("release/abi_test_guest.wasm");
    std::fs::read(built).expect("the guest was built")
}

/// What of the environment is about the build that is running, not about the machine.
fn leaks(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    let kept = ["CARGO_HOME", "CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTRIES_", "CARGO_SOURCE_"];
    let cargos = name.starts_with("CARGO_") && !kept.iter().any(|kept| name.starts_with(kept));
    let flags =
        ["RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "CLIPPY_ARGS", "MAKEFLAGS"];
    cargos || flags.contains(&name.as_ref())
}
