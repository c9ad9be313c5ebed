//! This test binary as a process of its own, in a namespace and a control group: a server, or a client
//! that connects as it is asked. A socket belongs to the control group that its process was in when it
//! was made.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::world::eventually;

const ROLE: &str = "WAYPOINT_TEST_ROLE";
/// Before each answer: libtest writes to the same output.
const MARK: char = '@';
const PATIENCE: Duration = Duration::from_secs(20);

/// A process that is asked and answers. Killed when dropped.
pub(super) struct Role {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Role {
    pub(super) fn start(through: &[String]) -> Self {
        let mut child = Command::new(&through[0])
            .args(&through[1..])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", "redirect::role::a_process_does_what_it_is_asked"])
            .env(ROLE, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (to, from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, to, from: BufReader::new(from) }
    }

    pub(super) fn ask(&mut self, what: &str) -> String {
        writeln!(self.to, "{what}").unwrap();
        loop {
            let mut line = String::new();
            assert_ne!(self.from.read_line(&mut line).unwrap(), 0, "the process ended at {what}");
            if let Some((_, answer)) = line.split_once(MARK) {
                return answer.trim_end().to_owned();
            }
        }
    }

    /// One request over a connection of its own.
    pub(super) fn get(&mut self, address: &str) -> Got {
        let answer = self.ask(&format!("get {address}"));
        serde_json::from_str(&answer).unwrap_or_else(|_| panic!("{answer}"))
    }

    /// Begins to ask without a pause, until [`Role::stop`].
    pub(super) fn begin(&mut self, address: &str) {
        assert_eq!(self.ask(&format!("begin {address}")), "begun");
    }

    /// Ends that: how often each answer came.
    pub(super) fn stop(&mut self) -> BTreeMap<String, u64> {
        serde_json::from_str(&self.ask("stop")).unwrap()
    }

    /// Waits until that many answers came.
    pub(super) fn counts(&mut self, wanted: u64) {
        eventually("answers", || self.count() >= wanted);
    }

    /// How many answers came so far.
    pub(super) fn count(&mut self) -> u64 {
        self.ask("count").parse().unwrap()
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What came of one request.
#[derive(Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
pub(super) struct Got {
    /// The status of the answer, or what the kernel said.
    pub(super) status: String,
    /// What `getpeername` answers.
    pub(super) peer: String,
    /// The body: the server's name and whom it saw.
    pub(super) body: String,
}

#[test]
fn a_process_does_what_it_is_asked() {
    if std::env::var_os(ROLE).is_none() {
        let own = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = own.local_addr().unwrap().to_string();
        thread::spawn(move || serve(&own, "own"));
        assert!(get(&address).body.starts_with("own saw 127.0.0.1"));
        return;
    }
    let mut loops = Loops::default();
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        let answer = match words[..] {
            ["listen", address, name] => listen(address, name),
            ["get", address] => serde_json::to_string(&get(address)).unwrap(),
            ["udp", address] => udp(address),
            ["begin", address] => loops.begin(address),
            ["count"] => loops.answers.load(Ordering::Relaxed).to_string(),
            ["stop"] => serde_json::to_string(&loops.stop()).unwrap(),
            _ => panic!("{line}"),
        };
        println!("{MARK}{answer}");
    }
}

fn listen(address: &str, name: &str) -> String {
    let (listener, name) = (TcpListener::bind(address).unwrap(), name.to_owned());
    thread::spawn(move || serve(&listener, &name));
    "listening".to_owned()
}

/// Answers one request of each connection.
fn serve(listener: &TcpListener, name: &str) {
    for stream in listener.incoming().flatten() {
        let name = name.to_owned();
        thread::spawn(move || drop(answer(stream, &name)));
    }
}

fn answer(mut stream: TcpStream, name: &str) -> std::io::Result<()> {
    let peer = stream.peer_addr()?.ip().to_canonical();
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut forwarded = String::from("nobody");
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let lower = line.trim_end().to_ascii_lowercase();
        match lower.strip_prefix("x-forwarded-for: ") {
            Some(value) => forwarded = value.to_owned(),
            None if lower.is_empty() => break,
            None => {}
        }
    }
    let body = format!("{name} saw {peer} for {forwarded}; write to ada@example.com");
    let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: text/plain";
    write!(stream, "{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

fn get(address: &str) -> Got {
    match try_get(address) {
        Ok(got) => got,
        Err(error) => Got { status: format!("{:?}", error.kind()), ..Got::default() },
    }
}

fn try_get(address: &str) -> std::io::Result<Got> {
    let address: SocketAddr = address.parse().unwrap();
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let peer = stream.peer_addr()?.to_string();
    write!(stream, "GET / HTTP/1.0\r\nhost: shop\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let status = text.split(' ').nth(1).unwrap_or("cut").to_owned();
    let body = text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    Ok(Got { status, peer, body })
}

fn udp(address: &str) -> String {
    let socket = UdpSocket::bind(if address.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" });
    match socket.unwrap().send_to(b"quic", address) {
        Ok(_) => "sent".to_owned(),
        Err(error) => format!("{:?}", error.kind()),
    }
}

/// Clients that ask without a pause.
#[derive(Default)]
struct Loops {
    threads: Vec<JoinHandle<BTreeMap<String, u64>>>,
    over: Arc<AtomicBool>,
    answers: Arc<std::sync::atomic::AtomicU64>,
}

impl Loops {
    fn begin(&mut self, address: &str) -> String {
        let (over, answers) = (Arc::clone(&self.over), Arc::clone(&self.answers));
        let address = address.to_owned();
        self.threads.push(thread::spawn(move || {
            let mut seen = BTreeMap::new();
            while !over.load(Ordering::Relaxed) {
                let got = get(&address);
                let said = if got.status == "200" { got.body } else { got.status };
                *seen.entry(said).or_default() += 1;
                answers.fetch_add(1, Ordering::Relaxed);
            }
            seen
        }));
        "begun".to_owned()
    }

    fn stop(&mut self) -> BTreeMap<String, u64> {
        self.over.store(true, Ordering::Relaxed);
        let mut all = BTreeMap::new();
        for thread in self.threads.drain(..) {
            for (said, count) in thread.join().unwrap() {
                *all.entry(said).or_default() += count;
            }
        }
        self.over.store(false, Ordering::Relaxed);
        all
    }
}
