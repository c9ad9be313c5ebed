//! Half of a core for a process: by a control group where one can be made, else by stopping and
//! continuing it.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::fd::OwnedFd;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::harness::{PATIENCE, cpu_time};

/// What a process may use of each period; both means keep to these.
const QUOTA: Duration = Duration::from_millis(50);
const PERIOD: Duration = Duration::from_millis(100);

/// A process has half of a core as long as this lives.
#[derive(Debug)]
pub(super) enum HalfACore {
    Group(#[expect(dead_code, reason = "held for its end")] Group),
    Pauses(#[expect(dead_code, reason = "held for its end")] Pauses),
}

impl HalfACore {
    pub(super) fn of(pid: u32) -> Self {
        match Group::of(pid) {
            Ok(group) => Self::Group(group),
            Err(error) => {
                eprintln!("stopped and continued, for there is no control group: {error}");
                Self::Pauses(Pauses::of(pid))
            }
        }
    }
}

/// A control group of one process; removed at the end.
#[derive(Debug)]
pub(super) struct Group(PathBuf);

impl Group {
    /// # Errors
    ///
    /// If nobody may make one here: not root, or a container whose hierarchies are read-only.
    fn of(pid: u32) -> std::io::Result<Self> {
        let (parent, unified) = hierarchy()?;
        let path = parent.join(format!("waypoint-test-{pid}"));
        std::fs::create_dir(&path)?;
        let group = Self(path);
        let (quota, period) = (QUOTA.as_micros(), PERIOD.as_micros());
        let limits = match unified {
            true => vec![("cpu.max", format!("{quota} {period}"))],
            false => vec![
                ("cpu.cfs_period_us", period.to_string()),
                ("cpu.cfs_quota_us", quota.to_string()),
            ],
        };
        for (file, limit) in limits {
            std::fs::write(group.0.join(file), limit)?;
        }
        std::fs::write(group.0.join("cgroup.procs"), pid.to_string())?;
        Ok(group)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // A group can be removed when it is empty, and a killed process takes a moment to end.
        let parent = self.0.parent().expect("a group has a parent").join("cgroup.procs");
        for pid in std::fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default().lines()
        {
            let _ = std::fs::write(&parent, pid);
        }
        for _ in 0..500 {
            if std::fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        eprintln!("{} is left behind", self.0.display());
    }
}

/// The hierarchy whose groups can have a share of the CPU, and whether it is the unified one.
fn hierarchy() -> std::io::Result<(PathBuf, bool)> {
    let mounts = std::fs::read_to_string("/proc/mounts")?;
    let mounts = || mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    // A mount of version 1 names its controllers among its options.
    let of_cpu =
        |mount: &Vec<&str>| mount[2] == "cgroup" && mount[3].split(',').any(|one| one == "cpu");
    if let Some(mount) = mounts().find(of_cpu) {
        return Ok((PathBuf::from(mount[1]), false));
    }
    let unified = mounts().find(|mount| mount[2] == "cgroup2");
    let unified = unified.ok_or_else(|| std::io::Error::other("none is mounted"))?;
    let root = Path::new(unified[1]);
    let enabled = root.join("cgroup.subtree_control");
    if !std::fs::read_to_string(&enabled)?.split_whitespace().any(|one| one == "cpu") {
        std::fs::write(&enabled, "+cpu")?;
    }
    Ok((root.to_owned(), true))
}

/// A thread that stops a process for the rest of each period in which it has used up its quota.
#[derive(Debug)]
pub(super) struct Pauses {
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// How often it looks: twice for each tick of 10 ms in which CPU time is counted.
const LOOK: Duration = Duration::from_millis(5);

impl Pauses {
    fn of(pid: u32) -> Self {
        let number = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a pid");
        let process = pidfd_open(number, PidfdFlags::empty()).expect("the process runs");
        let (end, ended) = channel();
        let look = move || match ended.recv_timeout(LOOK) {
            Err(RecvTimeoutError::Timeout) => true,
            Ok(()) | Err(RecvTimeoutError::Disconnected) => false,
        };
        let thread = std::thread::spawn(move || pause(pid, &process, look));
        Self { end: Some(end), thread: Some(thread) }
    }
}

impl Drop for Pauses {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Goes on until `look` says no, or the process ends.
fn pause(pid: u32, process: &OwnedFd, look: impl Fn() -> bool) {
    let looks = PERIOD.as_millis() / LOOK.as_millis();
    let mut allowed = cpu_time(pid).unwrap_or_default();
    'periods: loop {
        // What was not used is not kept, what was used too much is owed.
        allowed = allowed.min(cpu_time(pid).unwrap_or_default()) + QUOTA;
        for _ in 0..looks {
            let Some(used) = cpu_time(pid) else { break 'periods };
            let signal = if used < allowed { Signal::CONT } else { Signal::STOP };
            if pidfd_send_signal(process, signal).is_err() || !look() {
                break 'periods;
            }
        }
    }
    // It may have ended.
    let _ = pidfd_send_signal(process, Signal::CONT);
}

/// What a busy process uses in a test of the means themselves.
const USED: Duration = Duration::from_secs(1);

#[tokio::test]
async fn each_means_that_this_machine_has_gives_a_busy_process_half_of_a_core_and_no_more() {
    let by_group = |pid| Group::of(pid).map(HalfACore::Group);
    let by_pauses = |pid| Ok(HalfACore::Pauses(Pauses::of(pid)));
    for means in [&by_group as &dyn Fn(u32) -> std::io::Result<HalfACore>, &by_pauses] {
        let mut busy = tokio::process::Command::new("sh");
        let busy = busy.args(["-c", "while :; do :; done"]).kill_on_drop(true);
        let busy = busy.spawn().expect("a shell");
        let pid = busy.id().expect("it runs");
        let half = match means(pid) {
            Ok(half) => half,
            // Whoever makes no group has the other means.
            Err(error) => {
                eprintln!("no control group: {error}");
                continue;
            }
        };
        let (before, began) = (cpu_time(pid).expect("it runs"), tokio::time::Instant::now());
        let using = async {
            while cpu_time(pid).expect("it runs") < before + USED {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, using).await.expect("it is not stopped for good");
        let took = began.elapsed();
        assert!(USED.mul_f32(1.7) < took, "{half:?}: a second of CPU took {took:?}");
        drop((busy, half));
    }
}
