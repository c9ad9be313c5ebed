//! One request on one HTTP/1 connection, driven by the request's own task.
//!
//! hyper's connection future is not spawned: whoever awaits the response head or polls the response
//! body polls it too. A response body that is dropped before its end closes the connection; one
//! that ended gives it back to the pool. An answer that comes before the upload has ended is the
//! exception: a task goes on with the upload ([`upload`]).

mod body;
mod tunnel;
mod upload;

use std::error::Error;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Waker};

use http::{Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::unconstrained;

use super::balance::{Endpoint, Outstanding};
use super::pool::Lease;
use super::retry::{self, Again, Failure, Outgoing, Plan};
use super::{UpstreamError, connect, head};
use crate::codec::body::{Body, BodyError};
use upload::Upload;

/// What hyper may hold of one response that nobody has taken yet, the head included. A head that
/// is larger is malformed; a body waits in the socket.
const READ_BUFFER_BYTES: usize = 64 * 1024;

type Answer = Result<Response<Incoming>, TrySendError<Request<Body>>>;

/// A connection and the future that moves its bytes.
pub(super) struct Wire {
    sender: SendRequest<Body>,
    driver: Connection<TokioIo<TcpStream>, Body>,
    /// The driver has resolved and must not be polled again.
    finished: bool,
}

/// Sends one request and waits for its response head.
pub(super) async fn attempt(
    outstanding: Outstanding,
    outgoing: &mut Outgoing,
    plan: &Plan,
) -> Result<Response<Body>, Failure> {
    let endpoint = outstanding.endpoint();
    let mut lease = match Lease::take(endpoint, plan.fresh).await {
        Ok(lease) => lease,
        Err(error) => return Err(Failure { error, again: Again::Unsent }),
    };
    let (request, upload) = Upload::watch(retry::take(outgoing));
    let spare = (plan.repeatable && lease.reused).then(|| head::copy(&request));
    match lease.wire.send(request).await {
        Ok(response) => receive(response, lease, upload, outstanding, plan)
            .await
            .map_err(|error| Failure { error, again: Again::No }),
        Err(mut refused) => {
            let (wire, _slot) = lease.into_parts();
            let again = if let Some(request) = refused.take_message() {
                *outgoing = Some(request);
                Again::Unsent
            } else if spare.is_some() && wire.died_silent(refused.error()) {
                *outgoing = spare;
                Again::Died
            } else {
                Again::No
            };
            Err(Failure { error: failure(refused.into_error()), again })
        }
    }
}

/// Makes a response of what hyper gives: checked, without hop-by-hop headers, its body our own.
async fn receive(
    response: Response<Incoming>,
    lease: Lease,
    upload: Upload,
    outstanding: Outstanding,
    plan: &Plan,
) -> Result<Response<Body>, UpstreamError> {
    let (mut parts, incoming) = response.into_parts();
    parts.extensions.clear(); // hyper's own, such as its half of an upgrade.
    if parts.status == StatusCode::SWITCHING_PROTOCOLS {
        let tunnel = tunnel::open(lease, outstanding, plan, &mut parts.headers).await?;
        parts.extensions.insert(tunnel);
        return Ok(Response::from_parts(parts, Body::empty()));
    }
    // hyper would write later requests as HTTP/1.0 too: without bodies of unknown length.
    let keep = parts.version != Version::HTTP_10;
    parts.version = Version::HTTP_11;
    head::clean_response(&mut parts.headers)?;
    let body = body::receive(incoming, lease, upload, keep, outstanding, &plan.deadlines);
    Ok(Response::from_parts(parts, body))
}

// === impl Wire ===

impl Wire {
    /// Connects to the endpoint.
    pub(super) async fn open(endpoint: &Endpoint) -> Result<Box<Self>, UpstreamError> {
        let stream = connect::connect(endpoint).await?;
        let mut builder = Builder::new();
        builder.max_buf_size(READ_BUFFER_BYTES);
        let handshake = builder.handshake(TokioIo::new(stream)).await;
        let (sender, driver) =
            handshake.map_err(|error| UpstreamError::ResetBeforeHead { source: error.into() })?;
        Ok(Box::new(Self { sender, driver, finished: false }))
    }

    /// Whether another request can be sent. Notices what the endpoint did meanwhile: a close, or
    /// bytes that nobody asked for.
    pub(super) fn is_reusable(&mut self) -> bool {
        self.drive(&mut Context::from_waker(Waker::noop()));
        !self.finished && self.sender.is_ready()
    }

    /// Whether the exchange is over and the connection is still there. What the endpoint does from
    /// then on, [`Self::is_reusable`] notices.
    pub(super) fn is_settled(&mut self) -> bool {
        if !self.sender.is_ready() {
            self.drive(&mut Context::from_waker(Waker::noop()));
        }
        !self.finished && self.sender.is_ready()
    }

    /// Whether the last response has wholly arrived: nothing is left for the driver to do.
    fn is_done(&self) -> bool {
        self.finished || self.sender.is_ready()
    }

    /// Moves bytes in both directions.
    fn drive(&mut self, cx: &mut Context<'_>) {
        // What failed is told to whoever waits for the head or the body.
        if !self.finished && self.driver.poll_without_shutdown(cx).is_ready() {
            self.finished = true;
        }
    }

    async fn send(&mut self, request: Request<Body>) -> Answer {
        // The driver runs in this task, so its end of the channel need not wake it: the answer is
        // looked for after each turn of the driver, and for the same reason outside tokio's budget.
        let mut answer = pin!(unconstrained(self.sender.try_send_request(request)));
        poll_fn(|cx| {
            self.drive(cx);
            answer.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        })
        .await
    }

    /// Whether the connection ended before any byte of an answer.
    fn died_silent(self: Box<Self>, error: &hyper::Error) -> bool {
        !error.is_parse() && !error.is_user() && self.driver.into_parts().read_buf.is_empty()
    }
}

/// Which failure a hyper error before the response head is.
fn failure(error: hyper::Error) -> UpstreamError {
    if error.is_user() {
        let body = error.source().and_then(|source| source.downcast_ref::<BodyError>());
        // Otherwise hyper itself counted fewer bytes than the head had declared.
        return UpstreamError::RequestBody(body.copied().unwrap_or(BodyError::TooShort));
    }
    if error.is_parse() {
        return UpstreamError::MalformedResponse { source: error.into() };
    }
    UpstreamError::ResetBeforeHead { source: error.into() }
}
