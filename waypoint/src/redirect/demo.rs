//! `waypoint redirect demo`: the redirection on this machine, step by step, in network namespaces that
//! it makes and takes away.

mod network;
pub(crate) mod server;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use waypoint_redirect::{self as kernel, State};

use crate::cli::say;

pub use network::Network;

/// How long something may take to come about.
const PATIENCE: Duration = Duration::from_secs(60);

const SERVICES: &str = include_str!("demo/services.yaml");
const FILTER: &str = include_str!("demo/filter.yaml");

const CART: &str = "http://10.96.0.7/";
const CART_V6: &str = "http://[fd00:96::7]/";
const PLAIN: &str = "http://10.96.0.8/";

const DIRECT: &str = "service saw 10.203.0.2; write to ada@example.com";
const FILTERED: &str = "endpoint saw 10.203.0.3; write to <EMAIL>";
const REFUSED: &str = "refused";

/// Runs it: exit code 0 only if everything was as expected.
pub(crate) fn run() -> ExitCode {
    let done = Demo::begin().and_then(|mut demo| {
        demo.steps()?;
        Ok(demo.wrong)
    });
    match done {
        Ok(0) => {
            say("\nEverything was as expected, and everything is taken away again.\n");
            ExitCode::SUCCESS
        }
        Ok(wrong) => {
            say(&format!("\n{wrong} steps were not as expected.\n"));
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Demo {
    // Processes end before the network goes, and that before the folder.
    running: Vec<Running>,
    network: Network,
    folder: tempfile::TempDir,
    steps: usize,
    wrong: usize,
}

/// A process of the demo, ended when dropped.
struct Running {
    name: &'static str,
    child: Child,
}

impl Running {
    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Demo {
    fn begin() -> io::Result<Self> {
        let network = Network::make(&format!("wpdemo{}", std::process::id()))?;
        let folder = tempfile::TempDir::new()?;
        for name in ["resources", "ports", "bpf"] {
            fs::create_dir(folder.path().join(name))?;
        }
        say("\
The network: a client 10.203.0.2, a waypoint 10.203.0.3, a server 10.203.0.4. Two services, `cart` at
10.96.0.7 with a filter that masks mail addresses, `plain` at 10.96.0.8 without. What is not redirected
reaches the server at the service's own address; through the waypoint it is the endpoint's.\n");
        let mut demo = Self { running: Vec::new(), network, folder, steps: 0, wrong: 0 };
        demo.write(true)?;
        demo.start(
            "server",
            "server",
            "",
            &["redirect", "demo-server", "80=service", "8080=endpoint"],
        )?;
        demo.start_waypoint()?;
        Ok(demo)
    }

    fn steps(&mut self) -> io::Result<()> {
        self.asks("Before there is an agent, cart is asked", CART, DIRECT, "10.96.0.7:80")?;
        self.start_agent()?;
        self.until("cart to the waypoint", |state| !state.entries.is_empty())?;
        self.asks("The agent runs: cart goes through the filter", CART, FILTERED, "10.96.0.7:80")?;
        self.asks("and over IPv6", CART_V6, FILTERED, "fd00:96::7:80")?;
        self.asks("plain goes its own way", PLAIN, DIRECT, "10.96.0.8:80")?;
        self.kill("agent");
        self.asks("kill -9 of the agent changes nothing for cart", CART, FILTERED, "10.96.0.7:80")?;
        self.kill("waypoint");
        self.asks("kill -9 of the waypoint: cart is refused, not let past", CART, REFUSED, "")?;
        self.asks("and plain does not notice", PLAIN, DIRECT, "10.96.0.8:80")?;
        self.start_waypoint()?;
        self.start_agent()?;
        self.until("an agent", |state| {
            state.agent.is_some() && state.entries.iter().all(|entry| !entry.targets.is_empty())
        })?;
        self.asks("Both are back", CART, FILTERED, "10.96.0.7:80")?;
        self.write(false)?;
        self.until("an empty table", |state| state.entries.is_empty())?;
        self.asks("Without its filter, cart needs no waypoint", CART, DIRECT, "10.96.0.7:80")?;
        self.write(true)?;
        self.until("cart to the waypoint", |state| !state.entries.is_empty())?;
        self.asks("With it, it does again", CART, FILTERED, "10.96.0.7:80")?;
        let state = self.state()?;
        let redirected = state.totals.redirected.to_string();
        self.compare("What the kernel has counted as redirected", "6", &redirected);
        self.kill("agent");
        kernel::detach(&self.pins()).map_err(io::Error::other)?;
        self.asks("Detached: everything goes its own way", CART, DIRECT, "10.96.0.7:80")?;
        let left = if self.pins().exists() { "pins" } else { "nothing" };
        self.compare("What is left in the kernel", "nothing", left);
        Ok(())
    }

    /// One request of the client, and the address that it believes to have asked.
    fn asks(&mut self, what: &str, url: &str, expected: &str, peer: &str) -> io::Result<()> {
        let through = self.network.within("client", "clients");
        let shown = "%{stderr}%{remote_ip}:%{remote_port}";
        let output = Command::new(&through[0])
            .args(&through[1..])
            .args(["curl", "-s", "-m", "10", "-w", shown, url])
            .output()?;
        let body = String::from_utf8_lossy(&output.stdout);
        let seen = match output.status.code() {
            // curl: could not connect.
            Some(7) => REFUSED.to_owned(),
            _ => format!("{} [asked {}]", body.trim(), String::from_utf8_lossy(&output.stderr)),
        };
        let expected = match expected {
            REFUSED => REFUSED.to_owned(),
            body => format!("{body} [asked {peer}]"),
        };
        self.compare(&format!("{what}: curl {url}"), &expected, &seen);
        Ok(())
    }

    fn compare(&mut self, what: &str, expected: &str, seen: &str) {
        self.steps += 1;
        let verdict = if expected == seen { "ok" } else { "WRONG" };
        self.wrong += usize::from(expected != seen);
        let step = self.steps;
        say(&format!(
            "\n{step:2}. {what}\n    expected  {expected}\n    seen      {seen}\n    {verdict}\n"
        ));
    }

    fn write(&self, filtered: bool) -> io::Result<()> {
        let text = if filtered { format!("{SERVICES}---\n{FILTER}") } else { SERVICES.to_owned() };
        let aside = self.path("aside");
        fs::write(&aside, text)?;
        fs::rename(aside, self.path("resources/all.yaml"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn pins(&self) -> PathBuf {
        self.path("bpf/waypoint")
    }

    fn state(&self) -> io::Result<State> {
        State::read(&self.pins()).map_err(io::Error::other)
    }

    fn start_waypoint(&mut self) -> io::Result<()> {
        let (resources, ports, addresses) =
            (self.path("resources"), self.path("ports"), self.path("addresses.json"));
        let _ = fs::remove_file(&addresses);
        let words = [
            "run",
            "-f",
            text(&resources)?,
            "--ports",
            text(&ports)?,
            "--address",
            "::",
            "--advertise",
            "10.203.0.3,fd00:203::3",
            "--health",
            "10.203.0.3:15021",
            "--addresses-file",
            text(&addresses)?,
            "--access-log",
            "off",
        ];
        self.start("waypoint", "waypoint", "waypoint", &words)?;
        until("a waypoint that serves", || addresses.exists())
    }

    fn start_agent(&mut self) -> io::Result<()> {
        let (resources, ports, pins) = (self.path("resources"), self.path("ports"), self.pins());
        let cgroup = self.network.group("");
        let words = [
            "redirect",
            "run",
            "-f",
            text(&resources)?,
            "--ports",
            text(&ports)?,
            "--pins",
            text(&pins)?,
            "--cgroup",
            text(&cgroup)?,
            "--metrics",
            "127.0.0.1:15024",
        ];
        self.start("agent", "node", "", &words)
    }

    /// Starts this program once more, within the network.
    fn start(
        &mut self,
        name: &'static str,
        member: &str,
        group: &str,
        words: &[&str],
    ) -> io::Result<()> {
        let through = self.network.within(member, group);
        let log = fs::File::create(self.path(&format!("{name}.log")))?;
        let child = Command::new(&through[0])
            .args(&through[1..])
            .arg(std::env::current_exe()?)
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        self.running.push(Running { name, child });
        Ok(())
    }

    fn kill(&mut self, name: &str) {
        self.running.retain(|running| running.name != name);
    }

    fn until(&self, what: &str, holds: impl Fn(&State) -> bool) -> io::Result<()> {
        let done = until(what, || self.state().is_ok_and(|state| holds(&state)));
        done.inspect_err(|_| {
            for name in ["waypoint", "agent"] {
                let log = fs::read_to_string(self.path(&format!("{name}.log")));
                eprintln!("--- {name}\n{}", log.unwrap_or_default());
            }
        })
    }
}

fn until(what: &str, holds: impl Fn() -> bool) -> io::Result<()> {
    let begun = Instant::now();
    while !holds() {
        if begun.elapsed() > PATIENCE {
            return Err(io::Error::new(io::ErrorKind::TimedOut, format!("{what} did not come")));
        }
        sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn text(path: &Path) -> io::Result<&str> {
    path.to_str().ok_or_else(|| io::Error::other("the temporary folder has a strange name"))
}
