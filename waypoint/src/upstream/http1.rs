//! One request on one HTTP/1 connection, driven by the request's own task.
//!
//! Whoever awaits the response head or polls the response body moves the connection's bytes. A
//! response body that is dropped before its end closes the connection; one that ended gives it back
//! to the pool. An answer that comes before the upload has ended is the exception: a task goes on
//! with the upload ([`upload`]).

mod body;
mod tunnel;
mod upload;

use std::future::poll_fn;

use http::{Response, StatusCode};
use http_body::Body as _;

use super::balance::Outstanding;
use super::pool::Lease;
use super::retry::{Again, Failure, Outgoing, Plan};
use super::{UpstreamError, head};
use crate::codec::body::Body;
use crate::codec::{Ahead, Wire, WireError};

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
    // Its head stays where it is: without a body, nothing of it is used up.
    let request = outgoing.as_mut().expect("a request is put back before it is tried again");
    let bodiless = request.body().is_end_stream();
    lease.wire.send(request, plan.upgrade, plan.ahead.as_ref().is_none_or(Ahead::is_far));
    match answer(&mut lease.wire, plan).await {
        Ok(response) => receive(response, lease, outstanding, plan)
            .map_err(|error| Failure { error, again: Again::No }),
        Err(error) => {
            let lost = matches!(error, WireError::Closed | WireError::Io(_));
            let again = match lost && bodiless {
                true if lease.wire.is_unsent() => Again::Unsent,
                true if plan.repeatable && lease.reused && lease.wire.is_silent() => Again::Died,
                _ => Again::No,
            };
            Err(Failure { error: error.into(), again })
        }
    }
}

/// Waits for the head that answers; those of 1xx before it are passed on.
async fn answer(wire: &mut Wire, plan: &Plan) -> Result<Response<()>, WireError> {
    loop {
        let head = poll_fn(|cx| wire.poll_head(cx)).await?;
        if wire.is_headed() {
            return Ok(head);
        }
        plan.give_interim(head);
    }
}

/// Makes a response of what the connection gives: without hop-by-hop headers, its body our own.
fn receive(
    response: Response<()>,
    lease: Lease,
    outstanding: Outstanding,
    plan: &Plan,
) -> Result<Response<Body>, UpstreamError> {
    let (mut parts, ()) = response.into_parts();
    if parts.status == StatusCode::SWITCHING_PROTOCOLS {
        let tunnel = tunnel::open(lease, outstanding, plan, &parts.headers)?;
        head::clean_response(&mut parts.headers);
        parts.extensions.insert(tunnel);
        return Ok(Response::from_parts(parts, Body::empty()));
    }
    head::clean_response(&mut parts.headers);
    let body = body::receive(lease, outstanding, &plan.deadlines);
    Ok(Response::from_parts(parts, body))
}

impl From<WireError> for UpstreamError {
    fn from(error: WireError) -> Self {
        match error {
            WireError::RequestBody(error) => Self::RequestBody(error),
            WireError::Malformed(source) => Self::MalformedResponse { source },
            WireError::Io(_) | WireError::Closed => Self::ResetBeforeHead { source: error.into() },
        }
    }
}
