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
        if put_off(&mut guard, &context).await {
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

/// Makes the last callbacks; whether the guest puts its end off, and with it `on_delete`. A guest that
/// is gone puts nothing off.
async fn put_off(guard: &mut Guard, context: &Arc<Context>) -> bool {
    if ensure_created(guard, context).await.is_err() {
        return false;
    }
    let call = ending("proxy_on_log, proxy_on_done, proxy_on_delete", context);
    let done = guard.call(|exports| exports.end.as_ref(), context.id, call).await;
    let later = matches!(done, Ok(Some(0)));
    context.state.lock().done_pending = later;
    guard.settle();
    later
}

fn ending(name: &'static str, context: &Arc<Context>) -> Call {
    Call { name, kind: Kind::Ending, stream: Some(Arc::clone(context)) }
}
