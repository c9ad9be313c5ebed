//! Copies of requests (`requestMirror`), sent beside them; their answers are thrown away.
//!
//! Takes a request that is about to leave and the services that get copies; gives its body, which
//! feeds the copies while it is read. It refuses nothing and never waits: what does not fit is shed
//! and counted. When the request is dropped before its body has ended, its copies are cut.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body::Body as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use self::copy::{Copied, Copy};
use crate::authorize::{Checked, Permitted};
use crate::codec::body::{Body, Polled};
use crate::drain::Tasks;
use crate::metrics::Metrics;
use crate::trace;
use crate::upstream::{Cluster, Deadlines, UpstreamError};

mod copy;

/// Copies in flight in the whole process. When full: shed.
pub const MIRRORS_MAX: usize = 256;
/// Bytes of a body that are copied. When it is longer: the copy is cut, or shed at once where the
/// length is known.
pub const MIRROR_BODY_BYTES_MAX: usize = 256 << 10;
/// How long a copy may take, its answer included. When over: cut.
pub const MIRROR_TIME_MAX: Duration = Duration::from_secs(15);
/// Bytes of an answer that are read so that its connection can be used again. When it is longer:
/// the connection is closed.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// A service that gets a copy.
pub struct Target {
    /// Its endpoints.
    pub cluster: Cluster,
    /// That the copy may go there.
    pub checked: Checked,
}

/// The door to mirrors.
#[derive(Clone)]
pub struct Mirrors {
    slots: Arc<Semaphore>,
    tasks: Tasks,
    metrics: Arc<Metrics>,
}

impl Mirrors {
    /// Copies are sent by `tasks` and counted in `metrics`.
    pub fn new(tasks: Tasks, metrics: Arc<Metrics>) -> Self {
        Self { slots: Arc::new(Semaphore::new(MIRRORS_MAX)), tasks, metrics }
    }

    /// Counts a copy that was not sent because its service demands a filter that has not run.
    pub fn refused(&self) {
        self.metrics.mirrored("shed_filter");
    }

    /// Sends a copy of the request to each target; the request's body feeds them from here on.
    pub fn send(&self, request: &mut Request<Body>, targets: Vec<Target>) {
        let hint = request.body().size_hint();
        let mut copies = Vec::new();
        for target in targets {
            if hint.lower() > MIRROR_BODY_BYTES_MAX as u64 {
                self.metrics.mirrored("shed_body");
                continue;
            }
            let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else {
                self.metrics.mirrored("shed_full");
                continue;
            };
            let (copied, copy) = if request.body().is_end_stream() {
                (Body::empty(), None)
            } else {
                let copy = Copy::new(hint.exact());
                (Body::wrap(Copied::new(Arc::clone(&copy), hint.exact())), Some(copy))
            };
            let permitted = target.checked.permit(copy_of(request, copied));
            self.spawn(target.cluster, permitted, copy.clone(), slot);
            copies.extend(copy);
        }
        if copies.is_empty() {
            return;
        }
        let copies = Copies(copies);
        Body::replace(request, |body| {
            body.observed(move |polled, ended| copies.see(polled, ended))
        });
    }

    fn spawn(
        &self,
        cluster: Cluster,
        permitted: Permitted,
        copy: Option<Arc<Copy>>,
        slot: OwnedSemaphorePermit,
    ) {
        let metrics = Arc::clone(&self.metrics);
        self.tasks.spawn(async move {
            let _slot = slot;
            let sent = timeout(MIRROR_TIME_MAX, exchange(&cluster, permitted)).await;
            let too_long = copy.is_some_and(|copy| copy.is_too_long());
            metrics.mirrored(match sent {
                _ if too_long => "shed_body",
                Ok(Ok(())) => "answered",
                Ok(Err(_)) | Err(_) => "failed",
            });
        });
    }
}

/// Whether one of `share` requests is copied, from an evenly distributed number.
pub fn is_chosen((numerator, denominator): (u32, u32)) -> bool {
    let random = u128::from(trace::random() as u32);
    (random * u128::from(denominator)) >> 32 < u128::from(numerator)
}

/// A request with the same head, without what belongs to the request's own connection.
fn copy_of(request: &Request<Body>, body: Body) -> Box<Request<Body>> {
    let mut copy = Box::new(Request::new(body));
    request.method().clone_into(copy.method_mut());
    request.uri().clone_into(copy.uri_mut());
    request.headers().clone_into(copy.headers_mut());
    *copy.version_mut() = request.version();
    copy
}

async fn exchange(cluster: &Cluster, permitted: Permitted) -> Result<(), UpstreamError> {
    let (answer, _) = cluster.send(permitted, Deadlines::default()).await?;
    let mut answer = answer.into_body();
    let mut read = 0;
    while let Some(Ok(frame)) = answer.frame().await {
        read += frame.data_ref().map_or(0, Bytes::len);
        if read > ANSWER_BYTES_MAX {
            break;
        }
    }
    Ok(())
}

/// The copies that a request's body feeds; who drops them before its end cuts them.
struct Copies(Vec<Arc<Copy>>);

impl Copies {
    fn see(&self, polled: &Polled, ended: bool) {
        for copy in &self.0 {
            match polled {
                Poll::Ready(Some(Ok(frame))) => copy.push(frame, ended),
                Poll::Ready(Some(Err(_))) => copy.end(false),
                Poll::Ready(None) => copy.end(true),
                Poll::Pending => {}
            }
        }
    }
}

impl Drop for Copies {
    fn drop(&mut self) {
        self.0.iter().for_each(|copy| copy.end(false));
    }
}
