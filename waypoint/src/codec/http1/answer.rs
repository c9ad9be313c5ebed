//! Sends an answer: head and first frame in one write, then frame by frame as the client reads.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
};

use bytes::Bytes;
use http::{Method, Response, Version};
use http_body::{Body as _, Frame};

use super::{
    encode::{self, Afterwards},
    writer::Writer,
};
use crate::codec::{
    Body, Socket,
    isolate::{Panicked, poll_isolated},
    sending::{Sending, WrongLength},
};

/// What of a request decides about its answer.
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) version: Version,
}

/// Why the answer could not be sent to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CutShort {
    /// The body failed, or the client is gone.
    Failed,
    /// The body panicked.
    Panicked,
}

impl From<std::io::Error> for CutShort {
    fn from(_: std::io::Error) -> Self {
        Self::Failed
    }
}

impl From<WrongLength> for CutShort {
    fn from(_: WrongLength) -> Self {
        Self::Failed
    }
}

/// Sends an answer; gives what becomes of the connection then. The body is dropped with its end.
pub(super) async fn send(
    writer: &mut Writer,
    socket: &Socket,
    response: Response<Body>,
    asked: &Asked,
    afterwards: Afterwards,
) -> Result<Afterwards, CutShort> {
    let (parts, body) = response.into_parts();
    let sending = Sending::of(&asked.method, asked.version, parts.status, &parts.headers, &body);
    let afterwards = if sending == Sending::UntilClose { Afterwards::Closes } else { afterwards };
    encode::head(writer.gathered(), parts.status, &parts.headers, sending, afterwards);
    let sent = send_body(writer, socket, body, sending).await;
    if sent.is_err() && sending == Sending::UntilClose {
        // A FIN would make what was sent look complete.
        socket.reset_on_close();
    }
    sent.map(|()| afterwards)
}

async fn send_body(
    writer: &mut Writer,
    socket: &Socket,
    mut body: Body,
    sending: Sending,
) -> Result<(), CutShort> {
    if sending == Sending::Nothing {
        return Ok(writer.flush().await?);
    }
    let mut remainder = sending.remainder();
    let mut trailers = None;
    while let Some(frame) = next_frame(writer, socket, &mut body).await? {
        match frame.into_data() {
            Ok(data) if data.is_empty() => {}
            Ok(data) => {
                remainder.take(data.len())?;
                if sending == Sending::Open {
                    encode::chunk_line(writer.gathered(), data.len());
                    writer.send(data, b"\r\n").await?;
                } else {
                    writer.send(data, b"").await?;
                }
            }
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    remainder.end()?;
    if sending == Sending::Open {
        encode::last_chunk(writer.gathered(), trailers.as_ref());
    }
    Ok(writer.flush().await?)
}

/// The next frame of an answer. What is gathered leaves as soon as the body makes us wait.
async fn next_frame(
    writer: &mut Writer,
    socket: &Socket,
    body: &mut Body,
) -> Result<Option<Frame<Bytes>>, CutShort> {
    let mut body = pin!(body);
    let at_once = poll_fn(|cx| Poll::Ready(poll_isolated(|| body.as_mut().poll_frame(cx)))).await;
    let frame = match at_once {
        Poll::Ready(frame) => frame,
        Poll::Pending => {
            writer.flush().await?;
            let mut failed = pin!(socket.failed());
            poll_fn(|cx| match poll_isolated(|| body.as_mut().poll_frame(cx)) {
                Poll::Ready(frame) => Poll::Ready(Ok(frame)),
                Poll::Pending => failed.as_mut().poll(cx).map(|()| Err(CutShort::Failed)),
            })
            .await?
        }
    };
    let frame = match frame {
        Ok(frame) => frame.transpose().map_err(|_| CutShort::Failed),
        Err(Panicked) => Err(CutShort::Panicked),
    };
    if frame.is_err() {
        // What came before goes out: a cut answer is told from none.
        writer.flush().await?;
    }
    frame
}
