//! One stream: check, journey, answer. A task of its own, on any worker.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, server::SendResponse};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::{Body as _, Frame};

use super::{
    body::RequestBody,
    connection::Active,
    head::{self, Checked},
    queued::Queued,
    websocket,
};
use crate::codec::{
    Body, Connection, Interim, Journey, Refusal, Source as _, Tunnel,
    date::date,
    hygiene,
    idle::Stall,
    isolate::{Panicked, poll_isolated},
    sending::{Remainder, Sending, WrongLength},
};

/// What one piece of an answer asks of the client's window at a time, in bytes. It keeps one stream
/// from taking the connection's window to itself.
const PIECE_BYTES_MAX: usize = 64 * 1024;

/// The room that a stream takes before it reads on, in bytes: what is read at a time.
const AHEAD_BYTES: usize = 16 * 1024;

/// Why an answer ended before its end.
pub(super) enum CutShort {
    /// The client reset the stream or the connection is gone: nobody is left to tell.
    Gone,
    /// The stream must be reset by us.
    Reset(Reason),
    /// The answer's body panicked.
    Panicked,
}

impl From<h2::Error> for CutShort {
    fn from(_: h2::Error) -> Self {
        Self::Gone
    }
}

impl From<WrongLength> for CutShort {
    fn from(_: WrongLength) -> Self {
        Self::Reset(Reason::INTERNAL_ERROR)
    }
}

/// Serves one stream to its end; it counts as active until then.
///
/// A waiting stream holds what its stage needs and no more: the journey and the answer are each in a
/// box, of which one is there at a time, and what is done without waiting is done in functions that
/// leave nothing behind. So is the request: what a future is given stays in it to its end.
pub(super) async fn serve<J: Journey>(
    request: Box<Request<RecvStream>>,
    mut respond: SendResponse<Bytes>,
    connection: Arc<Connection<J>>,
    queued: Arc<Queued>,
    _active: Active,
) {
    let Some(Begun { request, asked }) = begin(request, &mut respond, &connection) else { return };
    let (method, interim) = (request.method().clone(), Interim::default());
    let call = Box::pin(connection.journey.call(request, &connection.info, &interim));
    let rest = match answered(call, &interim, &mut respond).await {
        None => None,
        Some(answer) => answer_with(answer, &method, asked, &mut respond, &connection, &queued),
    };
    if let Some(rest) = rest {
        rest.await;
    }
}

/// Checks the head; `None` if the stream was refused.
fn begin<J: Journey>(
    request: Box<Request<RecvStream>>,
    respond: &mut SendResponse<Bytes>,
    connection: &Connection<J>,
) -> Option<Begun> {
    let (mut parts, receive) = request.into_parts();
    let limits = &connection.limits;
    let encrypted = connection.info.tls.is_some();
    let checked = websocket::asked(&mut parts)
        .and_then(|key| Ok((key, head::check(&mut parts, encrypted, limits)?)));
    let (key, Checked { expects_continue, length }) = match checked {
        Ok(checked) => checked,
        Err(refusal) => {
            connection.journey.refused(&refusal, &connection.info);
            refuse(respond, refusal);
            return None;
        }
    };
    let mut asked = None;
    let body = if let Some(key) = key {
        asked = Some(Box::new(Asked { key, receive }));
        Body::empty()
    } else if receive.is_end_stream() {
        Body::empty()
    } else {
        // Said at once: a stream has no reader of its own that could wait for the first poll.
        if expects_continue {
            let _ = respond.send_informational(informational());
        }
        Body::http2(RequestBody::new(receive, length, limits.body_idle_timeout))
    };
    Some(Begun { request: Box::new(Request::from_parts(parts, body)), asked })
}

/// A request whose head has been checked.
struct Begun {
    request: Box<Request<Body>>,
    asked: Option<Box<Asked>>,
}

/// Begins the answer; gives what is left to be done of it, if anything is.
fn answer_with<'a, J: Journey>(
    answer: Result<Response<Body>, Panicked>,
    method: &Method,
    asked: Option<Box<Asked>>,
    respond: &'a mut SendResponse<Bytes>,
    connection: &'a Connection<J>,
    queued: &'a Queued,
) -> Option<Rest<'a>> {
    let Ok(response) = answer else {
        connection.journey.refused(&Refusal::Panicked, &connection.info);
        refuse(respond, Refusal::Panicked);
        return None;
    };
    if response.status().is_informational() {
        return Some(Box::pin(switch(response, asked, respond, connection, queued)));
    }
    let (stream, sending, mut body) = send_head(response, method, respond)?;
    let mut answer = Answer::new(stream, sending, connection, queued);
    // Not a function of it: its future would hold both twice.
    Some(Box::pin(async move {
        let ended = answer.send(&mut body).await;
        drop(body);
        answer.end(ended);
    }))
}

