//! The end of a context: log, done, delete.

use std::sync::Arc;

use crate::{
    context::Context,
    state::Kind,
    stream::{Open, call::ensure_created},
    vm::{Call, DONE_WAIT_MAX, Guard},
};

impl Open {
    /// The end of a context; nobody drops it half-way.
    pub(super) async fn end(self) {
        let Self { place, context } = self;
        let core = Arc::clone(place.core());
        let mut guard = place.vm().lock().await;
        if guard.live().is_none() {
            return;
        }
        let created = context.state.lock().created;
        if !created && !core.hooks.log {
            return;
        }
        if end(&mut guard, &context).await == Ok(Done::Later) {
            drop(guard);
            let _ = tokio::time::timeout(DONE_WAIT_MAX, context.done.notified()).await;
            guard = place.vm().lock().await;
            let call = ending("proxy_on_delete", &context);
            let _ = guard.call(|exports| exports.delete.as_ref(), context.id, call).await;
            guard.settle();
        }
        if let Some(live) = guard.live() {
            live.store.data_mut().streams.remove(&context.id);
        }
        drop(guard);
        drop(place);
    }
}

/// The guest is asked whether the context is done, or still at work.
#[derive(Debug, PartialEq, Eq)]
enum Done {
    Now,
    Later,
}

async fn end(guard: &mut Guard, context: &Arc<Context>) -> Result<Done, Stopped> {
    ensure_created(guard, context).await.map_err(|_| Stopped)?;
    let call = ending("proxy_on_log, proxy_on_done, proxy_on_delete", context);
    let done = guard.call(|e| e.end.as_ref(), context.id, call).await.map_err(|_| Stopped)?;
    let later = done == Some(0);
    context.state.lock().done_pending = later;
    guard.settle();
    Ok(if later { Done::Later } else { Done::Now })
}

/// The VM ended meanwhile.
#[derive(Debug, PartialEq, Eq)]
struct Stopped;

fn ending(name: &'static str, context: &Arc<Context>) -> Call {
    Call { name, kind: Kind::Ending, stream: Some(Arc::clone(context)) }
}
