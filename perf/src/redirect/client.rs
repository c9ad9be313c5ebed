//! The client: one thread that connects, asks and sends, and says how long it took.
//!
//! Every connection is ended by RST, so that none stays in TIME_WAIT.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit};
use rustix::time::{ClockId, clock_gettime};
use socket2::{Domain, SockAddr, Socket, Type};

use super::MESSAGE_BYTES;
use super::connects::{BATCH, OWN};
use super::paired::middle;
use super::process::{nanos, serve};
use crate::peers::Result;

/// How long any call may wait.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// What one write of a stream hands over.
const WRITE_BYTES: usize = 256 * 1024;

pub(super) fn run() -> Result<()> {
    let own = [listener()?, listener()?];
    let mut pools = Vec::new();
    let most = rustix::process::getrlimit(Resource::Nofile).maximum;
    rustix::process::setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most })?;
    serve(|words| match words {
        ["own"] => Ok(format!("{} {}", own[0].local_addr()?, own[1].local_addr()?)),
        ["pool", count] => {
            pools.push((0..count.parse()?).map(|_| new()).collect::<Result<_>>()?);
            Ok(String::new())
        }
        ["connects", to @ ..] => connects(&own, std::mem::take(&mut pools), to),
        ["short", count, to] => {
            let (count, to) = (count.parse()?, to.parse()?);
            timed(count, || exchange(&connected(to)?))
        }
        ["trips", count, to] => {
            let stream = connected(to.parse()?)?;
            timed(count.parse()?, || exchange(&stream))
        }
        ["stream", mib, to] => stream(mib.parse()?, to.parse()?),
        _ => Err(format!("{words:?} is no question").into()),
    })
}

/// Where its own connects end: nobody else has to run before they are made.
fn listener() -> Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
    socket.listen(2 * i32::try_from(BATCH)?)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn new() -> Result<Socket> {
    Ok(Socket::new(Domain::IPV4, Type::STREAM, None)?)
}

/// The time to write is the time to connect, too.
fn prepare(socket: &Socket) -> Result<()> {
    socket.set_linger(Some(Duration::ZERO))?;
    socket.set_write_timeout(Some(WAIT_MAX))?;
    socket.set_read_timeout(Some(WAIT_MAX))?;
    Ok(socket.set_tcp_nodelay(true)?)
}

fn connected(to: SocketAddr) -> Result<Socket> {
    let socket = new()?;
    prepare(&socket)?;
    socket.connect(&to.into())?;
    Ok(socket)
}

/// Connects the sockets of each pool to its address, or alternately to the own ones, in turns of
/// a batch. For each pool the nanoseconds of this thread's CPU, and of wall time, that one call of
/// connect() takes: of each batch the mean, of all batches the median.
fn connects(own: &[TcpListener; 2], pools: Vec<Vec<Socket>>, to: &[&str]) -> Result<String> {
    let own_at = [own[0].local_addr()?.into(), own[1].local_addr()?.into()];
    let to: Vec<[SockAddr; 2]> =
        to.iter().map(|to| addresses(to, &own_at)).collect::<Result<_>>()?;
    let mut costs = vec![(Vec::new(), Vec::new()); pools.len()];
    let mut left: Vec<_> = pools.into_iter().map(Vec::into_iter).collect();
    let count = costs.len();
    for turn in 0.. {
        // Each comes after every other one as often, where the count is a prime number.
        let (cycle, place) = (turn / count, turn % count);
        let at = (place * (1 + cycle % (count - 1)) + cycle) % count;
        let batch: Vec<Socket> = left[at].by_ref().take(BATCH).collect();
        if batch.is_empty() {
            break;
        }
        let (cpu, wall) = one_batch(&batch, &to[at])?;
        costs[at].0.push(cpu);
        costs[at].1.push(wall);
        accept_all(own, batch.len())?;
    }
    let words = costs.into_iter().map(|(cpu, wall)| format!("{} {}", middle(cpu), middle(wall)));
    Ok(words.collect::<Vec<_>>().join(" "))
}

fn addresses(to: &str, own: &[SockAddr; 2]) -> Result<[SockAddr; 2]> {
    if to == OWN {
        return Ok(own.clone());
    }
    let to = to.parse::<SocketAddr>()?;
    Ok([to.into(), to.into()])
}

fn one_batch(batch: &[Socket], to: &[SockAddr; 2]) -> Result<(f64, f64)> {
    // It also brings what may have left the caches back, as socket() would just before.
    batch.iter().try_for_each(prepare)?;
    let (begun, before) = (Instant::now(), clock_gettime(ClockId::ThreadCPUTime));
    for (socket, to) in batch.iter().zip(to.iter().cycle()) {
        socket.connect(to)?;
    }
    let after = clock_gettime(ClockId::ThreadCPUTime);
    let count = batch.len() as f64;
    Ok(((nanos(after) - nanos(before)) as f64 / count, begun.elapsed().as_nanos() as f64 / count))
}

/// Takes a whole batch off the listeners' queues.
fn accept_all(own: &[TcpListener; 2], count: usize) -> Result<()> {
    let (mut accepted, begun) = (Vec::with_capacity(count), Instant::now());
    while accepted.len() < count {
        for listener in own {
            match listener.accept() {
                Ok((stream, _)) => accepted.push(stream),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
        if begun.elapsed() > WAIT_MAX {
            return Err(format!("{} of {count} connects came", accepted.len()).into());
        }
    }
    Ok(())
}

/// One message there, and the same back.
fn exchange(mut stream: &Socket) -> Result<()> {
    let mut message = [b'x'; MESSAGE_BYTES];
    stream.write_all(&message)?;
    stream.read_exact(&mut message)?;
    Ok(())
}

/// Does it so often; in microseconds the median, the 99th of a hundred, and the mean.
fn timed(count: usize, mut what: impl FnMut() -> Result<()>) -> Result<String> {
    let mut micros = Vec::with_capacity(count);
    for _ in 0..count {
        let begun = Instant::now();
        what()?;
        micros.push(begun.elapsed().as_nanos() as f64 / 1e3);
    }
    let mean = micros.iter().sum::<f64>() / count as f64;
    micros.sort_by(f64::total_cmp);
    Ok(format!("{} {} {mean}", micros[count / 2], micros[count * 99 / 100]))
}

/// MiB per second, until the other side has read the last one.
fn stream(mib: usize, to: SocketAddr) -> Result<String> {
    let (mut stream, bytes) = (connected(to)?, vec![b'x'; WRITE_BYTES]);
    let begun = Instant::now();
    for _ in 0..mib * (1024 * 1024 / WRITE_BYTES) {
        stream.write_all(&bytes)?;
    }
    stream.shutdown(Shutdown::Write)?;
    stream.read_exact(&mut [0])?;
    Ok(format!("{}", mib as f64 / begun.elapsed().as_secs_f64()))
}
