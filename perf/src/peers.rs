//! The processes that are measured.

use std::error::Error;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// How long a process may take to listen.
const START_MAX: Duration = Duration::from_secs(60);
/// Clock ticks of `/proc/PID/stat` in a second: `USER_HZ`, 100 on every Linux.
const TICKS: u32 = 100;

/// A process that answers HTTP on a port.
pub(crate) trait Peer {
    fn port(&self) -> u16;
    /// CPU time so far, of all its threads and processes.
    fn cpu(&self) -> Result<Duration>;
}

/// An nginx with two workers, as an origin or as a proxy.
pub(crate) struct Nginx {
    child: Child,
    port: u16,
    _dir: TempDir,
}

impl Nginx {
    /// Answers 200 with two bytes: `/orders` at once, `/upload` when it has read the body. (nginx
    /// reads a body before it passes a request on, here to itself; `return` does not wait for it.)
    pub(crate) fn origin() -> Result<Self> {
        let locations = "location /orders { return 200 'ok'; } \
                         location /upload { proxy_pass http://itself; proxy_http_version 1.1; \
                         proxy_set_header Connection ''; }";
        let http = "upstream itself { server unix:{root}/itself; keepalive 128; } \
                    server { listen unix:{root}/itself; return 200 'ok'; }";
        Self::start(locations, http)
    }

    /// A plain reverse proxy with keep-alive upstream connections.
    pub(crate) fn proxy(origin: u16) -> Result<Self> {
        let upstream = format!("upstream origin {{ server 127.0.0.1:{origin}; keepalive 128; }}");
        let location = "location / { proxy_pass http://origin; proxy_http_version 1.1; \
                        proxy_set_header Connection ''; proxy_set_header Host $host; }";
        Self::start(location, &upstream)
    }

    fn start(location: &str, http: &str) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let port = free_port()?;
        let root = dir.path().display();
        let http = http.replace("{root}", &root.to_string());
        let config = format!(
            "worker_processes 2; daemon off; pid {root}/pid; error_log {root}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 1000000000; client_body_temp_path {root}/body;
  proxy_temp_path {root}/proxy; fastcgi_temp_path {root}/f; uwsgi_temp_path {root}/u;
  scgi_temp_path {root}/s;
  {http}
  server {{ listen 127.0.0.1:{port} reuseport; {location} }}
}}"
        );
        let file = dir.path().join("nginx.conf");
        std::fs::write(&file, config)?;
        let mut command = Command::new("nginx");
        let child = command.arg("-c").arg(&file).stderr(Stdio::null()).spawn()?;
        listening(port)?;
        Ok(Self { child, port, _dir: dir })
    }
}

impl Peer for Nginx {
    fn port(&self) -> u16 {
        self.port
    }

    /// Of its workers: the master does nothing.
    fn cpu(&self) -> Result<Duration> {
        let master = self.child.id();
        let children = format!("/proc/{master}/task/{master}/children");
        let workers = std::fs::read_to_string(children)?;
        workers.split_whitespace().map(|pid| cpu_of(pid.parse()?)).sum()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // nginx ends its workers only when it is asked to: SIGTERM, by pid.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

/// Our release binary.
pub(crate) struct Waypoint {
    child: Child,
    port: u16,
    _dir: TempDir,
}

impl Waypoint {
    pub(crate) fn start(binary: &Path, resources: &str) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        std::fs::write(dir.path().join("all.yaml"), resources)?;
        let port = free_port()?;
        let child = Command::new(binary)
            .args(["run", "--workers", "2", "--access-log", "off", "--log-level", "error", "-f"])
            .arg(dir.path())
            .args(["--bind", &format!("gateway/default/8080=127.0.0.1:{port}")])
            .args(["--admin", "127.0.0.1:0", "--stats", "127.0.0.1:0", "--health", "127.0.0.1:0"])
            .spawn()?;
        listening(port)?;
        Ok(Self { child, port, _dir: dir })
    }

    pub(crate) fn resident_kib(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).ok_or("no VmRSS")?;
        Ok(line.split_whitespace().nth(1).ok_or("no VmRSS")?.parse()?)
    }
}

impl Peer for Waypoint {
    fn port(&self) -> u16 {
        self.port
    }

    fn cpu(&self) -> Result<Duration> {
        cpu_of(self.child.id())
    }
}

impl Drop for Waypoint {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
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

fn free_port() -> Result<u16> {
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
