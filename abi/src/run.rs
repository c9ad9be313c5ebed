//! A future that is never cut short: dropped half-way, it runs on in a task.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use crate::host::{BoxFuture, Host};

/// Work that has begun and must end: a callback half-way through leaves the guest's memory
/// half-written for its next stream, and a VM that was half started serves nobody.
pub(crate) struct RunToEnd<T: Send + 'static> {
    work: Option<BoxFuture<T>>,
    host: Arc<dyn Host>,
}

impl<T: Send + 'static> RunToEnd<T> {
    pub(crate) fn new(
        host: &Arc<dyn Host>,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Self {
        Self { work: Some(Box::pin(work)), host: Arc::clone(host) }
    }
}

impl<T: Send + 'static> Future for RunToEnd<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let work = self.work.as_mut().expect("polled after its end");
        let polled = work.as_mut().poll(cx);
        if polled.is_ready() {
            self.work = None;
        }
        polled
    }
}

impl<T: Send + 'static> Drop for RunToEnd<T> {
    fn drop(&mut self) {
        if let Some(work) = self.work.take() {
            self.host.spawn(Box::pin(async move {
                let _ = work.await;
            }));
        }
    }
}
