//! The server: what it is sent it sends back, at one address; at another it reads all and says so.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use socket2::SockRef;

use super::process::serve;
use crate::peers::Result;

/// Connections at a time, at each address; the client has one, and one that ends. Threads are made before anything is
/// measured, so that no connection pays for one.
const THREADS: usize = 4;
const READ_BYTES: usize = 256 * 1024;

pub(super) fn run() -> Result<()> {
    let (echo, sink) = (on_threads(|stream| echo(&stream))?, on_threads(|stream| sink(&stream))?);
    serve(|words| match words {
        ["addresses"] => Ok(format!("{echo} {sink}")),
        _ => Err(format!("{words:?} is no question").into()),
    })
}

/// Serves connections, one on each thread at a time, until the process ends; says where.
pub(super) fn on_threads(
    serve: impl Fn(TcpStream) -> io::Result<()> + Clone + Send + 'static,
) -> Result<std::net::SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    for _ in 0..THREADS {
        let (listener, serve) = (listener.try_clone()?, serve.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // The client ends its connections by RST.
                let _ = ready(&stream).and_then(|()| serve(stream));
            }
        });
    }
    Ok(address)
}

/// As the client does: no delay, and nothing left in TIME_WAIT.
pub(super) fn ready(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_linger(Some(Duration::ZERO))
}

fn echo(mut stream: &TcpStream) -> io::Result<()> {
    let mut bytes = [0; 4096];
    loop {
        let read = stream.read(&mut bytes)?;
        if read == 0 {
            return Ok(());
        }
        stream.write_all(&bytes[..read])?;
    }
}

fn sink(mut stream: &TcpStream) -> io::Result<()> {
    let mut bytes = vec![0; READ_BYTES];
    while stream.read(&mut bytes)? > 0 {}
    stream.write_all(&[1])?;
    // The client has it when it ends the connection.
    stream.read(&mut bytes).map(drop)
}
