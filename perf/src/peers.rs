//! The processes that are measured.

use std::error::Error;
use std::ffi::OsStr;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::resources::ENDPOINTS;

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// How long a process may take to listen.
const START_MAX: Duration = Duration::from_secs(60);
/// What the origin answers `/big` with.
const BIG_BYTES: usize = 1 << 20;
/// Clock ticks of `/proc/PID/stat` in a second: `USER_HZ`, 100 on every Linux.
const TICKS: u32 = 100;

/// A process that answers HTTP on a port.
pub(crate) trait Peer {
    fn process(&self) -> &Process;

    fn port(&self) -> u16 {
        self.process().port
    }

    /// CPU time so far, of all its threads and of its children.
    fn cpu(&self) -> Result<Duration> {
        let pid = self.process().child.id();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        let children = children.split_whitespace().map(|child| cpu_of(child.parse()?));
        children.chain([cpu_of(pid)]).sum()
    }
}

/// A child that listens on a port; it is ended with this.
pub(crate) struct Process {
    child: Child,
    port: u16,
}

impl Process {
    /// Starts `binary` with what `arguments` adds, and waits until it listens.
    pub(crate) fn start(
        binary: impl AsRef<OsStr>,
        port: u16,
        arguments: impl FnOnce(&mut Command) -> &mut Command,
    ) -> Result<Self> {
        let child = arguments(&mut Command::new(binary)).stderr(Stdio::null()).spawn()?;
        let process = Self { child, port };
        listening(port)?;
        Ok(process)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // nginx ends its workers only when it is asked to: SIGTERM, by pid.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

/// An nginx with two workers, as an origin or as a proxy, on one port of all [`ENDPOINTS`].
pub(crate) struct Nginx {
    process: Process,
    _dir: TempDir,
}

impl Nginx {
    /// Answers 200 with two bytes: `/orders` at once, `/upload` when it has read the body. (nginx
    /// reads a body before it passes a request on, here to itself; `return` does not wait for it.)
    /// `/big` has [`BIG_BYTES`]; any other path is as `/orders`.
    pub(crate) fn origin() -> Result<Self> {
        let locations = "location / { return 200 'ok'; } location /big { root {root}; } \
                         location /upload { proxy_pass http://itself; proxy_http_version 1.1; \
                         proxy_set_header Connection ''; }";
        let http = "upstream itself { server unix:{root}/itself; keepalive 128; } \
                    server { listen unix:{root}/itself; return 200 'ok'; }";
        Self::start(locations, http, "")
    }

    /// The same, spoken to in HTTP/2 with prior knowledge, but for `/upload`.
    pub(crate) fn http2_origin() -> Result<Self> {
        Self::start("location / { return 200 'ok'; } location /big { root {root}; }", "", "http2")
    }

    /// A plain reverse proxy with keep-alive upstream connections.
    pub(crate) fn proxy(origin: u16) -> Result<Self> {
        let upstream = format!("upstream origin {{ server 127.0.0.1:{origin}; keepalive 128; }}");
        let location = "location / { proxy_pass http://origin; proxy_http_version 1.1; \
                        proxy_set_header Connection ''; proxy_set_header Host $host; }";
        Self::start(location, &upstream, "")
    }

    fn start(location: &str, http: &str, protocol: &str) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let port = free_port()?;
        let root = dir.path().display();
        std::fs::write(dir.path().join("big"), vec![b'x'; BIG_BYTES])?;
        let [http, location] =
            [http, location].map(|text| text.replace("{root}", &root.to_string()));
        let listen = |address| format!("listen {address}:{port} reuseport {protocol};");
        let listen = ENDPOINTS.map(listen).concat();
        let config = format!(
            "worker_processes 2; daemon off; pid {root}/pid; error_log {root}/error.log;
events {{ worker_connections 16384; }}
http {{
  access_log off; open_file_cache max=16; keepalive_requests 1000000000; client_body_temp_path {root}/body;
  proxy_temp_path {root}/proxy; fastcgi_temp_path {root}/f; uwsgi_temp_path {root}/u;
  scgi_temp_path {root}/s;
  {http}
  server {{ {listen} {location} }}
}}"
        );
        let file = dir.path().join("nginx.conf");
        std::fs::write(&file, config)?;
        let process = Process::start("nginx", port, |command| command.arg("-c").arg(&file))?;
        Ok(Self { process, _dir: dir })
    }
}

impl Peer for Nginx {
    fn process(&self) -> &Process {
        &self.process
    }
}

/// Our release binary.
pub(crate) struct Waypoint {
    process: Process,
    _dir: TempDir,
}

impl Waypoint {
    pub(crate) fn start(binary: &Path, resources: &str) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        std::fs::write(dir.path().join("all.yaml"), resources)?;
        let port = free_port()?;
        let process = Process::start(binary, port, |command| {
            command
                .args(["run", "--workers", "2", "--access-log", "off", "--log-level", "error"])
                .args(["--admin", "127.0.0.1:0", "--stats", "127.0.0.1:0"])
                .args(["--health", "127.0.0.1:0", "--bind"])
                .arg(format!("gateway/default/8080=127.0.0.1:{port}"))
                .arg("-f")
                .arg(dir.path())
        })?;
        Ok(Self { process, _dir: dir })
    }

    pub(crate) fn resident_kib(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.child.id()))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).ok_or("no VmRSS")?;
        Ok(line.split_whitespace().nth(1).ok_or("no VmRSS")?.parse()?)
    }
}

impl Peer for Waypoint {
    fn process(&self) -> &Process {
        &self.process
    }
}

/// # Source
///
/// proc_pid_stat(5): fields 14 and 15 are user and system time, in clock ticks.
fn cpu_of(pid: u32) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = stat.rsplit_once(')').ok_or("no stat")?.1;
    let mut times = fields.split_whitespace().skip(11).take(2).map(str::parse::<u32>);
    let (user, system) = (times.next().ok_or("no utime")??, times.next().ok_or("no stime")??);
    Ok(Duration::from_secs(1) * (user + system) / TICKS)
}

pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn listening(port: u16) -> Result<()> {
    let begun = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if begun.elapsed() > START_MAX {
            return Err(format!("nothing listens on {port}").into());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
