//! A sample server: answers with its name, whom it saw, and a mail address.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

/// How long a request may take to come.
const PATIENCE: Duration = Duration::from_secs(10);

/// Serves at `[::]:PORT` under each name until the process is ended.
///
/// # Errors
///
/// A port is in use.
pub(crate) fn run(listens: &[(u16, String)]) -> io::Result<()> {
    let mut threads = Vec::new();
    for (port, name) in listens {
        let (listener, name) = (TcpListener::bind(("::", *port))?, name.clone());
        threads.push(thread::spawn(move || {
            // One at a time will do.
            for stream in listener.incoming().flatten() {
                let _ = answer(stream, &name);
            }
        }));
    }
    threads.into_iter().for_each(|thread| drop(thread.join()));
    Ok(())
}

fn answer(mut stream: TcpStream, name: &str) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let peer = stream.peer_addr()?.ip().to_canonical();
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let body = format!("{name} saw {peer}; write to ada@example.com\n");
    let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: text/plain";
    write!(stream, "{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}
