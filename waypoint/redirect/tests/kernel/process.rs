//! This test binary as a process of its own: it does what it is asked, line by line.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::agent;
use crate::place::Place;

const ROLE: &str = "WAYPOINT_TEST_PROCESS";
/// Before each answer: libtest writes to the same output.
const MARK: char = '@';
const CONNECT_TIME: Duration = Duration::from_secs(20);

/// A process that is asked and answers. Killed when dropped.
pub(crate) struct Process {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Process {
    /// `apart`: in a network namespace of its own.
    pub(crate) fn start(apart: bool) -> Process {
        let exe = std::env::current_exe().unwrap();
        let mut command = if apart {
            let mut command = Command::new("unshare");
            command.arg("--net").arg(exe);
            command
        } else {
            Command::new(exe)
        };
        command.args(["--exact", "--nocapture", "process::a_process_does_what_it_is_asked"]);
        let mut child =
            command.env(ROLE, "1").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let to = child.stdin.take().unwrap();
        let from = BufReader::new(child.stdout.take().unwrap());
        let mut process = Process { child, to, from };
        assert_eq!(process.ask("hello"), "hello");
        process
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks, and does not wait for an answer.
    pub(crate) fn tell(&mut self, what: impl AsRef<str>) {
        writeln!(self.to, "{}", what.as_ref()).unwrap();
    }

    pub(crate) fn ask(&mut self, what: impl AsRef<str>) -> String {
        self.tell(&what);
        loop {
            let mut line = String::new();
            let read = self.from.read_line(&mut line).unwrap();
            assert_ne!(read, 0, "the process ended at {:?}", what.as_ref());
            if let Some((_, answer)) = line.split_once(MARK) {
                return answer.trim_end().to_owned();
            }
        }
    }

    /// Connects a new socket: who answered, and who the socket says that it was.
    pub(crate) fn connect(&mut self, to: SocketAddr) -> (String, String) {
        let answer = self.ask(format!("once {to}"));
        let (name, peer) = answer.split_once(' ').unwrap_or((&answer, ""));
        (name.to_owned(), peer.to_owned())
    }

    /// kill -9, and waits for it.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_process_does_what_it_is_asked() {
    if std::env::var_os(ROLE).is_some() {
        return serve();
    }
    let Some(place) = Place::new() else { return };
    let mut client = place.client();
    let name = place.cgroup.file_name().unwrap().to_str().unwrap();
    assert!(client.ask("cgroup").ends_with(name));
}

fn serve() {
    let mut state = State::default();
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let answer = state.answer(&line).unwrap_or_else(|error| error_name(&error));
        println!("{MARK}{answer}");
    }
}

fn error_name(error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(111) => "ECONNREFUSED".to_owned(),
        Some(115) => "EINPROGRESS".to_owned(),
        Some(114) => "EALREADY".to_owned(),
        Some(106) => "EISCONN".to_owned(),
        Some(107) => "ENOTCONN".to_owned(),
        _ => format!("error: {error}"),
    }
}

/// Connects until it is told to stop, and counts who answered.
type Loop = JoinHandle<BTreeMap<String, u64>>;

#[derive(Default)]
struct State {
    sockets: BTreeMap<String, Socket>,
    loops: Vec<Loop>,
    stop: Arc<AtomicBool>,
    agent: agent::Agent,
}

