//! What the tests of listener and codec share: a server on a real socket around any journey, and a
//! client of bytes.

use std::{
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{Stream, future::BoxFuture};
use http::{Request, Response};
use http_body::Frame;
use parking_lot::Mutex;
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{Semaphore, mpsc, oneshot},
    time,
};

use super::{Body, BodyError, CodecLimits, ConnectionInfo, Interim, Journey, Refusal};
use crate::{
    drain::{Closing, Drain, Tasks},
    lanes::Lanes,
    listener::{Entrance, HandshakeFailure, Listener, TlsSource, TlsTerms},
    overload::{Bounds, Clients, Refused},
};

/// Longer than any test takes: what does not come by then never does.
const PATIENCE: Duration = Duration::from_secs(20);

type Call =
    dyn Fn(Request<Body>, Arc<ConnectionInfo>) -> BoxFuture<'static, Response<Body>> + Send + Sync;

/// A journey made of a closure.
#[derive(Clone)]
pub(crate) struct TestJourney {
    call: Arc<Call>,
    refused: Arc<Mutex<Vec<Refusal>>>,
}

impl Journey for TestJourney {
    async fn call(
        &self,
        request: Box<Request<Body>>,
        connection: &Arc<ConnectionInfo>,
        _: &Interim,
    ) -> Response<Body> {
        (self.call)(*request, connection.clone()).await
    }

    fn refused(&self, refusal: &Refusal, _: &ConnectionInfo) {
        self.refused.lock().push(*refusal);
    }
}

/// A server on a port of its own.
pub(crate) struct Rig {
    pub(crate) address: SocketAddr,
    pub(crate) closing: Closing,
    pub(crate) drain: Drain,
    pub(crate) failures: mpsc::UnboundedReceiver<HandshakeFailure>,
    refused: Arc<Mutex<Vec<Refusal>>>,
}

/// What a rig is made with.
pub(crate) struct Setup {
    pub(crate) limits: CodecLimits,
    pub(crate) connections: usize,
    pub(crate) bounds: Bounds,
    pub(crate) tls: Option<Arc<dyn rustls::server::ResolvesServerCert>>,
    pub(crate) handshake_timeout: Duration,
    pub(crate) lanes: Lanes,
}

impl Default for Setup {
    fn default() -> Self {
        let limits = CodecLimits::default();
        let handshake_timeout = Entrance::HANDSHAKE_TIMEOUT;
        let all = u32::MAX;
        let bounds =
            Bounds { connections_per_address: all, requests_per_client: all, requests: all };
        Self {
            limits,
            connections: 100,
            bounds,
            tls: None,
            handshake_timeout,
            lanes: Lanes::none(),
        }
    }
}

impl Rig {
    pub(crate) fn start<F, A>(setup: Setup, call: F) -> Self
    where
        F: Fn(Request<Body>, Arc<ConnectionInfo>) -> A + Send + Sync + 'static,
        A: Future<Output = Response<Body>> + Send + 'static,
    {
        let listener = Listener::bind(([127, 0, 0, 1], 0).into(), false).expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (drain, tasks, closing) = Drain::new();
        let (failed, failures) = mpsc::unbounded_channel();
        let entrance = Entrance {
            name: "test".into(),
            tls: setup.tls.map(|resolver| {
                Arc::new(Arc::new(TlsTerms::new(resolver, None))) as Arc<dyn TlsSource>
            }),
            limits: setup.limits,
            handshake_timeout: setup.handshake_timeout,
            connections: Arc::new(Semaphore::new(setup.connections)),
            lanes: setup.lanes,
            clients: Clients::new(setup.bounds, Arc::default(), Refused::default()),
            handshake_failed: Arc::new(move |failure, _| _ = failed.send(failure)),
        };
        let refused = Arc::<Mutex<Vec<Refusal>>>::default();
        let journey = TestJourney {
            call: Arc::new(move |request, info| Box::pin(call(request, info))),
            refused: refused.clone(),
        };
        accept(listener, entrance, journey, closing.clone(), tasks);
        Self { address, closing, drain, failures, refused }
    }

    /// A server that answers with the request's own body.
    pub(crate) fn echo(setup: Setup) -> Self {
        Self::start(setup, |request, _| async { Response::new(request.into_body()) })
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.address).await
    }

    pub(crate) fn refused(&self) -> Vec<Refusal> {
        self.refused.lock().clone()
    }
}

fn accept(
    listener: Listener,
    entrance: Entrance,
    journey: TestJourney,
    closing: Closing,
    tasks: Tasks,
) {
    let all = tasks.clone();
    tasks.spawn(async move { listener.run(entrance, journey, closing, &all).await });
}

/// A client that says and sees bytes.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    seen: Vec<u8>,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("the server listens");
        Self { stream, seen: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.expect("the server is there");
    }

    /// Everything up to and with `end`, but for `date`.
    pub(crate) async fn until(&mut self, end: &str) -> String {
        loop {
            let found = self.seen.windows(end.len()).position(|part| part == end.as_bytes());
            if let Some(at) = found {
                let rest = self.seen.split_off(at + end.len());
                return without_date(&std::mem::replace(&mut self.seen, rest));
            }
            let read = patiently(self.stream.read_buf(&mut self.seen)).await;
            let bytes = read.expect("the server is there");
            assert_ne!(bytes, 0, "closed after {:?}", String::from_utf8_lossy(&self.seen));
        }
    }

    /// Everything until the server closes, but for `date`.
    pub(crate) async fn rest(&mut self) -> String {
        patiently(self.stream.read_to_end(&mut self.seen)).await.expect("no reset");
        without_date(&std::mem::take(&mut self.seen))
    }

    /// Goes away with a reset.
    pub(crate) fn reset(self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("a socket");
    }
}

fn without_date(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.split_inclusive("\r\n").filter(|line| !line.starts_with("date: ")).collect()
}

/// Fails rather than hangs.
pub(crate) async fn patiently<T>(work: impl Future<Output = T>) -> T {
    time::timeout(PATIENCE, work).await.expect("it comes in time")
}

/// Tells when it is dropped.
pub(crate) struct DropBell(Option<oneshot::Sender<()>>);

impl DropBell {
    pub(crate) fn new() -> (Self, oneshot::Receiver<()>) {
        let (bell, heard) = oneshot::channel();
        (Self(Some(bell)), heard)
    }
}

impl Drop for DropBell {
    fn drop(&mut self) {
        if let Some(bell) = self.0.take() {
            let _ = bell.send(());
        }
    }
}

/// Frames without end, counted as they are taken.
pub(crate) struct Endless {
    pub(crate) frame: Bytes,
    pub(crate) taken: Arc<Mutex<usize>>,
    pub(crate) _bell: DropBell,
}

impl Stream for Endless {
    type Item = Result<Frame<Bytes>, BodyError>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        *self.taken.lock() += self.frame.len();
        Poll::Ready(Some(Ok(Frame::data(self.frame.clone()))))
    }
}

/// Hands a value out once, from a closure that may be called often.
pub(crate) struct Once<T>(Mutex<Option<T>>);

impl<T> Once<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Mutex::new(Some(value)))
    }

    pub(crate) fn take(&self) -> T {
        self.0.lock().take().expect("it is asked for once")
    }
}
