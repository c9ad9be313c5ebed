//! Stage 1: from a socket to an accepted stream, plain or TLS.
//!
//! Takes connections from one bound address and gives each to the codec as a task of its own. It
//! refuses by closing before a byte is read: past the bound on connections it does not accept at
//! all (clients wait in the kernel's queue), and a TLS handshake that fails or is slow ends here.
//! It stops accepting when the drain begins; its connections end by themselves.

mod bond;
mod handshake;
mod terms;

use std::{
    io,
    net::{SocketAddr, TcpStream as StdTcpStream},
    os::fd::{AsFd, BorrowedFd},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use socket2::{Domain, Protocol, SockRef, Socket as RawSocket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time,
};

use self::{bond::Bond, handshake::Settled};
pub use self::{
    handshake::{HandshakeFailure, HandshakeLog},
    terms::{TlsSource, TlsTerms},
};
use crate::{
    codec::{self, Channel, CodecLimits, ConnectionInfo, Journey, Socket},
    drain::{Closing, Tasks, unless},
    lanes::Lanes,
    overload::Clients,
};

#[cfg(test)]
mod tests;

/// Connections that wait in the kernel to be accepted; past it, the kernel drops their SYN.
const BACKLOG: i32 = 4096;

/// What the kernel may hold of an answer that it has not sent yet, in bytes; past it, writes wait.
const UNSENT_BYTES_MAX: u32 = 256 * 1024;

/// The pauses after an accept that failed for want of file descriptors or memory.
const ACCEPT_PAUSE_MIN: Duration = Duration::from_millis(10);
const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(1);

/// A bound address that has not begun to accept.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
}