impl State {
    fn answer(&mut self, line: &str) -> std::io::Result<String> {
        let words: Vec<&str> = line.split(' ').collect();
        let address = |at: usize| -> SocketAddr { words[at].parse().unwrap() };
        match words[0] {
            "hello" => return Ok("hello".to_owned()),
            "cgroup" => {
                let text = std::fs::read_to_string("/proc/self/cgroup")?;
                let line = text.lines().find(|line| line.starts_with("0::"));
                return Ok(line.unwrap().to_owned());
            }
            "serve" => return Ok(crate::place::server(words[1], "apart").to_string()),
            "once" => return once(address(1)),
            "socket" => {
                let socket = socket(words[2] == "v6", words[3] == "udp")?;
                for option in &words[4..] {
                    match option.split_once('=') {
                        Some(("mark", mark)) => socket.set_mark(mark.parse().unwrap())?,
                        _ => socket.set_nonblocking(true)?,
                    }
                }
                self.sockets.insert(words[1].to_owned(), socket);
                return Ok("ok".to_owned());
            }
            "loop" => {
                let (to, stop) = (address(1), Arc::clone(&self.stop));
                self.loops.push(thread::spawn(move || connect_on(to, &stop)));
                return Ok("ok".to_owned());
            }
            "stop" => return Ok(self.stop_loops()),
            "agent" => return Ok(self.agent.answer(&words[1..])),
            _ => {}
        }
        let socket = &self.sockets[words[1]];
        match words[0] {
            "connect" => socket.connect(&address(2).into())?,
            "unspec" => rustix::net::connect_unspec(socket)?,
            "sendto" => drop(socket.send_to(b"datagram", &address(2).into())?),
            "peer" => return peer(socket),
            "read" => return first_line(socket),
            // Until the connect has an end: then the error, if it was one.
            "wait" => {
                let mut fds = [rustix::event::PollFd::new(socket, rustix::event::PollFlags::OUT)];
                rustix::event::poll(&mut fds, None)?;
                if let Some(error) = socket.take_error()? {
                    return Err(error);
                }
            }
            other => panic!("{other} is no command"),
        }
        Ok("ok".to_owned())
    }

    fn stop_loops(&mut self) -> String {
        self.stop.store(true, Ordering::Relaxed);
        let mut sums = BTreeMap::new();
        for thread in self.loops.drain(..) {
            for (name, count) in thread.join().unwrap() {
                *sums.entry(name).or_insert(0) += count;
            }
        }
        let sums: Vec<_> = sums.iter().map(|(name, n)| format!("{name}={n}")).collect();
        self.stop.store(false, Ordering::Relaxed);
        sums.join(" ")
    }
}

fn socket(v6: bool, udp: bool) -> std::io::Result<Socket> {
    let domain = if v6 { Domain::IPV6 } else { Domain::IPV4 };
    if udp {
        return Socket::new(domain, Type::DGRAM, Some(Protocol::UDP));
    }
    Socket::new(domain, Type::STREAM, Some(Protocol::TCP))
}

fn peer(socket: &Socket) -> std::io::Result<String> {
    let peer: SockAddr = socket.peer_addr()?;
    Ok(peer.as_socket().unwrap().to_string())
}

fn first_line(mut socket: &Socket) -> std::io::Result<String> {
    let mut text = String::new();
    let mut byte = [0];
    while !text.ends_with('\n') && socket.read(&mut byte)? > 0 {
        text.push(char::from(byte[0]));
    }
    Ok(text.trim_end().to_owned())
}

fn once(to: SocketAddr) -> std::io::Result<String> {
    let socket = socket(to.is_ipv6(), false)?;
    // Ends by RST: tens of thousands of connects leave no ports behind.
    socket.set_linger(Some(Duration::ZERO))?;
    socket.connect_timeout(&to.into(), CONNECT_TIME)?;
    let peer = peer(&socket)?;
    Ok(format!("{} {peer}", first_line(&socket)?))
}

fn connect_on(to: SocketAddr, stop: &AtomicBool) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    while !stop.load(Ordering::Relaxed) {
        let name = match once(to) {
            Ok(answer) if answer.ends_with(&format!(" {to}")) => {
                answer.split(' ').next().unwrap().to_owned()
            }
            Ok(answer) => format!("misnamed:{}", answer.replace(' ', ":")),
            Err(error) => error_name(&error).replace(' ', "_"),
        };
        *counts.entry(name).or_insert(0) += 1;
    }
    counts
}
