//! Origins: raw TCP with a script per connection, and addresses where nobody answers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{Bench, within};

/// A listening origin and how many connections it has accepted.
pub(super) struct Origin {
    pub(super) address: SocketAddr,
    accepted: Arc<AtomicUsize>,
}

impl Origin {
    /// Runs `script` for each connection, numbered from 0.
    pub(super) async fn start<F>(
        bench: &Bench,
        script: impl Fn(Peer, usize) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let accepted = Arc::new(AtomicUsize::new(0));
        let (tasks, counter) = (bench.tasks.clone(), Arc::clone(&accepted));
        bench.tasks.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = counter.fetch_add(1, Ordering::SeqCst);
                tasks.spawn(script(Peer { stream, buffer: Vec::new() }, number));
            }
        });
        Self { address, accepted }
    }

    /// An origin that answers every request with `response`.
    pub(super) async fn answering(bench: &Bench, response: &'static str) -> Self {
        Self::start(bench, move |mut peer, _| async move {
            while peer.head().await.is_some() {
                peer.write(response).await;
            }
        })
        .await
    }

    pub(super) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

/// How a connection ends: closed by `drop`, or by [`Peer::reset`].
pub(super) type Ending = fn(Peer);

/// One accepted connection.
pub(super) struct Peer {
    pub(super) stream: TcpStream,
    buffer: Vec<u8>,
}

impl Peer {
    /// The next request's head; `None` when the proxy has closed.
    pub(super) async fn head(&mut self) -> Option<String> {
        self.until(b"\r\n\r\n").await
    }

    /// Everything up to and including `end`.
    pub(super) async fn until(&mut self, end: &[u8]) -> Option<String> {
        loop {
            if let Some(at) = self.buffer.windows(end.len()).position(|window| window == end) {
                let rest = self.buffer.split_off(at + end.len());
                let found = std::mem::replace(&mut self.buffer, rest);
                return Some(String::from_utf8(found).expect("text"));
            }
            if self.stream.read_buf(&mut self.buffer).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    pub(super) async fn write(&mut self, text: &str) {
        let _ = self.stream.write_all(text.as_bytes()).await;
    }

    /// Resolves when the proxy has closed or reset the connection; gives what it sent before.
    pub(super) async fn closed(mut self) -> Vec<u8> {
        while within(self.stream.read_buf(&mut self.buffer)).await.unwrap_or(0) != 0 {}
        self.buffer
    }

    /// Closes with RST.
    pub(super) fn reset(self) {
        let linger = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        linger.expect("a socket option");
    }
}

/// An address that nobody listens on, nor any other test: the port stays bound.
pub(super) fn refusing() -> SocketAddr {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    socket.bind(&any.into()).expect("a port");
    let socket = Box::leak(Box::new(socket));
    socket.local_addr().expect("an address").as_socket().expect("an IP address")
}

/// Keeps the backlog of a listening socket full.
pub(super) struct BlackHole {
    pub(super) address: SocketAddr,
    _socket: Socket,
    _waiting: Vec<TcpStream>,
}

/// An address that does not answer a SYN: nobody accepts, and the backlog is full.
pub(super) async fn black_hole() -> BlackHole {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    socket.bind(&any.into()).expect("a port");
    socket.listen(0).expect("listening");
    let address = socket.local_addr().expect("an address").as_socket().expect("an IP address");
    let mut waiting = Vec::new();
    let limit = Duration::from_millis(200);
    while let Ok(Ok(stream)) = tokio::time::timeout(limit, TcpStream::connect(address)).await {
        waiting.push(stream);
    }
    BlackHole { address, _socket: socket, _waiting: waiting }
}
