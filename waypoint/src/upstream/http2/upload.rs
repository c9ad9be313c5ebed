//! Sends a request's body on its stream, no faster than the endpoint takes it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::Body as _;

use crate::codec::body::{Body, BodyError};

/// A request body on its way.
pub(super) struct Upload {
    stream: SendStream<Bytes>,
    body: Body,
    /// Taken from the body, waiting for the endpoint's window.
    waiting: Bytes,
}

impl Upload {
    pub(super) fn new(stream: SendStream<Bytes>, body: Body) -> Self {
        Self { stream, body, waiting: Bytes::new() }
    }

    /// Resolves when everything is sent or the endpoint wants no more of it. An error is the
    /// body's; the stream has been reset then.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        // An endpoint that resets the stream says so to whoever waits for the response, too.
        if self.stream.poll_reset(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        loop {
            while !self.waiting.is_empty() {
                if !ready!(self.poll_send(cx)) {
                    return Poll::Ready(Ok(()));
                }
            }
            let sent = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None => self.stream.send_data(Bytes::new(), true),
                Some(Err(error)) => {
                    self.stream.send_reset(Reason::CANCEL);
                    return Poll::Ready(Err(error));
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if data.is_empty() && !self.body.is_end_stream() => continue,
                    Ok(data) if data.is_empty() => self.stream.send_data(data, true),
                    Ok(data) => {
                        self.waiting = data;
                        continue;
                    }
                    Err(frame) => match frame.into_trailers() {
                        Ok(trailers) => self.stream.send_trailers(trailers),
                        Err(_unknown) => continue,
                    },
                },
            };
            // What fails here has ended the stream; the response's side tells.
            drop(sent);
            return Poll::Ready(Ok(()));
        }
    }

    /// Sends as much of what waits as the window allows; `false` when the stream is over.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let mut room = self.stream.capacity();
        if room == 0 {
            self.stream.reserve_capacity(self.waiting.len());
            room = match ready!(self.stream.poll_capacity(cx)) {
                Some(Ok(room)) => room,
                Some(Err(_)) | None => return Poll::Ready(false),
            };
        }
        let chunk = self.waiting.split_to(room.min(self.waiting.len()));
        let end = self.waiting.is_empty() && self.body.is_end_stream();
        let sent = self.stream.send_data(chunk, end).is_ok();
        Poll::Ready(sent && !end)
    }
}
