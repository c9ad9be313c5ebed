//! Compiles modules in a child process: `waypoint compile`.
//!
//! The child runs at low priority under CPU and memory limits, reads a module from standard input
//! and writes the artefact to standard output. Nothing is compiled in the process that serves
//! (design decision 4): in-process it cost 63 MiB resident for one filter, mapped 7.

use std::io::{self, Read, Write};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, nice, setrlimit};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::time::timeout;

/// CPU time of one compilation; past it the kernel ends the child.
const CPU_SECONDS_MAX: u64 = 60;
/// Private memory of the child, in bytes; past it its allocations fail and it ends.
const MEMORY_BYTES_MAX: u64 = 2 * 1024 * 1024 * 1024;
/// Wall time of one compilation; past it the child is killed.
const WALL_MAX: Duration = Duration::from_secs(120);
/// Largest artefact, in bytes.
const ARTEFACT_BYTES_MAX: u64 = 128 * 1024 * 1024;
/// Lower priority than whatever serves.
const NICENESS: i32 = 10;

/// Why a module was not compiled.
#[derive(Debug, Error)]
pub enum ChildError {
    /// The child could not be started or talked to.
    #[error("the compiler process cannot be run")]
    Io(#[from] io::Error),
    /// It took too long.
    #[error("compiling took longer than {} s", WALL_MAX.as_secs())]
    Timeout,
    /// It refused the module, or was ended by a limit.
    #[error("{0}")]
    Failed(String),
}

/// Compiles in a child of this process.
///
/// # Errors
///
/// [`ChildError`]: the module is refused, or a limit was reached.
///
/// # Cancel safety
///
/// Cancel safe: the child is killed when the future is dropped.
pub async fn in_child(wasm: &[u8]) -> Result<Vec<u8>, ChildError> {
    // The link names the running binary even when its file has been replaced.
    let mut child = Command::new("/proc/self/exe")
        .arg("compile")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut input = child.stdin.take().expect("stdin is piped");
    let output = child.stdout.take().expect("stdout is piped");
    let errors = child.stderr.take().expect("stderr is piped");
    let (mut artefact, mut message) = (Vec::new(), Vec::new());
    let talk = async {
        let write = async {
            // A child that refused early closes its end: its exit status says why.
            let _ = input.write_all(wasm).await;
            drop(input);
            Ok(0)
        };
        let mut output = output.take(ARTEFACT_BYTES_MAX);
        let mut errors = errors.take(64 * 1024);
        tokio::try_join!(
            write,
            output.read_to_end(&mut artefact),
            errors.read_to_end(&mut message),
        )?;
        child.wait().await
    };
    let status = timeout(WALL_MAX, talk).await.map_err(|_| ChildError::Timeout)??;
    if status.success() {
        return Ok(artefact);
    }
    let message = String::from_utf8_lossy(&message).trim().to_owned();
    Err(ChildError::Failed(if message.is_empty() {
        format!("the compiler was ended by a limit ({status})")
    } else {
        message
    }))
}

/// The child's side.
pub fn child() -> ExitCode {
    match compile() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn compile() -> Result<(), String> {
    let limited = |resource, limit| {
        setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) })
            .map_err(|error| format!("the limits cannot be set: {error}"))
    };
    limited(Resource::Cpu, CPU_SECONDS_MAX)?;
    limited(Resource::Data, MEMORY_BYTES_MAX)?;
    limited(Resource::Core, 0)?;
    // Not permitted in some sandboxes; then it compiles at the parent's priority.
    let _ = nice(NICENESS);
    let mut wasm = Vec::new();
    let most = waypoint_abi::MODULE_BYTES_MAX as u64 + 1;
    io::stdin().take(most).read_to_end(&mut wasm).map_err(|error| error.to_string())?;
    let artefact = waypoint_abi::compile(&wasm).map_err(|error| error.to_string())?;
    let mut out = io::stdout().lock();
    out.write_all(&artefact).and_then(|()| out.flush()).map_err(|error| error.to_string())
}
