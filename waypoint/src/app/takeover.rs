//! Giving the listening sockets to a new process, so that a new binary serves before the old one
//! drains and no connection is refused between the two.
//!
//! ```text
//! old: listens at PATH ◄──connect── new: started with the same --takeover PATH
//!      ──── names and sockets ────►      serves on them, beside the old one
//!      ◄──────── "serving" ────────      listens at PATH itself
//!      drains, as after SIGTERM
//! ```
//!
//! A process that fails before it serves leaves the old one as it was. Fails closed: only a process
//! of the same user is given anything.

use std::collections::BTreeMap;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use rustix::cmsg_space;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::time::timeout;

use super::sockets::Addresses;

/// Sockets that can be given at a time: the kernel's own bound (unix(7), SCM_RIGHTS). With more, the
/// takeover is refused.
const SOCKETS_MAX: usize = 253;
/// Their names, in bytes.
const NAMES_BYTES_MAX: usize = 32 * 1024;
/// How long a new process may take from its connection until it serves. Past it the old one goes on.
const START_MAX: Duration = Duration::from_secs(600);
/// How long the sockets may take to come.
const GIVE_MAX: Duration = Duration::from_secs(5);
/// What the new process says once it serves.
const SERVING: u8 = b's';

/// What a predecessor has given.
pub(super) struct Inherited {
    sockets: BTreeMap<String, std::net::TcpListener>,
    predecessor: Option<UnixStream>,
}

impl Inherited {
    /// Nothing: every socket is bound anew.
    pub(super) fn nothing() -> Self {
        Self { sockets: BTreeMap::new(), predecessor: None }
    }

    /// Asks the process at `path` for its sockets; nothing if there is none.
    ///
    /// # Errors
    ///
    /// Whatever is there does not give them.
    pub(super) async fn ask(path: &Path) -> io::Result<Self> {
        let stream = match UnixStream::connect(path).await {
            Ok(stream) => stream,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) =>
            {
                return Ok(Self::nothing());
            }
            Err(error) => return Err(error),
        };
        check_user(&stream)?;
        let sockets = timeout(GIVE_MAX, stream.async_io(Interest::READABLE, || receive(&stream)));
        let sockets = sockets.await??;
        Ok(Self { sockets, predecessor: Some(stream) })
    }

    /// The socket of this name, if it listens where it is wanted and can be watched.
    pub(super) fn take(&mut self, name: &str, wanted: SocketAddr) -> Option<TcpListener> {
        let socket = self.sockets.remove(name)?;
        let address = socket.local_addr().ok()?;
        let right = address.ip() == wanted.ip() && [0, address.port()].contains(&wanted.port());
        if !right {
            return None;
        }
        socket.set_nonblocking(true).and_then(|()| TcpListener::from_std(socket)).ok()
    }

    /// Tells the predecessor that it may drain. What it gave and nobody took closes here.
    pub(super) async fn serving(&mut self) -> io::Result<()> {
        self.sockets.clear();
        match self.predecessor.take() {
            Some(mut predecessor) => predecessor.write_all(&[SERVING]).await,
            None => Ok(()),
        }
    }
}

/// Listens at `path` for a successor, in the place of whoever did before.
///
/// # Errors
///
/// The path cannot be written.
pub(super) fn listen(path: &Path) -> io::Result<UnixListener> {
    let aside = path.with_extension(format!("{}.tmp", std::process::id()));
    let listener = UnixListener::bind(&aside)?;
    let placed = std::fs::set_permissions(&aside, std::fs::Permissions::from_mode(0o600))
        .and_then(|()| std::fs::rename(&aside, path));
    if placed.is_err() {
        let _ = std::fs::remove_file(&aside);
    }
    placed.map(|()| listener)
}

/// Gives the sockets to whoever asks, until one of them serves.
///
/// # Cancel safety
///
/// Cancel safe: a successor that was not answered sees the connection close.
pub(super) async fn until_taken_over(listener: &UnixListener, addresses: &Addresses) {
    loop {
        let taken = match listener.accept().await {
            Ok((stream, _)) => hand_over(stream, addresses).await,
            Err(error) => Err(error),
        };
        match taken {
            Ok(()) => return,
            Err(error) => {
                tracing::warn!(%error, "no successor took over");
                // Out of descriptors, say: not a busy loop.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn hand_over(mut stream: UnixStream, addresses: &Addresses) -> io::Result<()> {
    check_user(&stream)?;
    let sockets = addresses.sockets()?;
    stream.async_io(Interest::WRITABLE, || send(&stream, &sockets)).await?;
    drop(sockets);
    match timeout(START_MAX, stream.read_u8()).await?? {
        SERVING => Ok(()),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn check_user(stream: &UnixStream) -> io::Result<()> {
    match stream.peer_cred()?.uid() == rustix::process::geteuid().as_raw() {
        true => Ok(()),
        false => Err(io::Error::new(io::ErrorKind::PermissionDenied, "the peer is another user's")),
    }
}

/// Writes the names, the sockets beside them.
fn send(stream: &UnixStream, sockets: &BTreeMap<String, OwnedFd>) -> io::Result<()> {
    let names = serde_json::to_vec(&sockets.keys().collect::<Vec<_>>())?;
    if sockets.len() > SOCKETS_MAX || names.len() > NAMES_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many sockets for a takeover"));
    }
    let fds: Vec<_> = sockets.values().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(SOCKETS_MAX))];
    let mut rights = SendAncillaryBuffer::new(&mut space);
    if !rights.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let sent = sendmsg(stream, &[IoSlice::new(&names)], &mut rights, SendFlags::empty())?;
    if sent == names.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

fn receive(stream: &UnixStream) -> io::Result<BTreeMap<String, std::net::TcpListener>> {
    let mut names = vec![0; NAMES_BYTES_MAX];
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(SOCKETS_MAX))];
    let mut rights = RecvAncillaryBuffer::new(&mut space);
    let got =
        recvmsg(stream, &mut [IoSliceMut::new(&mut names)], &mut rights, RecvFlags::CMSG_CLOEXEC)?;
    let mut fds: Vec<OwnedFd> = Vec::new();
    for message in rights.drain() {
        if let RecvAncillaryMessage::ScmRights(given) = message {
            fds.extend(given);
        }
    }
    let names: Vec<String> = serde_json::from_slice(&names[..got.bytes])?;
    if names.len() != fds.len() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not a socket for each name"));
    }
    Ok(names.into_iter().zip(fds.into_iter().map(Into::into)).collect())
}
