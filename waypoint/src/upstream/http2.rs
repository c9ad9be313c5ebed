//! One request as one stream of a shared HTTP/2 connection.
//!
//! The h2 crate is used directly: the request's own task sends the body until the response head is
//! there, and its errors say whether the endpoint has processed the stream. A dropped request or
//! response body resets the stream.

mod body;
mod upload;
mod websocket;
mod windows;

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::client::{Builder, Connection, ResponseFuture, SendRequest};
use h2::{Reason, RecvStream};
use http::Response;
use http_body::Body as _;

use super::balance::{Endpoint, Outstanding};
use super::connect::{self, ConnectError};
use super::pool::StreamLease;
use super::retry::{self, Again, Failure, Outgoing, Plan};
use super::{UpstreamError, head};
use crate::codec::body::{Body, BodyError};
use crate::codec::{Channel, INTERIM_MAX, Turns, WINDOW_BYTES_MAX, unite_content_lengths};
use crate::lanes;
use upload::Upload;
use windows::{BELIEVED_WINDOW_BYTES, Windowed};

pub(super) use windows::{StreamWindow, Windows};

/// What the endpoint may send ahead on one connection: the streams of this many readers, so that a
/// few slow ones do not stop the others that share the connection.
const WINDOWED_STREAMS: u32 = 100;

/// What of one request's body may wait in h2 to be sent. When full: the body is not read on.
const SEND_BUFFER_BYTES: usize = 256 * 1024;

/// The largest response head. Past it: the stream is reset.
const HEAD_BYTES_MAX: u32 = 64 * 1024;

/// What drives a connection.
pub(super) type Driver = Connection<Windowed<Turns<Channel>>, Bytes>;

/// Connects to the endpoint and begins HTTP/2 on it; the connection is yet to be driven.
pub(super) async fn open(
    endpoint: &Endpoint,
) -> Result<(SendRequest<Bytes>, Driver, Arc<Windows>), ConnectError> {
    let (stream, windows) = Windowed::new(Turns::of_server(connect::connect(endpoint).await?));
    let handshake = Builder::new()
        .initial_window_size(BELIEVED_WINDOW_BYTES)
        .initial_connection_window_size(WINDOWED_STREAMS * WINDOW_BYTES_MAX as u32)
        .initial_max_send_streams(endpoint.shared.limits.http2_streams_max)
        .max_send_buffer_size(SEND_BUFFER_BYTES)
        .max_header_list_size(HEAD_BYTES_MAX)
        .enable_push(false)
        .handshake(stream)
        .await;
    let (sender, driver) = handshake.map_err(|error| ConnectError::Failed {
        address: endpoint.address,
        source: Arc::new(error.into_io().unwrap_or_else(|| io::ErrorKind::InvalidData.into())),
    })?;
    Ok((sender, driver, windows))
}

/// Sends one request and waits for its response head.
pub(super) async fn attempt(
    outstanding: Outstanding,
    outgoing: &mut Outgoing,
    plan: &Plan,
) -> Result<Response<Body>, Failure> {
    // Where the task of the connection upstream is.
    lanes::leave().await;
    let mut lease = match StreamLease::take(outstanding.endpoint()).await {
        Ok(lease) => lease,
        Err(error) => return Err(Failure { error, again: Again::Unsent }),
    };
    if plan.upgrade {
        return websocket::attempt(lease, outstanding, outgoing, plan).await;
    }
    let request = retry::take(outgoing);
    let end = request.body().is_end_stream();
    let (response, stream) = match lease.sender.send_request(head::copy(&request).map(drop), end) {
        Ok(sent) => sent,
        Err(error) => {
            *outgoing = Some(request);
            return Err(refused_here(error));
        }
    };
    let window = lease.window(response.stream_id(), plan);
    let (head, body) = request.into_parts();
    let mut upload = (!end).then(|| Upload::new(stream, body));
    match exchange(response, &mut upload, plan).await {
        Ok(response) => {
            let mut upload = upload.filter(|upload| !upload.is_over());
            if let Some(upload) = &mut upload {
                upload.forget();
            }
            let held = body::Held::new(lease, upload, outstanding);
            receive(response, window, held, plan)
                .map_err(|error| Failure { error, again: Again::No })
        }
        Err(broken) => {
            let failure = broken.into_failure(end && plan.repeatable && lease.reused);
            let body = match upload {
                None => Some(Body::empty()),
                Some(upload) => upload.into_body(),
            };
            *outgoing = body.map(|body| Box::new(http::Request::from_parts(head, body)));
            let again = if outgoing.is_some() { failure.again } else { Again::No };
            Err(Failure { again, ..failure })
        }
    }
}

