//! What a test needs of the machine, and takes away again.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use waypoint_redirect::{
    Bounds, DEFAULT_PINS, Entry, Finding, Options, Redirect, Table, Target, Unready,
    default_cgroup, doctor,
};

use crate::process::Process;

/// A cgroup, a bpffs and a folder of pins.
pub(crate) struct Place {
    pub(crate) cgroup: PathBuf,
    pub(crate) pins: PathBuf,
    folder: tempfile::TempDir,
}

impl Place {
    /// Nothing if these tests are to be passed over.
    pub(crate) fn new() -> Option<Place> {
        let place = Place::without_bpffs()?;
        let at = place.pins.parent().unwrap();
        let mounted =
            Command::new("mount").args(["-t", "bpf", "-o", "mode=0700", "test"]).arg(at).status();
        assert!(mounted.unwrap().success(), "a bpffs can be mounted by root");
        Some(place)
    }

    /// The same, where no bpffs is mounted yet.
    pub(crate) fn without_bpffs() -> Option<Place> {
        if std::env::var("WAYPOINT_TEST_SKIP").is_ok_and(|skip| skip.contains("redirect")) {
            eprintln!("passed over: WAYPOINT_TEST_SKIP names redirect");
            return None;
        }
        demand();
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("waypoint-test-{}-{number}", std::process::id());
        let cgroup = default_cgroup().unwrap().join(name);
        fs::create_dir(&cgroup).expect("these tests run as root on a machine with cgroup2");
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("bpf")).unwrap();
        Some(Place { cgroup, pins: folder.path().join("bpf/waypoint"), folder })
    }

    pub(crate) fn options(&self) -> Options {
        Options { cgroup: self.cgroup.clone(), pins: self.pins.clone() }
    }

    pub(crate) fn open(&self) -> Redirect {
        Redirect::open(&self.options()).unwrap()
    }

    pub(crate) fn open_bounded(&self, bounds: Bounds) -> Redirect {
        Redirect::open_bounded(&self.options(), bounds).unwrap()
    }

    /// A process in the cgroup.
    pub(crate) fn client(&self) -> Process {
        self.client_in("")
    }

    /// A process in a cgroup below, which is made.
    pub(crate) fn client_in(&self, below: &str) -> Process {
        let cgroup = self.cgroup.join(below);
        fs::create_dir_all(&cgroup).unwrap();
        let process = Process::start(false);
        join(&cgroup, &process);
        process
    }

    pub(crate) fn pin(&self, name: &str) -> PathBuf {
        self.pins.join("layout-1").join(name)
    }
}

/// Fails with the names of what this machine lacks.
fn demand() {
    static MISSING: LazyLock<Vec<Finding>> = LazyLock::new(|| {
        let findings = doctor(&Options {
            cgroup: default_cgroup().unwrap_or_default(),
            pins: DEFAULT_PINS.into(),
        });
        findings.into_iter().filter(|finding| finding.needed && !finding.ok).collect()
    });
    let skip = "WAYPOINT_TEST_SKIP=redirect passes over these tests";
    assert!(MISSING.is_empty(), "this machine lacks {:#?}; {skip}", *MISSING);
}

pub(crate) fn join(cgroup: &Path, process: &Process) {
    fs::write(cgroup.join("cgroup.procs"), process.id().to_string()).unwrap();
}

impl Drop for Place {
    fn drop(&mut self) {
        // The mount goes lazily: with it the pins, and with them links, programs and maps.
        let _ = Command::new("umount")
            .arg("-l")
            .arg(self.folder.path().join("bpf"))
            .stderr(std::process::Stdio::null())
            .status();
        remove_tree(&self.cgroup);
    }
}

fn remove_tree(cgroup: &Path) {
    for below in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if below.path().is_dir() {
            remove_tree(&below.path());
        }
    }
    // Processes that were killed leave a moment later.
    for _ in 0..1000 {
        match fs::remove_dir(cgroup) {
            Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => thread::yield_now(),
            _ => return,
        }
    }
}

/// Says its name to everyone who connects, until the test process ends.
pub(crate) fn server(at: &str, name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind(at).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = writeln!(stream, "{name}");
        }
    });
    address
}

pub(crate) fn target(address: SocketAddr, weight: u16) -> Target {
    Target { address, weight }
}

pub(crate) fn entry(targets: &[SocketAddr]) -> Entry {
    Entry {
        service: "test/service:80".to_owned(),
        targets: targets.iter().map(|address| target(*address, 1)).collect(),
        unready: Unready::Refuse,
        refuse_udp: false,
    }
}

pub(crate) fn table(entries: &[(SocketAddr, Entry)]) -> Table {
    Table { entries: entries.iter().cloned().collect::<BTreeMap<_, _>>(), ..Table::default() }
}
