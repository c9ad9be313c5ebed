//! What is left of a request when its answer has come.
//!
//! While an answer is awaited, whoever awaits it drives the upload too. Once it has come, nobody
//! polls the connection until the answer's body is read, and the filters may need longer until then.
//! A body that passes filters must not stand still so long: it may wait in line for a VM, and who
//! is behind it in that line would wait for ever. So the rest of such an upload is a task.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Request;
use http_body::{Body as _, Frame, SizeHint};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::super::balance::Endpoint;
use super::super::pool::Lease;
use crate::codec::body::{Body, BodyError};
use crate::drain::unless;

/// Tells whether a request's body has been read to its end, or dropped.
pub(super) struct Upload(Option<Arc<AtomicBool>>);

impl Upload {
    /// Watches the body of a request that is about to be sent.
    pub(super) fn watch(request: Request<Body>) -> (Request<Body>, Self) {
        if request.body().is_end_stream() {
            return (request, Self(None));
        }
        let ended = Arc::new(AtomicBool::new(false));
        let watched = Arc::clone(&ended);
        (request.map(|body| Body::wrap(Watched { body, ended })), Self(Some(watched)))
    }

    pub(super) fn has_ended(&self) -> bool {
        self.0.as_ref().is_none_or(|ended| ended.load(Ordering::Acquire))
    }
}

/// Goes on with an upload until the guard is dropped. Its connection is not used again.
pub(super) fn go_on(lease: Lease, endpoint: &Arc<Endpoint>) -> DropGuard {
    let (mut wire, slot) = lease.into_parts();
    let stop = CancellationToken::new();
    let guard = stop.clone().drop_guard();
    endpoint.shared.tasks.spawn(async move {
        let driven = poll_fn(|cx| {
            wire.drive(cx);
            if wire.finished { Poll::Ready(()) } else { Poll::Pending }
        });
        // Ended or stopped, the connection closes here.
        let _ = unless(stop.cancelled(), driven).await;
        drop(slot);
    });
    guard
}

struct Watched {
    body: Body,
    ended: Arc<AtomicBool>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
    }
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) || self.body.is_end_stream() {
            self.ended.store(true, Ordering::Release);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
