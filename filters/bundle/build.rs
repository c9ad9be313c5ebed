//! Builds the bundled filters to `wasm32-wasip1` with an inner cargo and leaves them in `OUT_DIR`.
//!
//! Two traps shape it. A target folder shared with the outer cargo would wait for that cargo's lock
//! for ever, so the inner one has its own, beside it. And whatever the outer cargo, clippy or a
//! coverage tool put into the environment would leak into the guests, so it starts from a clean one.

mod exports;

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const TARGET: &str = "wasm32-wasip1";

/// The filters' folders, which are also their names.
const FILTERS: [&str; 3] = ["jwt-auth", "payload-router", "pii-redact"];

/// The stream callbacks that each implements, in the order of [`FILTERS`].
const CALLBACKS: [&[&str]; 3] = [
    &["proxy_on_request_headers"],
    &["proxy_on_request_headers", "proxy_on_request_body", "proxy_on_request_trailers"],
    &[
        "proxy_on_request_headers",
        "proxy_on_request_body",
        "proxy_on_request_trailers",
        "proxy_on_response_headers",
        "proxy_on_response_body",
        "proxy_on_response_trailers",
    ],
];

/// What of `CARGO_*` describes the machine, not the build that is running.
const KEPT: [&str; 6] = [
    "CARGO_HOME",
    "CARGO_HTTP_",
    "CARGO_NET_",
    "CARGO_REGISTRIES_",
    "CARGO_SOURCE_",
    "CARGO_TERM_",
];

/// What else would change how guests are built.
const CLEARED: [&str; 8] = [
    "RUSTFLAGS",
    "RUSTDOCFLAGS",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "CLIPPY_ARGS",
    "CLIPPY_CONF_DIR",
    "MAKEFLAGS",
    "MFLAGS",
];

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<(), String> {
    let workspace = variable("CARGO_MANIFEST_DIR")?.join("../..");
    let workspace = fs::canonicalize(&workspace)
        .map_err(|error| format!("no workspace at {}: {error}", workspace.display()))?;
    watch(&workspace);
    require_target()?;

    let out_dir = variable("OUT_DIR")?;
    // OUT_DIR is <target>/[<triple>/]<profile>/build/<package>/out.
    let target_dir = out_dir.ancestors().nth(4).ok_or("OUT_DIR is not in a target folder")?;
    let target_dir = target_dir.join("filters");
    run_cargo(&workspace, &target_dir)?;

    let built = target_dir.join(TARGET).join("guest");
    for (filter, callbacks) in FILTERS.into_iter().zip(CALLBACKS) {
        let from = built.join(format!("waypoint_filter_{}.wasm", filter.replace('-', "_")));
        let to = out_dir.join(format!("{filter}.wasm"));
        let module =
            fs::read(&from).map_err(|error| format!("cannot read {}: {error}", from.display()))?;
        let module = exports::keep(&module, callbacks)
            .ok_or_else(|| format!("{} is not a module", from.display()))?;
        fs::write(&to, module)
            .map_err(|error| format!("cannot write {}: {error}", to.display()))?;
    }
    Ok(())
}

fn variable(name: &str) -> Result<PathBuf, String> {
    env::var_os(name).map(PathBuf::from).ok_or_else(|| format!("cargo did not set {name}"))
}

/// Whatever a guest is made of.
fn watch(workspace: &Path) {
    let filters = FILTERS.iter().flat_map(|filter| {
        [format!("filters/{filter}/src"), format!("filters/{filter}/Cargo.toml")]
    });
    let common = ["sdk/src", "sdk/Cargo.toml", "Cargo.toml", "Cargo.lock", "rust-toolchain.toml"];
    for path in filters.chain(common.map(str::to_owned)) {
        println!("cargo::rerun-if-changed={}", workspace.join(path).display());
    }
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=exports.rs");
}

fn require_target() -> Result<(), String> {
    let rustc = variable("RUSTC")?;
    let output = Command::new(&rustc)
        .args(["--print", "target-libdir", "--target", TARGET])
        .output()
        .map_err(|error| format!("cannot run {}: {error}", rustc.display()))?;
    let folder = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() && Path::new(&folder).is_dir() {
        return Ok(());
    }
    Err(format!(
        "the bundled filters need Rust's {TARGET} target, which is not installed: \
         run `rustup target add {TARGET}`"
    ))
}

fn run_cargo(workspace: &Path, target_dir: &Path) -> Result<(), String> {
    let mut cargo = Command::new(variable("CARGO")?);
    for (name, _) in env::vars_os().filter(|(name, _)| leaks(name)) {
        cargo.env_remove(name);
    }
    cargo.args(["build", "--lib", "--locked", "--profile", "guest", "--target", TARGET]);
    cargo.arg("--target-dir").arg(target_dir);
    cargo.arg("--manifest-path").arg(workspace.join("Cargo.toml"));
    cargo.arg("--config").arg(flags(workspace));
    for filter in FILTERS {
        cargo.arg("--package").arg(format!("waypoint-filter-{filter}"));
    }
    // Its output is captured: a build script's own stdout speaks to cargo.
    let output = cargo.output().map_err(|error| format!("cannot run cargo: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("the bundled filters do not build ({}):\n{said}", output.status))
}

fn leaks(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    let cargos = name.starts_with("CARGO_") && !KEPT.iter().any(|kept| name.starts_with(kept));
    cargos || CLEARED.contains(&name.as_ref())
}

/// The rustc flags of the guests: panic messages name files, and a module's digest must not depend
/// on where somebody keeps them.
fn flags(workspace: &Path) -> String {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| env::home_dir().map(|home| home.join(".cargo")));
    let mut flags = vec![format!("--remap-path-prefix={}=/waypoint", workspace.display())];
    flags.extend(home.map(|home| format!("--remap-path-prefix={}=/cargo", home.display())));
    format!("target.{TARGET}.rustflags={flags:?}")
}
