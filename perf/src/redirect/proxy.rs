//! A redirect at layer 4 in user space, as lean as it can be: splice(2) between two sockets.
//!
//! What it forwards never comes into its memory, threads and pipes are there before a connection
//! is, and nothing is parsed, counted or decided.

use std::cell::Cell;
use std::ffi::OsStr;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::pipe::{SpliceFlags, fcntl_setpipe_size, pipe, splice};

use super::process::serve;
use super::server::{on_threads, ready};
use crate::peers::Result;

/// What a pipe holds, and one splice moves at most.
const PIPE_BYTES: usize = 1024 * 1024;

pub(super) fn run(upstreams: [&OsStr; 2]) -> Result<()> {
    let forward = |upstream: &OsStr| -> Result<SocketAddr> {
        let upstream: SocketAddr = upstream.to_str().ok_or("an address is text")?.parse()?;
        on_threads(move |client| between(&client, upstream))
    };
    let (echo, sink) = (forward(upstreams[0])?, forward(upstreams[1])?);
    serve(|words| match words {
        ["addresses"] => Ok(format!("{echo} {sink}")),
        _ => Err(format!("{words:?} is no question").into()),
    })
}

thread_local! {
    /// A thread serves one connection at a time; an empty pipe is kept for the next one.
    static PIPE: Cell<Option<Pipe>> = const { Cell::new(None) };
}

struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
}

impl Pipe {
    fn new() -> io::Result<Self> {
        let (read, write) = pipe()?;
        fcntl_setpipe_size(&read, PIPE_BYTES)?;
        Ok(Self { read, write })
    }
}

fn between(client: &TcpStream, upstream: SocketAddr) -> io::Result<()> {
    let upstream = TcpStream::connect(upstream)?;
    ready(&upstream)?;
    let pipe = PIPE.take().map_or_else(Pipe::new, Ok)?;
    both_ways([client, &upstream], &pipe)?;
    PIPE.set(Some(pipe));
    Ok(())
}

/// Until both have ended, or one cannot be read.
///
/// # Errors
/// One cannot be written: the pipe may hold what was for it.
fn both_ways(sides: [&TcpStream; 2], pipe: &Pipe) -> io::Result<()> {
    let mut asked = [PollFlags::IN; 2];
    while asked != [PollFlags::empty(); 2] {
        let mut fds = [PollFd::new(sides[0], asked[0]), PollFd::new(sides[1], asked[1])];
        poll(&mut fds, None)?;
        let events = fds.map(|fd| fd.revents());
        for side in [0, 1] {
            if events[side].is_empty() {
                continue;
            }
            // Of a side that has ended, errors only are told.
            if asked[side].is_empty() {
                return Ok(());
            }
            match moved(sides[side], sides[1 - side], pipe)? {
                Moved::All => {}
                Moved::End => {
                    asked[side] = PollFlags::empty();
                    sides[1 - side].shutdown(Shutdown::Write)?;
                }
                Moved::Broken => return Ok(()),
            }
        }
    }
    Ok(())
}

enum Moved {
    All,
    End,
    Broken,
}

/// Moves what is there.
fn moved(from: &TcpStream, to: &TcpStream, pipe: &Pipe) -> io::Result<Moved> {
    let mut held = match splice(from, None, &pipe.write, None, PIPE_BYTES, SpliceFlags::MOVE) {
        Ok(0) => return Ok(Moved::End),
        Ok(held) => held,
        Err(_) => return Ok(Moved::Broken),
    };
    while held > 0 {
        held -= splice(&pipe.read, None, to, None, held, SpliceFlags::MOVE)?;
    }
    Ok(Moved::All)
}
