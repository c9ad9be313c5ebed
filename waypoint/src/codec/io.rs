//! Connections as bytes, plain or in TLS: a client's and an endpoint's.
//!
//! A [`Socket`] can be cloned, so that a reader, a writer and whoever watches for a reset each hold
//! it without a lock.

use std::{
    io,
    os::fd::AsFd,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use parking_lot::Mutex;
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
    time,
};
use tokio_rustls::TlsStream;

use crate::lanes::Home;

/// How long and how much a client may still send after our FIN, before the connection is dropped.
const LINGER_WAIT: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: usize = 256 * 1024;

/// What is thrown away at a time, in bytes.
const LINGER_READ_BYTES: usize = 4 * 1024;

/// A TCP connection, cheap to clone. One task reads and one task writes at a time.
#[derive(Clone, Debug)]
pub struct Socket {
    stream: Arc<TcpStream>,
    /// Where its readiness is heard of.
    home: Home,
    /// Where the socket is new, its readiness is not known yet: the first read asks the kernel.
    untried: bool,
}

/// A connection as bytes, cheap to clone: who reads, who writes, and whoever goes on with an upload
/// beside the one who reads the answer. One task reads and one task writes at a time.
#[derive(Clone)]
pub enum Channel {
    Plain(Socket),
    /// Behind a lock, for in TLS a read may write and the other way round. It is held for one poll.
    Tls(Arc<Mutex<TlsStream<Socket>>>),
}

// === impl Socket ===

impl Socket {
    pub fn new(stream: TcpStream) -> Self {
        Self { stream: Arc::new(stream), home: Home::here(), untried: false }
    }

    /// Resolves when the connection has failed: a reset, never a FIN.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the failure stays.
    pub(super) async fn failed(&self) {
        // The driver's end is the process' end: no one waits for an answer then.
        while let Ok(ready) = self.stream.ready(Interest::ERROR).await {
            if ready.is_error() {
                return;
            }
        }
    }

    /// See [`Channel::settle_here`].
    fn settle_here(&mut self) -> bool {
        if self.home == Home::here() {
            return false;
        }
        let again = || {
            let socket = self.stream.as_fd().try_clone_to_owned()?;
            TcpStream::from_std(socket.into())
        };
        let Ok(stream) = again() else { return false };
        *self = Self { untried: true, ..Self::new(stream) };
        true
    }

    /// Tells the peer that nothing more comes.
    pub(super) fn end(&self) {
        // Nothing to do about a failure: then the peer is gone.
        let _ = SockRef::from(&*self.stream).shutdown(std::net::Shutdown::Write);
    }

    /// Ends our side and lets the client read what it was sent. A connection that is dropped with
    /// bytes unread is reset, and the reset takes with it what has not left yet. Nobody else may
    /// read the connection any more.
    pub(super) async fn linger(mut self) {
        self.end();
        let _ = time::timeout(LINGER_WAIT, async {
            let (mut read, mut thrown_away) = (0, vec![0; LINGER_READ_BYTES]);
            while read < LINGER_BYTES_MAX {
                match self.read(&mut thrown_away).await {
                    Ok(0) | Err(_) => return,
                    Ok(bytes) => read += bytes,
                }
            }
        })
        .await;
    }

    /// Makes the close that follows a reset, so that a cut answer cannot look complete.
    pub(super) fn reset_on_close(&self) {
        // Nothing to do about a failure: the connection closes either way.
        let _ = SockRef::from(&*self.stream).set_linger(Some(Duration::ZERO));
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.untried {
            self.untried = false;
            let socket = SockRef::from(&*self.stream);
            match io::Read::read(&mut &*socket, buffer.initialize_unfilled()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                outcome => return Poll::Ready(outcome.map(|bytes| buffer.advance(bytes))),
            }
        }
        loop {
            ready!(self.stream.poll_read_ready(cx))?;
            let mut read = None;
            let drained = self.stream.try_io(Interest::READABLE, || {
                let room = buffer.remaining();
                let bytes = self.stream.try_read_buf(buffer)?;
                read = Some(bytes);
                // A short read emptied the socket. Saying so clears its readiness and saves the
                // read that would only return EAGAIN.
                if 0 < bytes && bytes < room {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                Ok(())
            });
            match (read, drained) {
                (Some(_), _) => return Poll::Ready(Ok(())),
                (None, Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
                (None, outcome) => return Poll::Ready(outcome),
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(cx))?;
            match self.stream.try_write_vectored(slices) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                outcome => return Poll::Ready(outcome),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(&*self.stream).shutdown(std::net::Shutdown::Write))
    }
}

// === impl Channel ===

impl Channel {
    pub fn plain(stream: TcpStream) -> Self {
        Self::Plain(Socket::new(stream))
    }

    pub fn tls(stream: impl Into<TlsStream<Socket>>) -> Self {
        Self::Tls(Arc::new(Mutex::new(stream.into())))
    }

    /// The connection beneath.
    pub(super) fn socket(&self) -> Socket {
        match self {
            Self::Plain(socket) => socket.clone(),
            Self::Tls(stream) => stream.lock().get_ref().0.clone(),
        }
    }

    /// Where its readiness is heard of.
    pub(crate) fn home(&self) -> Home {
        match self {
            Self::Plain(socket) => socket.home,
            Self::Tls(stream) => stream.lock().get_ref().0.home,
        }
    }

    /// Goes on in the lane, or on the workers, that the caller is in: from here on the socket's
    /// readiness is heard of there. `true` if that is another place than before; then clones of a
    /// plain connection have stayed where they were. Where the process is out of descriptors nothing
    /// changes: the connection goes on, only slower.
    pub(crate) fn settle_here(&mut self) -> bool {
        match self {
            Self::Plain(socket) => socket.settle_here(),
            Self::Tls(stream) => stream.lock().get_mut().0.settle_here(),
        }
    }

    /// Cuts the sending side. In TLS without a closing message: what was sent is not whole.
    pub(super) fn end(&self) {
        match self {
            Self::Plain(socket) => socket.end(),
            Self::Tls(stream) => stream.lock().get_ref().0.end(),
        }
    }
}

impl AsyncRead for Channel {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(&mut *stream.lock()).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Channel {
    #[inline]
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(&mut *stream.lock()).poll_write(cx, bytes),
        }
    }

    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, slices),
            Self::Tls(stream) => Pin::new(&mut *stream.lock()).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Tls(stream) => Pin::new(&mut *stream.lock()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(&mut *stream.lock()).poll_shutdown(cx),
        }
    }
}
