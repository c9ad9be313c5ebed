//! Assembles the shim, which stands between guests and the host functions that give them data.

use std::{env, fs, path::PathBuf, process::ExitCode};

const SOURCE: &str = "src/hostcalls/shim.wat";

fn main() -> ExitCode {
    println!("cargo::rerun-if-changed={SOURCE}");
    match assemble() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{SOURCE}: {message}");
            ExitCode::FAILURE
        }
    }
}

fn assemble() -> Result<(), String> {
    let wasm = wat::parse_file(SOURCE).map_err(|error| error.to_string())?;
    let out = env::var_os("OUT_DIR").map(PathBuf::from).ok_or("cargo did not set OUT_DIR")?;
    fs::write(out.join("shim.wasm"), wasm).map_err(|error| error.to_string())
}
