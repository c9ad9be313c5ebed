//! What is left of a request when its answer has come.
//!
//! While an answer is awaited, whoever awaits it drives the upload too. Once it has come, nobody
//! polls the connection until the answer's body is read, and the filters may need longer until then.
//! A body that passes filters must not stand still so long: it may wait in line for a VM, and who
//! is behind it in that line would wait for ever. So the rest of such an upload is a task.

use std::future::poll_fn;
use std::sync::Arc;

use tokio_util::sync::{CancellationToken, DropGuard};

use super::super::balance::Endpoint;
use crate::codec::Remains;
use crate::drain::unless;

/// Goes on with an upload until the guard is dropped. Its connection is not used again.
pub(super) fn go_on(mut remains: Remains, endpoint: &Arc<Endpoint>) -> DropGuard {
    let stop = CancellationToken::new();
    let guard = stop.clone().drop_guard();
    endpoint.shared.tasks.spawn(async move {
        let _ = unless(stop.cancelled(), poll_fn(|cx| remains.poll(cx))).await;
    });
    guard
}