/// What is left of an answer whose head has been sent.
type Rest<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// A WebSocket that a client has asked for.
struct Asked {
    key: HeaderValue,
    receive: RecvStream,
}

/// Answers 200 for the endpoint's 101 and gives the stream to the tunnel; whose body is dropped with
/// it, for it holds the request's record and its slots.
async fn switch<J: Journey>(
    response: Response<Body>,
    asked: Option<Box<Asked>>,
    respond: &mut SendResponse<Bytes>,
    connection: &Connection<J>,
    queued: &Queued,
) {
    let (mut parts, _body) = response.into_parts();
    let tunnel = parts.extensions.get::<Tunnel>().and_then(Tunnel::take);
    let (StatusCode::SWITCHING_PROTOCOLS, Some(upstream), Some(asked)) =
        (parts.status, tunnel, asked)
    else {
        return refuse(respond, Refusal::SwitchUnasked);
    };
    let Asked { key, receive } = *asked;
    if let Err(refusal) = websocket::accept(&key, &mut parts.headers) {
        return refuse(respond, refusal);
    }
    parts.status = StatusCode::OK;
    finish_head(&mut parts.headers, parts.status, Sending::Open);
    let Ok(stream) = respond.send_response(Response::from_parts(parts, ()), false) else {
        return;
    };
    let mut answer = Answer::new(stream, Sending::Open, connection, queued);
    let ended = websocket::run(&mut answer, receive, upstream).await;
    answer.end(ended);
}

fn informational() -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::CONTINUE;
    response
}

/// The journey's answer; `None` if the stream was reset, and the journey was dropped.
async fn answered(
    mut call: Pin<Box<impl Future<Output = Response<Body>>>>,
    interim: &Interim,
    respond: &mut SendResponse<Bytes>,
) -> Option<Result<Response<Body>, Panicked>> {
    poll_fn(|cx| {
        let answered = poll_isolated(|| call.as_mut().poll(cx));
        while let Some(head) = interim.take(http::Version::HTTP_2) {
            // It fails only if the client is gone already.
            let _ = respond.send_informational(head);
        }
        match answered {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            Poll::Pending => respond.poll_reset(cx).map(|_| None),
        }
    })
    .await
}

fn refuse(respond: &mut SendResponse<Bytes>, refusal: Refusal) {
    let mut response = Response::new(());
    *response.status_mut() = refusal.status();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    // It fails only if the client is gone already.
    if let Ok(mut stream) = respond.send_response(response, false) {
        let _ = stream.send_data(Bytes::from_static(refusal.name().as_bytes()), true);
    }
}

/// Sends the head; gives what is to follow it, if anything is.
fn send_head(
    response: Response<Body>,
    method: &Method,
    respond: &mut SendResponse<Bytes>,
) -> Option<(SendStream<Bytes>, Sending, Body)> {
    let (mut parts, body) = response.into_parts();
    let sending = Sending::of(method, http::Version::HTTP_2, parts.status, &parts.headers, &body);
    let ends = sending == Sending::Nothing || body.is_end_stream();
    finish_head(&mut parts.headers, parts.status, sending);
    let stream = respond.send_response(Response::from_parts(parts, ()), ends).ok()?;
    (!ends).then_some((stream, sending, body))
}

/// Removes what HTTP/2 does not have and adds `content-length` and `date`.
fn finish_head(headers: &mut HeaderMap, status: StatusCode, sending: Sending) {
    hygiene::remove_connection_specific(headers);
    match sending {
        Sending::Length(length) if 0 < length => {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        Sending::Nothing if status == StatusCode::NO_CONTENT => {
            headers.remove(header::CONTENT_LENGTH);
        }
        _ => {}
    }
    if !headers.contains_key(header::DATE)
        && let Ok(date) = HeaderValue::from_maybe_shared(date())
    {
        headers.insert(header::DATE, date);
    }
}

/// An answer whose head has been sent.
pub(super) struct Answer<'a, J> {
    stream: SendStream<Bytes>,
    id: u32,
    remainder: Remainder,
    stall: Stall,
    connection: &'a Connection<J>,
    queued: &'a Queued,
    /// What is being sent. (What a future is given it holds twice.)
    data: Bytes,
    /// The room that has been taken for what is not sent yet, in bytes.
    ahead: usize,
}

