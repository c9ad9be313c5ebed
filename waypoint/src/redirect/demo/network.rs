//! A node in miniature, made of network namespaces and control groups, and taken away when dropped.
//! The server's namespace has the addresses of services itself, so that what is not redirected
//! arrives there directly: what kube-proxy does in a cluster.
//!
//! ```text
//!            node: bridge 10.203.0.1, fd00:203::1
//!   client .2      waypoint .3      other .5      server .4, services 10.96.0.0/16, fd00:96::/112
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

/// Who lives behind the bridge, with the last part of its addresses.
const MEMBERS: [(&str, u8); 4] = [("client", 2), ("waypoint", 3), ("server", 4), ("other", 5)];
/// Control groups below the network's own.
const GROUPS: [&str; 3] = ["clients", "waypoint", "other"];
/// How often a control group is tried to be removed, 2 ms apart: it can be a moment after its last
/// process has ended.
const REMOVALS: u32 = 1_000;

/// The namespaces and control groups of one name.
pub struct Network {
    name: String,
    cgroup: PathBuf,
}

impl Network {
    /// Makes them.
    ///
    /// # Errors
    ///
    /// This is not root, `ip` is missing, or the name is taken. What was made is removed.
    pub fn make(name: &str) -> io::Result<Self> {
        let cgroup = waypoint_redirect::default_cgroup()?.join(name);
        let network = Self { name: name.to_owned(), cgroup };
        for group in ["", GROUPS[0], GROUPS[1], GROUPS[2]] {
            fs::create_dir(network.cgroup.join(group))?;
        }
        network.lay_cables()?;
        Ok(network)
    }

    fn lay_cables(&self) -> io::Result<()> {
        let node = self.netns("node");
        ip(&format!("netns add {node}"))?;
        let inside = |ns: &str, words: &str| ip(&format!("-n {ns} {words}"));
        inside(&node, "link set lo up")?;
        inside(&node, "link add br0 type bridge")?;
        inside(&node, "addr add 10.203.0.1/24 dev br0")?;
        inside(&node, "addr add fd00:203::1/64 dev br0 nodad")?;
        inside(&node, "link set br0 up")?;
        for (member, last) in MEMBERS {
            let ns = self.netns(member);
            ip(&format!("netns add {ns}"))?;
            inside(&node, &format!("link add v{last} type veth peer name eth0 netns {ns}"))?;
            inside(&node, &format!("link set v{last} master br0 up"))?;
            inside(&ns, "link set lo up")?;
            inside(&ns, &format!("addr add 10.203.0.{last}/24 dev eth0"))?;
            inside(&ns, &format!("addr add fd00:203::{last}/64 dev eth0 nodad"))?;
            inside(&ns, "link set eth0 up")?;
            if member == "server" {
                inside(&ns, "route add local 10.96.0.0/16 dev lo")?;
                inside(&ns, "-6 route add local fd00:96::/112 dev lo")?;
            } else {
                inside(&ns, "route add 10.96.0.0/16 via 10.203.0.4")?;
                inside(&ns, "-6 route add fd00:96::/112 via fd00:203::4")?;
            }
        }
        Ok(())
    }

    fn netns(&self, member: &str) -> String {
        format!("{}-{member}", self.name)
    }

    /// A control group: `""` for the one above all, `clients`, `waypoint`, `other`.
    pub fn group(&self, name: &str) -> PathBuf {
        self.cgroup.join(name)
    }

    /// The words before a command that put it into a member's namespace and a control group. A member
    /// is `node`, `client`, `waypoint`, `server` or `other`.
    pub fn within(&self, member: &str, group: &str) -> Vec<String> {
        let procs = self.group(group).join("cgroup.procs");
        let script = format!("echo $$ > {} && exec \"$@\"", procs.display());
        let netns = format!("--net=/run/netns/{}", self.netns(member));
        ["sh", "-c", &script, "sh", "nsenter", &netns].map(str::to_owned).into()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for member in MEMBERS.map(|(member, _)| member).into_iter().chain(["node"]) {
            // One that was not made is not there.
            let _ = ip(&format!("netns del {}", self.netns(member)));
        }
        for group in GROUPS.into_iter().chain([""]) {
            remove_group(&self.cgroup.join(group));
        }
    }
}

fn remove_group(group: &Path) {
    for _ in 0..REMOVALS {
        match fs::remove_dir(group) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                thread::sleep(Duration::from_millis(2));
            }
            _ => return,
        }
    }
}

/// Runs `ip` with words that are parted by spaces.
fn ip(words: &str) -> io::Result<()> {
    let output = Command::new("ip").args(words.split(' ')).output()?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(io::Error::other(format!("ip {words}: {}", said.trim())))
        }
    }
}
