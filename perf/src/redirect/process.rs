//! This binary as another process, that is asked line by line, and ends when nobody asks any more.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::str::FromStr;
use std::time::Duration;

use rustix::process::nice;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, Timespec, clock_gettime};

use super::{client, place, proxy, server};
use crate::peers::Result;

const ROLE: &str = "WAYPOINT_PERF_ROLE";
/// Of what is measured; 0 is that of others, -20 goes before all.
const NICE: i32 = -19;

/// Another process, with its ends of two pipes.
pub(super) struct Process {
    child: Child,
    /// Nothing once it is to end.
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
}

impl Process {
    pub(super) fn start(role: &str, arguments: &[impl AsRef<OsStr>]) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .env(ROLE, role)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Ctrl-C is for the one that asks; this one hears of its end.
            .process_group(0)
            .spawn()?;
        let to = child.stdin.take();
        let from = BufReader::new(child.stdout.take().ok_or("no output")?);
        Ok(Self { child, to, from })
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The answer: so many words, each a number, an address or the like.
    pub(super) fn ask<T: FromStr, const N: usize>(&mut self, question: &str) -> Result<[T; N]> {
        let to = self.to.as_mut().ok_or("the process was ended")?;
        writeln!(to, "{question}")?;
        let mut line = String::new();
        self.from.read_line(&mut line)?;
        let failed = || format!("{question:?} was answered with {line:?}");
        let words = line.strip_prefix("= ").ok_or_else(failed)?.split_whitespace();
        let words: Vec<T> = words.map_while(|word| word.parse().ok()).collect();
        words.try_into().map_err(|_| failed().into())
    }

    /// CPU time so far, of all its threads.
    pub(super) fn cpu(&mut self) -> Result<Duration> {
        let [nanos] = self.ask("cpu")?;
        Ok(Duration::from_nanos(nanos))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.to.take());
        let _ = self.child.wait();
    }
}

/// What this process is to do if it was started by [`Process::start`].
pub(crate) fn role() -> Option<ExitCode> {
    let role = std::env::var(ROLE).ok()?;
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let done = match (role.as_str(), arguments.as_slice()) {
        ("client", []) => alone().and_then(|()| client::run()),
        ("server", []) => alone().and_then(|()| server::run()),
        ("proxy", [echo, sink]) => alone().and_then(|()| proxy::run([echo, sink])),
        ("cleaner", [cgroup, folder]) => place::clean(Path::new(cgroup), Path::new(folder)),
        _ => Err(format!("{ROLE}={role} is for processes that this program starts").into()),
    };
    Some(match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {role}: {error}");
            ExitCode::FAILURE
        }
    })
}

/// All that is measured runs on one CPU, before anything else: where the scheduler puts it, and who
/// else is there, is not what is compared.
fn alone() -> Result<()> {
    let allowed = sched_getaffinity(None)?;
    let first = (0..CpuSet::MAX_CPU).find(|cpu| allowed.is_set(*cpu)).ok_or("no CPU")?;
    let mut one = CpuSet::new();
    one.set(first);
    sched_setaffinity(None, &one)?;
    nice(NICE)?;
    Ok(())
}

/// Answers until nobody asks any more; how much CPU time it took, every process can tell.
pub(super) fn serve(mut answer: impl FnMut(&[&str]) -> Result<String>) -> Result<()> {
    for line in std::io::stdin().lines() {
        let line = line?;
        let words: Vec<&str> = line.split(' ').collect();
        let answered = match words.as_slice() {
            ["cpu"] => Ok(nanos(clock_gettime(ClockId::ProcessCPUTime)).to_string()),
            words => answer(words),
        };
        match answered {
            Ok(answer) => println!("= {answer}"),
            Err(error) => println!("! {error}"),
        }
    }
    Ok(())
}

pub(super) fn nanos(time: Timespec) -> i64 {
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}
