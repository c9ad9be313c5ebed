//! Compiles `bpf/redirect.c` with clang; `src/kernel/maps.rs` embeds the object.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

const SOURCE: &str = "bpf/redirect.c";

fn main() {
    println!("cargo::rerun-if-changed=bpf");
    println!("cargo::rerun-if-env-changed=CLANG");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    if let Err(error) = compile(&out.join("redirect.o")) {
        println!("cargo::error={error}");
    }
}

fn compile(object: &Path) -> Result<(), String> {
    let clang = env::var("CLANG").unwrap_or_else(|_| "clang".to_owned());
    let big = env::var("CARGO_CFG_TARGET_ENDIAN").is_ok_and(|endian| endian == "big");
    let mut command = Command::new(&clang);
    command.args(["-O2", "-g", "-Wall", "-Werror"]);
    command.args(["-target", if big { "bpfeb" } else { "bpfel" }]);
    // Debian keeps <asm/types.h> in a folder that is named for the machine.
    let arch = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets CARGO_CFG_TARGET_ARCH");
    for include in
        [format!("/usr/include/{arch}-linux-gnu"), format!("/usr/{arch}-linux-gnu/include")]
    {
        if Path::new(&include).is_dir() {
            command.arg("-idirafter").arg(include);
        }
    }
    // The object is the same wherever it is built.
    command.arg("-ffile-compilation-dir=.");
    command.args(["-c", SOURCE, "-o"]).arg(object);
    let output = command.output().map_err(|error| {
        format!("{SOURCE} needs clang ({clang}: {error}): apt-get install clang libbpf-dev")
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    for line in said.lines() {
        println!("cargo::warning={line}");
    }
    let hint = if said.contains("bpf/bpf_helpers.h") {
        ": apt-get install libbpf-dev"
    } else if said.contains("file not found") {
        ": apt-get install linux-libc-dev"
    } else {
        ""
    };
    Err(format!("clang did not compile {SOURCE}{hint}"))
}