// === impl Answer ===

impl<'a, J: Journey> Answer<'a, J> {
    fn new(
        stream: SendStream<Bytes>,
        sending: Sending,
        connection: &'a Connection<J>,
        queued: &'a Queued,
    ) -> Self {
        let id = stream.stream_id().as_u32();
        let (remainder, stall) = (sending.remainder(), Stall::new());
        let (data, ahead) = (Bytes::new(), 0);
        Self { stream, id, remainder, stall, connection, queued, data, ahead }
    }

    /// Tells the client of a failure, and gives back what the stream has queued.
    fn end(mut self, ended: Result<(), CutShort>) {
        let Err(cut) = ended else { return };
        match cut {
            CutShort::Gone => {}
            CutShort::Reset(reason) => self.stream.send_reset(reason),
            CutShort::Panicked => {
                self.connection.journey.refused(&Refusal::Panicked, &self.connection.info);
                self.stream.send_reset(Reason::INTERNAL_ERROR);
            }
        }
        self.queued.forget(self.id);
    }

    async fn send(&mut self, body: &mut Body) -> Result<(), CutShort> {
        loop {
            let frame = self.next_frame(body).await?;
            let Some(ends) = self.begin(frame, body)? else { return Ok(()) };
            self.send_whole(ends, Some(body)).await?;
            if ends {
                return Ok(());
            }
        }
    }

    /// Ends the answer if the body has ended; otherwise says whether its data, which are to be sent,
    /// are its last.
    fn begin(
        &mut self,
        frame: Option<Frame<Bytes>>,
        body: &Body,
    ) -> Result<Option<bool>, CutShort> {
        match frame.map(Frame::into_data) {
            Some(Ok(data)) => {
                self.remainder.take(data.len())?;
                let ends = body.is_end_stream();
                if ends {
                    self.remainder.end()?;
                }
                self.data = data;
                return Ok(Some(ends));
            }
            Some(Err(frame)) => {
                self.give_ahead();
                self.remainder.end()?;
                let mut trailers = frame.into_trailers().unwrap_or_default();
                hygiene::remove_forbidden_trailers(&mut trailers);
                self.stream.send_trailers(trailers)?;
            }
            None => {
                self.give_ahead();
                self.remainder.end()?;
                self.stream.send_data(Bytes::new(), true)?;
            }
        }
        Ok(None)
    }

    /// The next frame of the body, unless the client resets the stream first. What the client does
    /// not take stays with the endpoint: nothing is read for which there is no room.
    ///
    /// A full connection holds back everything; a stream's closed window only what is sure to be
    /// data, for the end of a body and its trailers need no window.
    async fn next_frame(&mut self, body: &mut Body) -> Result<Option<Frame<Bytes>>, CutShort> {
        if 0 < body.size_hint().lower() {
            self.stream.reserve_capacity(1);
            self.capacity(&mut Some(&mut *body)).await?;
        }
        let limit = self.connection.limits.write_stall;
        let Self { stream, stall, queued, id, ahead, .. } = self;
        loop {
            let mut freed = pin!(queued.freed());
            // Registered before the look, so that no room given back falls between the two.
            freed.as_mut().enable();
            let polled = poll_fn(|cx| {
                let Some(room) = queued.take_whole(*id, AHEAD_BYTES) else {
                    return match freed.as_mut().poll(cx) {
                        Poll::Ready(()) => Poll::Ready(Ok(None)),
                        Poll::Pending => {
                            hold(&mut Some(&mut *body), cx)?;
                            poll_cut(stream, stall, cx, limit).map(Err)
                        }
                    };
                };
                stall.progress();
                match poll_isolated(|| Pin::new(&mut *body).poll_frame(cx)) {
                    Poll::Ready(frame) => {
                        *ahead = room;
                        Poll::Ready(frame.map(Some).map_err(|Panicked| CutShort::Panicked))
                    }
                    Poll::Pending => {
                        queued.give(*id, room);
                        stream.poll_reset(cx).map(|_| Err(CutShort::Gone))
                    }
                }
            });
            if let Some(frame) = polled.await? {
                return frame.transpose().map_err(|_| CutShort::Reset(Reason::INTERNAL_ERROR));
            }
        }
    }

