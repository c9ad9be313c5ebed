//! Counts a request's body as it is read.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;

use http_body::Body as _;

use crate::codec::body::Body;

/// The same body, whose bytes are added to `received` as they are read.
pub(super) fn counted(body: Body, received: Arc<AtomicU64>) -> Body {
    if body.is_end_stream() {
        return body;
    }
    body.observed(move |polled, _| {
        if let Poll::Ready(Some(Ok(frame))) = polled
            && let Some(data) = frame.data_ref()
        {
            received.fetch_add(data.len() as u64, Ordering::Relaxed);
        }
    })
}