/// What h2 refused to send: nothing of it has left.
fn refused_here(error: h2::Error) -> Failure {
    let again = match &error {
        error if is_ours(error) => Again::No,
        error => unprocessed(error).unwrap_or(Again::Unsent),
    };
    Failure { error: failure(error), again }
}

/// Why an exchange ended before the response head.
enum Broken {
    Upload(BodyError),
    Stream(h2::Error),
    /// Too many heads of 1xx.
    Interim,
}

// === impl Broken ===

impl Broken {
    /// How the request may be tried again, if it still can be. `repeatable`: once more after its
    /// connection died, too.
    fn into_failure(self, repeatable: bool) -> Failure {
        match self {
            Self::Upload(error) => {
                Failure { error: UpstreamError::RequestBody(error), again: Again::No }
            }
            Self::Interim => {
                let source = "too many heads of 1xx".into();
                Failure { error: UpstreamError::MalformedResponse { source }, again: Again::No }
            }
            Self::Stream(error) => {
                let again = match unprocessed(&error) {
                    Some(again) => again,
                    None if repeatable && died(&error) => Again::Died,
                    None => Again::No,
                };
                Failure { error: failure(error), again }
            }
        }
    }
}

/// Sends the body while waiting for the response head.
async fn exchange(
    mut response: ResponseFuture,
    upload: &mut Option<Upload>,
    plan: &Plan,
) -> Result<Response<RecvStream>, Broken> {
    let mut interim = 0;
    poll_fn(|cx: &mut Context<'_>| {
        if let Some(sending) = upload.as_mut().filter(|sending| !sending.is_over())
            && let Poll::Ready(sent) = sending.poll(cx)
        {
            sent.map_err(Broken::Upload)?;
        }
        while let Poll::Ready(Some(head)) = response.poll_informational(cx) {
            plan.give_interim(head.map_err(Broken::Stream)?);
            interim += 1;
            if INTERIM_MAX < interim {
                return Poll::Ready(Err(Broken::Interim));
            }
        }
        Pin::new(&mut response).poll(cx).map_err(Broken::Stream)
    })
    .await
}

/// Makes a response of what h2 gives: without hop-by-hop headers, its body our own.
fn receive(
    response: Response<RecvStream>,
    window: StreamWindow,
    held: body::Held,
    plan: &Plan,
) -> Result<Response<Body>, UpstreamError> {
    let (mut parts, stream) = response.into_parts();
    head::clean_response(&mut parts.headers);
    let length = unite_content_lengths(&mut parts.headers)
        .map_err(|refusal| UpstreamError::MalformedResponse { source: refusal.into() })?;
    Ok(Response::from_parts(parts, body::receive(stream, window, length, held, &plan.deadlines)))
}

/// Which failure an h2 error before the response head is.
fn failure(error: h2::Error) -> UpstreamError {
    if is_ours(&error) {
        return UpstreamError::InvalidRequest { reason: "the head is not one of HTTP/2" };
    }
    if error.is_library() {
        return UpstreamError::MalformedResponse { source: error.into() };
    }
    UpstreamError::ResetBeforeHead { source: error.into() }
}

/// The request itself cannot be sent on any connection.
fn is_ours(error: &h2::Error) -> bool {
    !error.is_io() && error.reason().is_none()
}

/// How the request may be tried again if the endpoint vouches that it has done nothing with the
/// stream (RFC 9113, 8.7): it is above the last one of a GOAWAY, or was refused.
fn unprocessed(error: &h2::Error) -> Option<Again> {
    match error.reason() {
        _ if !error.is_remote() => None,
        Some(Reason::NO_ERROR) if error.is_go_away() => Some(Again::Retired),
        _ if error.is_go_away() => Some(Again::Unsent),
        Some(Reason::REFUSED_STREAM) => Some(Again::Unsent),
        _ => None,
    }
}

/// The connection ended under the stream.
fn died(error: &h2::Error) -> bool {
    error.is_io()
}
