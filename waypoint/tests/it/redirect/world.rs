//! The network of the demo ([`Network`]), with processes of the tests in it.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use waypoint::redirect::Network;

use super::role::Role;
use crate::harness::{PATIENCE, Waypoint};

/// Who lives where.
pub(super) const CLIENT: &str = "10.203.0.2";
pub(super) const CLIENT_V6: &str = "fd00:203::2";
pub(super) const WAYPOINT: &str = "10.203.0.3";
pub(super) const OTHER_WAYPOINT: &str = "10.203.0.5";
pub(super) const SERVER: &str = "10.203.0.4";

/// Whether these tests are passed over by name; says so.
pub(super) fn passed_over() -> bool {
    let named = std::env::var("WAYPOINT_TEST_SKIP").is_ok_and(|names| names.contains("redirect"));
    if named {
        eprintln!("passed over: WAYPOINT_TEST_SKIP names redirect");
    }
    named
}

pub(super) struct World {
    network: Network,
    pub(super) dir: TempDir,
}

impl World {
    /// Makes it; `None` where the tests of the redirection are passed over by name.
    pub(super) fn new() -> Option<Self> {
        if passed_over() {
            return None;
        }
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let network = Network::make(&format!("wp{}x{number}", std::process::id()));
        let network = network.expect("these tests run as root on a machine with cgroup2");
        let dir = TempDir::new().unwrap();
        for name in ["bpf", "ports"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        Some(Self { network, dir })
    }

    pub(super) fn ports(&self) -> PathBuf {
        self.dir.path().join("ports")
    }

    pub(super) fn pins(&self) -> PathBuf {
        self.dir.path().join("bpf/waypoint")
    }

    pub(super) fn group(&self, name: &str) -> PathBuf {
        self.network.group(name)
    }

    pub(super) fn within(&self, member: &str, group: &str) -> Vec<String> {
        self.network.within(member, group)
    }

    /// A process in the clients' namespace and control group that connects for us.
    pub(super) fn client(&self) -> Role {
        Role::start(&self.within("client", "clients"))
    }

    /// Servers at these addresses, in one process: each answers with its name and who asked.
    pub(super) fn server(&self, listens: &[(&str, &str)]) -> Role {
        let mut server = Role::start(&self.within("server", ""));
        for (address, name) in listens {
            assert_eq!(server.ask(&format!("listen {address} {name}")), "listening");
        }
        server
    }

    /// A waypoint at `.3` (`waypoint`) or `.5` (`other`) that publishes its ports.
    pub(super) async fn waypoint(&self, name: &str, resources: &str) -> Waypoint {
        let waypoint = self.waypoint_with(name, resources, &[]);
        waypoint.logged("serving").await;
        waypoint
    }

    /// The same with more arguments; waits for nothing.
    pub(super) fn waypoint_with(&self, name: &str, resources: &str, more: &[&str]) -> Waypoint {
        self.waypoint_by(&self.within(name, name), name, resources, more)
    }

    fn waypoint_by(
        &self,
        through: &[String],
        name: &str,
        resources: &str,
        more: &[&str],
    ) -> Waypoint {
        let last = if name == "waypoint" { 3 } else { 5 };
        let (v4, v6) = (format!("10.203.0.{last}"), format!("fd00:203::{last}"));
        let (ports, advertise) = (self.ports(), format!("{v4},{v6}"));
        let health = format!("health={v4}:15021");
        let mut arguments = vec!["--ports", ports.to_str().unwrap(), "--name", name];
        arguments.extend(["--address", "::", "--advertise", &advertise, "--bind", &health]);
        arguments.extend(more);
        let through: Vec<&str> = through.iter().map(String::as_str).collect();
        Waypoint::spawn_through(&through, resources, &arguments)
    }

    /// A waypoint in the clients' own control group, without the right to mark its connections.
    pub(super) async fn unmarked_waypoint(&self, resources: &str) -> Waypoint {
        let mut through = self.within("waypoint", "clients");
        through.extend(["setpriv", "--bounding-set=-net_admin,-net_raw"].map(str::to_owned));
        let waypoint = self.waypoint_by(&through, "waypoint", resources, &[]);
        waypoint.logged("serving").await;
        waypoint
    }

    /// An agent that follows `resources`, which lie at the path that it gives.
    pub(super) fn agent(&self, resources: &str) -> Agent {
        self.agent_with(resources, &[])
    }

    pub(super) fn agent_with(&self, resources: &str, more: &[&str]) -> Agent {
        self.agent_by(&[], resources, more)
    }

    /// The same, by a command that becomes the agent.
    pub(super) fn agent_by(&self, by: &[&str], resources: &str, more: &[&str]) -> Agent {
        let files = self.dir.path().join("agent.yaml");
        write(&files, resources);
        let log = self.dir.path().join("agent.log");
        let through = self.within("node", "");
        let child = Command::new(&through[0])
            .args(&through[1..])
            .args(by)
            .arg(env!("CARGO_BIN_EXE_waypoint"))
            .args(["redirect", "run", "-f"])
            .arg(&files)
            .arg("--ports")
            .arg(self.ports())
            .args(unless_given(more, "--metrics", "127.0.0.1:15024"))
            .args(unless_given(more, "--cgroup", self.group("").to_str().unwrap()))
            .arg("--pins")
            .arg(self.pins())
            .args(more)
            .stderr(fs::File::options().create(true).append(true).open(&log).unwrap())
            .spawn()
            .unwrap();
        Agent { child, log, files }
    }

    /// Mounts the bpffs that an agent otherwise mounts itself.
    pub(super) fn mount(&self) {
        let mut mount = Command::new("mount");
        mount.args(["-t", "bpf", "-o", "mode=0700", "test"]).arg(self.dir.path().join("bpf"));
        assert!(mount.status().unwrap().success());
    }

    /// `waypoint redirect …` of the node.
    pub(super) fn redirect(&self, words: &[&str]) -> std::process::Output {
        let through = self.within("node", "");
        let mut command = Command::new(&through[0]);
        command.args(&through[1..]).arg(env!("CARGO_BIN_EXE_waypoint")).arg("redirect").args(words);
        if words[0] != "explain" {
            command.arg("--pins").arg(self.pins());
        }
        command.output().unwrap()
    }

    /// What is in the kernel.
    pub(super) fn state(&self) -> Value {
        let output = self.redirect(&["status", "-o", "json"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The agent's metrics, or whatever else is at that path.
    pub(super) fn page(&self, path: &str) -> String {
        let through = self.within("node", "");
        let url = format!("http://127.0.0.1:15024{path}");
        let output =
            Command::new(&through[0]).args(&through[1..]).args(["curl", "-s", &url]).output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    }

    /// Waits until the kernel sends a service's connections to these addresses, in order.
    pub(super) async fn goes_to(&self, service: &str, targets: &[SocketAddr]) {
        let targets: Vec<String> = targets.iter().map(ToString::to_string).collect();
        self.until(&format!("{service} to {targets:?}"), |state| {
            let entries = state["entries"].as_array().unwrap();
            let of_service = entries.iter().filter(|entry| entry["service"] == service);
            let mut found = of_service.map(|entry| {
                let all = entry["targets"].as_array().unwrap().iter();
                let mut all: Vec<_> =
                    all.map(|one| one["address"].as_str().unwrap().to_owned()).collect();
                all.sort();
                all
            });
            found.next().is_some_and(|found| found == targets)
        })
        .await;
    }

    /// Waits until a service has no entry.
    pub(super) async fn goes_direct(&self, service: &str) {
        self.until(&format!("{service} direct"), |state| {
            state["entries"].as_array().unwrap().iter().all(|entry| entry["service"] != service)
        })
        .await;
    }

    /// Waits until the kernel is in a state.
    pub(super) async fn until(&self, what: &str, holds: impl Fn(&Value) -> bool) {
        let begun = std::time::Instant::now();
        loop {
            let output = self.redirect(&["status", "-o", "json"]);
            if output.status.success() && holds(&serde_json::from_slice(&output.stdout).unwrap()) {
                return;
            }
            if begun.elapsed() > PATIENCE {
                let log = fs::read_to_string(self.dir.path().join("agent.log"));
                let state = String::from_utf8_lossy(&output.stdout).into_owned();
                panic!("not {what}\n{state}\n{}", log.unwrap_or_default());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // With the mount go the pins, and with them links, programs and maps.
        let mut unmount = Command::new("umount");
        unmount.arg("-l").arg(self.dir.path().join("bpf"));
        let _ = unmount.stderr(Stdio::null()).status();
    }
}

/// An argument with its value, unless the test gives another.
fn unless_given<'a>(more: &[&str], name: &'a str, value: &'a str) -> Vec<&'a str> {
    if more.contains(&name) { Vec::new() } else { vec![name, value] }
}

/// Waits until something holds. It blocks: what is waited for happens in other processes.
pub(super) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "not so: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A running agent; killed when dropped.
pub(super) struct Agent {
    child: std::process::Child,
    log: PathBuf,
    files: PathBuf,
}

impl Agent {
    /// Gives it other resources, in one step.
    pub(super) fn write(&self, resources: &str) {
        write(&self.files, resources);
    }

    pub(super) fn log_path(&self) -> PathBuf {
        self.log.clone()
    }

    pub(super) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// kill -9.
    pub(super) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to end, and gives its exit code.
    pub(super) fn end(mut self) -> Option<i32> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap().code()
    }

    /// Waits for its end.
    pub(super) fn exit_code(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn write(path: &Path, text: &str) {
    let aside = path.with_extension("tmp");
    fs::write(&aside, text).unwrap();
    fs::rename(&aside, path).unwrap();
}