    /// Gives back the room that what was read has not needed.
    fn give_ahead(&mut self) {
        self.queued.give(self.id, std::mem::take(&mut self.ahead));
    }

    /// Sends data as [`Self::send_whole`] does.
    pub(super) fn send_data(
        &mut self,
        data: Bytes,
        ends: bool,
    ) -> impl Future<Output = Result<(), CutShort>> {
        self.data = data;
        self.send_whole(ends, None)
    }

    /// Sends its data as the client's window, and the bounds on what the stream and the connection
    /// may queue, allow. While it waits, `rest`, where the data are from, holds what arrives.
    async fn send_whole(
        &mut self,
        ends: bool,
        mut rest: Option<&mut Body>,
    ) -> Result<(), CutShort> {
        if self.data.is_empty() {
            self.give_ahead();
            return if ends { Ok(self.stream.send_data(Bytes::new(), true)?) } else { Ok(()) };
        }
        let mut copied = false;
        while !self.data.is_empty() {
            self.stream.reserve_capacity(self.data.len().min(PIECE_BYTES_MAX));
            if self.stream.capacity() == 0 {
                self.give_ahead(); // A stream whose client reads nothing of it is in nobody's way.
                if !std::mem::replace(&mut copied, true) {
                    // Nor is the buffer that it is a part of.
                    self.data = Bytes::copy_from_slice(&self.data);
                }
            }
            let wanted = self.capacity(&mut rest).await?.min(self.data.len());
            let room = match self.ahead.min(wanted) {
                0 => self.room(wanted).await?,
                ahead => ahead,
            };
            self.ahead = self.ahead.saturating_sub(room);
            let mut piece = self.data.split_to(room);
            if !copied && self.queued.is_crowded() {
                // It may wait for long, and the buffer that it is a part of with it.
                piece = Bytes::copy_from_slice(&piece);
            }
            self.stream.send_data(piece, ends && self.data.is_empty())?;
        }
        self.give_ahead();
        Ok(())
    }

    /// How much may be sent, once that is anything.
    async fn capacity(&mut self, rest: &mut Option<&mut Body>) -> Result<usize, CutShort> {
        let limit = self.connection.limits.write_stall;
        let Self { stream, stall, .. } = self;
        poll_fn(|cx| {
            loop {
                let capacity = stream.capacity();
                if 0 < capacity {
                    stall.progress();
                    return Poll::Ready(Ok(capacity));
                }
                match stream.poll_capacity(cx) {
                    Poll::Ready(Some(Ok(_))) => {}
                    Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(Err(CutShort::Gone)),
                    Poll::Pending => break,
                }
            }
            hold(rest, cx)?;
            ready!(stall.poll_expired(cx, limit));
            Poll::Ready(Err(CutShort::Reset(Reason::CANCEL)))
        })
        .await
    }

    /// Takes up to `wanted` bytes of the connection's room, once there is any.
    async fn room(&mut self, wanted: usize) -> Result<usize, CutShort> {
        let limit = self.connection.limits.write_stall;
        let Self { stream, stall, queued, id, .. } = self;
        loop {
            let mut freed = pin!(queued.freed());
            // Registered before the look, so that no room given back falls between the two.
            freed.as_mut().enable();
            let room = queued.take(*id, wanted);
            if 0 < room {
                stall.progress();
                return Ok(room);
            }
            poll_fn(|cx| match freed.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(Ok(())),
                Poll::Pending => poll_cut(stream, stall, cx, limit).map(Err),
            })
            .await?;
        }
    }
}

/// Has a body that cannot be read now hold what it has.
fn hold(rest: &mut Option<&mut Body>, cx: &mut Context<'_>) -> Result<(), CutShort> {
    let Some(body) = rest else { return Ok(()) };
    let held = poll_isolated(|| {
        Pin::new(&mut **body).hold(cx);
        Poll::Ready(())
    });
    match held {
        Poll::Ready(Err(Panicked)) => Err(CutShort::Panicked),
        _ => Ok(()),
    }
}

/// Ready when a stream that waits must wait no more: its client has reset it, or stalls.
fn poll_cut(
    stream: &mut SendStream<Bytes>,
    stall: &mut Stall,
    cx: &mut Context<'_>,
    limit: Duration,
) -> Poll<CutShort> {
    if stream.poll_reset(cx).is_ready() {
        return Poll::Ready(CutShort::Gone);
    }
    stall.poll_expired(cx, limit).map(|()| CutShort::Reset(Reason::CANCEL))
}