impl From<TcpListener> for Listener {
    /// A socket that another process has bound.
    fn from(listener: TcpListener) -> Self {
        Self { listener }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

/// What a listener does with what it accepts.
#[derive(Clone)]
pub struct Entrance {
    /// The listener's name, in logs and metrics.
    pub name: Arc<str>,
    /// What is offered and demanded at each handshake; `None` is plain text.
    pub tls: Option<Arc<dyn TlsSource>>,
    pub limits: CodecLimits,
    /// From accept to a finished TLS handshake. Past it: closed.
    pub handshake_timeout: Duration,
    /// How many connections may be open. Listeners that share it share the bound. When none is
    /// left, accepting waits.
    pub connections: Arc<Semaphore>,
    /// Who serves the connections.
    pub lanes: Lanes,
    /// Who counts the connections and requests of each client. Past its bound a connection is closed.
    pub clients: Arc<Clients>,
    /// Told of each handshake that failed, for the metric.
    pub handshake_failed: Arc<dyn Fn(HandshakeFailure, SocketAddr) + Send + Sync>,
}

// === impl Entrance ===

impl Entrance {
    /// From accept to a finished TLS handshake, unless told otherwise.
    pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
}

// === impl Listener ===

impl Listener {
    /// Binds `address`; the kernel queues connections from here on. With `reuse_port`, a second
    /// process may bind it too, as a rolling restart on one host does.
    ///
    /// # Errors
    ///
    /// What the kernel says: in use, not ours, not permitted.
    pub fn bind(address: SocketAddr, reuse_port: bool) -> io::Result<Self> {
        let socket =
            RawSocket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(reuse_port)?;
        if address.is_ipv6() {
            // `[::]` takes IPv4 too, whatever the host's default is.
            socket.set_only_v6(false)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(Self { listener: TcpListener::from_std(socket.into())? })
    }

    /// Where it listens: the port is known even if 0 was asked for.
    ///
    /// # Errors
    ///
    /// What the kernel says; never for a socket that is bound.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Accepts until `closing`. The socket is closed when this returns.
    pub async fn run<J: Journey>(
        self,
        entrance: Entrance,
        journey: J,
        closing: Closing,
        tasks: &Tasks,
    ) {
        let mut pause = ACCEPT_PAUSE_MIN;
        loop {
            let accepted = tokio::select! {
                // Cancel safe: a token holds no state between polls.
                () = closing.closing() => return,
                // Cancel safe: a slot that was not used goes back, a connection that was not
                // accepted stays in the kernel's queue.
                accepted = self.accept(&entrance.connections) => accepted,
            };
            match accepted {
                Ok((stream, slot)) => {
                    pause = ACCEPT_PAUSE_MIN;
                    let work = Accepted {
                        stream,
                        slot,
                        entrance: entrance.clone(),
                        // Of its own: connections need not take turns at a lock that all have.
                        closing: closing.child(),
                        tasks: tasks.clone(),
                    };
                    entrance.lanes.spawn(tasks, work.serve(journey.clone()));
                }
                Err(error) if is_exhaustion(&error) => {
                    tracing::warn!(listener = %entrance.name, %error, "accepting pauses");
                    time::sleep(pause).await;
                    pause = ACCEPT_PAUSE_MAX.min(pause * 2);
                }
                // The connection died in the queue: the next one is not affected.
                Err(_) => {}
            }
        }
    }

    async fn accept(
        &self,
        connections: &Arc<Semaphore>,
    ) -> io::Result<(StdTcpStream, OwnedSemaphorePermit)> {
        let slot = connections.clone().acquire_owned().await.map_err(io::Error::other)?;
        let (stream, _) = self.listener.accept().await?;
        // Its readiness is heard of in a lane, not here.
        Ok((stream.into_std()?, slot))
    }
}

/// Whether the process or the host has run out of something, so that trying again at once would
/// only burn a core.
fn is_exhaustion(error: &io::Error) -> bool {
    use rustix::io::Errno;
    const EXHAUSTED: [Errno; 4] = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    EXHAUSTED.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
        // The bound on connections was closed: nobody does, but it must not spin.
        || error.kind() == io::ErrorKind::Other
}

/// A connection on its way to the codec.
struct Accepted {
    stream: StdTcpStream,
    slot: OwnedSemaphorePermit,
    entrance: Entrance,
    closing: Closing,
    tasks: Tasks,
}

// === impl Accepted ===

impl Accepted {
    async fn serve<J: Journey>(self, journey: J) {
        let Self { stream, slot, entrance, closing, tasks } = self;
        let Ok((peer, local)) = prepare(&stream) else {
            return; // The client is gone already.
        };
        let Some(client) = entrance.clients.connect(peer.ip()) else {
            return; // Before a byte is read.
        };
        let client = Arc::new(client);
        let Ok(stream) = TcpStream::from_std(stream) else {
            return; // No descriptor is left to wait with.
        };
        let socket = Socket::new(stream);
        let Some(source) = &entrance.tls else {
            let mut info = ConnectionInfo::new(peer, local, entrance.name, None);
            info.client = Some(client);
            let (io, info) = (Channel::Plain(socket), Arc::new(info));
            codec::serve(io, info, &entrance.limits, journey, closing, &tasks).await;
            return drop(slot);
        };
        let timeout = entrance.handshake_timeout;
        let handshake = handshake::accept(&**source, socket, timeout, &closing);
        let Settled { stream, info, terms } = match Box::pin(handshake).await {
            Ok(settled) => settled,
            Err(failure) => return (entrance.handshake_failed)(failure, peer),
        };
        let bond = Bond { source: Arc::clone(source), terms, peer: info.peer.clone() };
        let mut info = ConnectionInfo::new(peer, local, entrance.name, Some(info));
        let named = info.principal().and_then(|principal| entrance.clients.named(principal));
        info.client = Some(named.map_or_else(|| Arc::clone(&client), Arc::new));
        let (io, info, closing) = (Channel::tls(stream), Arc::new(info), closing.child());
        let hold = Box::pin(bond.hold(closing.clone()));
        let serving =
            pin!(codec::serve(io, info, &entrance.limits, journey, closing.clone(), &tasks));
        // Once the bond has cut the connection, the codec says farewell by itself.
        let ended = async {
            hold.await;
            std::future::pending().await
        };
        unless(ended, serving).await;
        drop(client);
        drop(slot);
    }
}

/// Sets the socket's options and reads its addresses.
fn prepare(stream: &StdTcpStream) -> io::Result<(SocketAddr, SocketAddr)> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_notsent_lowat(UNSENT_BYTES_MAX)?;
    Ok((canonical(stream.peer_addr()?), canonical(stream.local_addr()?)))
}

/// An IPv4 address that came through a dual-stack socket, as IPv4.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
