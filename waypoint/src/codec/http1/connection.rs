//! The loop of one connection: head, journey, answer, and what is left of the request.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::{Poll, ready},
    time::Duration,
};

use bytes::BytesMut;
use http::{Request, Response, StatusCode, Version};

use super::{
    answer::{self, Asked, CutShort},
    body::{Failed, RequestBody, Returned, Slot},
    decode::{Decoder, Piece},
    encode::{self, Afterwards},
    head::{self, Head},
    reader::{BODY_READ_BYTES, HEAD_READ_BYTES, Reader},
    tunnel,
    writer::Writer,
};
use crate::codec::{
    Body, Channel, Connection, Interim, Journey, Refusal, Socket, Tunnel, TunnelIo, Upgrade,
    hygiene::{Framing, HeadLimits, HeadScan},
    idle::Stall,
    isolate::{Panicked, poll_isolated},
    sending::Sending,
};
use crate::lanes;

/// How much of a request's body that nobody read is read and thrown away, in bytes, so that the
/// connection can go on. Past it: closed.
const UNREAD_BODY_BYTES_MAX: usize = 64 * 1024;

/// How long a connection is idle before it gives its buffers back.
const RESTS_AFTER: Duration = Duration::from_secs(1);

/// How long throwing away may take, and the wait for a body that the journey still holds after its
/// answer. Past it: closed.
const UNREAD_BODY_WAIT: Duration = Duration::from_secs(1);

/// One connection of HTTP/1.
struct Http1<J> {
    connection: Connection<J>,
    socket: Socket,
    /// `None` while a request's body has it.
    reader: Option<Reader>,
    /// Where that body puts it.
    slot: Option<Arc<Slot>>,
    interim: Interim,
    writer: Writer,
    stall: Stall,
}

/// What came of waiting for a request.
enum Arrival {
    Request(Box<Head>),
    Refused(Refusal),
    /// The client left, was idle for too long, or we are closing.
    Nothing,
}

/// What follows an exchange.
enum Next {
    Again,
    /// Says farewell first.
    Close,
    /// At once: nobody is there, or the answer was cut short.
    Cut,
    Tunnel(Box<dyn TunnelIo>, Body),
}

/// Serves a connection; `early` is what was read of it already.
pub(in crate::codec) async fn serve<J: Journey>(
    io: Channel,
    early: BytesMut,
    connection: Connection<J>,
) {
    let http1 = Http1 {
        socket: io.socket(),
        reader: Some(Reader { io: io.clone(), buffer: early }),
        writer: Writer::new(io, connection.limits.write_stall),
        slot: None,
        interim: Interim::default(),
        stall: Stall::new(),
        connection,
    };
    http1.run().await;
}

// === impl Http1 ===

impl<J: Journey> Http1<J> {
    async fn run(mut self) {
        loop {
            let next = match self.next_head().await {
                // In a box: an idle connection does not hold what only an exchange needs.
                Arrival::Request(head) => Box::pin(self.exchange(head)).await,
                Arrival::Refused(refusal) => {
                    self.connection.journey.refused(&refusal, &self.connection.info);
                    self.refuse(refusal).await
                }
                Arrival::Nothing => return,
            };
            match next {
                Next::Again => {
                    lanes::even_out().await;
                    self.settle_here();
                }
                Next::Close => return self.linger().await,
                Next::Cut => return,
                Next::Tunnel(upstream, body) => {
                    self.settle_here();
                    let Self { reader: Some(reader), writer, .. } = self else { return };
                    return tunnel::run(reader, writer, upstream, body).await;
                }
            }
        }
    }

    /// Goes on where it runs now, if its socket's readiness is heard of elsewhere.
    fn settle_here(&mut self) {
        let Some(reader) = &mut self.reader else { return };
        if reader.io.settle_here() {
            self.writer.io = reader.io.clone();
            self.socket = reader.io.socket();
            self.stall = Stall::new();
        }
    }

    /// Waits for a whole head and reads it.
    async fn next_head(&mut self) -> Arrival {
        let encrypted = self.connection.info.tls.is_some();
        let mut scan = HeadScan::default();
        self.stall.progress();
        loop {
            let Some(reader) = &mut self.reader else { return Arrival::Nothing };
            let limits = HeadLimits::from(&self.connection.limits);
            let bounds = match scan.advance(&reader.buffer, &limits) {
                Ok(bounds) => bounds,
                Err(refusal) => return Arrival::Refused(refusal),
            };
            if let Some(bounds) = bounds {
                let head = reader.buffer.split_to(bounds.end).freeze().slice(bounds.begin..);
                return match head::parse(&head, encrypted, &self.connection.limits) {
                    Ok(head) => Arrival::Request(Box::new(head)),
                    Err(refusal) => Arrival::Refused(refusal),
                };
            }
            if let Err(arrival) = self.more_of_head().await {
                return arrival;
            }
        }
    }

    /// Reads once, within the time for a head or, before its first byte, the time for being idle.
    async fn more_of_head(&mut self) -> Result<(), Arrival> {
        let Self { connection, reader: Some(reader), writer, stall, .. } = self else {
            return Err(Arrival::Nothing);
        };
        let idle = reader.buffer.is_empty();
        let limits = &connection.limits;
        // Two waits: memory is given back after the first.
        let rests = RESTS_AFTER.min(limits.idle_timeout);
        let mut limit = if idle { rests } else { limits.head_timeout };
        let mut rested = false;
        let mut closing = pin!(connection.closing.closing());
        poll_fn(|cx| {
            if let Poll::Ready(read) = reader.poll_fill(cx, HEAD_READ_BYTES) {
                if idle {
                    stall.progress();
                }
                return Poll::Ready(match read {
                    Ok(0) | Err(_) => Err(Arrival::Nothing),
                    Ok(_) => Ok(()),
                });
            }
            if idle && closing.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(Arrival::Nothing));
            }
            // A head's time runs from its first byte on: more bytes are no progress.
            ready!(stall.poll_expired(cx, limit));
            if !idle {
                return Poll::Ready(Err(Arrival::Refused(Refusal::HeadTimeout)));
            }
            if rested {
                return Poll::Ready(Err(Arrival::Nothing));
            }
            reader.rest();
            writer.rest();
            rested = true;
            limit = limits.idle_timeout.saturating_sub(rests);
            stall.progress();
            stall.poll_expired(cx, limit).map(|()| Err(Arrival::Nothing))
        })
        .await
    }

    async fn exchange(&mut self, head: Box<Head>) -> Next {
        let asked =
            Asked { method: head.request.method().clone(), version: head.request.version() };
        let (stays, upgrade) = (head.stays, head.upgrade);
        let request = self.with_body(*head);
        let response = match self.call(request).await {
            None => return Next::Cut,
            Some(Err(Panicked)) => {
                self.panicked();
                return self.refuse(Refusal::Panicked).await;
            }
            Some(Ok(response)) => response,
        };
        let failed = self.slot.as_deref().and_then(Slot::failed);
        if let Some(Failed::Malformed(refusal)) = failed {
            // Whatever the journey made of it: what cannot be read is answered with 400.
            return self.refuse(refusal).await;
        }
        if response.status().is_informational() {
            return self.switch(response, upgrade).await;
        }
        let closes = !stays || failed.is_some() || self.connection.closing.is_closing();
        let afterwards = match (closes, asked.version) {
            (true, _) => Afterwards::Closes,
            (false, Version::HTTP_10) => Afterwards::StaysAsAsked,
            (false, _) => Afterwards::Stays,
        };
        match answer::send(&mut self.writer, &self.socket, response, &asked, afterwards).await {
            Err(cut) => {
                if cut == CutShort::Panicked {
                    self.panicked();
                }
                Next::Cut
            }
            Ok(Afterwards::Closes) => Next::Close,
            Ok(_) => self.recover().await,
        }
    }

    /// Gives the reading side to the request, if it has a body.
    fn with_body(&mut self, head: Head) -> Box<Request<Body>> {
        let reader = match head.framing {
            Framing::None => None,
            Framing::Length(_) | Framing::Chunked => self.reader.take(),
        };
        let Some(reader) = reader else {
            return Box::new(head.request.map(|()| Body::empty()));
        };
        let slot = self.slot.insert(Arc::new(Slot::new(head.expects_continue)));
        let idle_limit = self.connection.limits.body_idle_timeout;
        let decoder = Decoder::new(head.framing);
        let body = RequestBody::new(reader, decoder, slot.clone(), idle_limit);
        Box::new(head.request.map(|()| Body::http1(body)))
    }

    fn panicked(&self) {
        self.connection.journey.refused(&Refusal::Panicked, &self.connection.info);
    }

    /// The journey's answer; `None` if the client was reset, and the journey was dropped.
    async fn call(
        &mut self,
        request: Box<Request<Body>>,
    ) -> Option<Result<Response<Body>, Panicked>> {
        let Self { connection, socket, writer, slot, interim, .. } = self;
        let version = request.version();
        let mut call = pin!(connection.journey.call(request, &connection.info, interim));
        let mut failed = pin!(socket.failed());
        poll_fn(|cx| {
            let answered = poll_isolated(|| call.as_mut().poll(cx));
            while let Some(head) = interim.take(version) {
                encode::interim(writer.gathered(), &head);
            }
            if let Poll::Ready(answer) = answered {
                return Poll::Ready(Some(answer));
            }
            if let Some(slot) = slot
                && slot.poll_wanted(cx).is_ready()
            {
                writer.gathered().extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
            }
            if let Poll::Ready(Err(_)) = writer.poll_flush(cx) {
                return Poll::Ready(None);
            }
            failed.as_mut().poll(cx).map(|()| None)
        })
        .await
    }

    /// Sends a 101 and gives the connection to the tunnel.
    async fn switch(&mut self, response: Response<Body>, asked: Option<Upgrade>) -> Next {
        let (parts, body) = response.into_parts();
        let tunnel = parts.extensions.get::<Tunnel>().and_then(Tunnel::take);
        let (StatusCode::SWITCHING_PROTOCOLS, Some(upstream), Some(Upgrade::WebSocket)) =
            (parts.status, tunnel, asked)
        else {
            return self.refuse(Refusal::SwitchUnasked).await;
        };
        let out = self.writer.gathered();
        encode::head(out, parts.status, &parts.headers, Sending::Nothing, Afterwards::Switches);
        match self.writer.flush().await {
            Ok(()) => Next::Tunnel(upstream, body),
            Err(_) => Next::Cut,
        }
    }

    async fn refuse(&mut self, refusal: Refusal) -> Next {
        encode::refusal(self.writer.gathered(), refusal);
        match self.writer.flush().await {
            Ok(()) => Next::Close,
            Err(_) => Next::Cut,
        }
    }

    /// Gets the reading side back and past the request's body, so that the next head can be read.
    async fn recover(&mut self) -> Next {
        let Some(slot) = self.slot.take() else { return Next::Again };
        let Ok(returned) =
            tokio::time::timeout(UNREAD_BODY_WAIT, poll_fn(|cx| slot.poll_returned(cx))).await
        else {
            return Next::Cut;
        };
        let Returned { reader, mut decoder, failed } = returned;
        let reader = self.reader.insert(reader);
        if decoder == Decoder::Done {
            return Next::Again;
        }
        // A client that was never told to go on may send the body or the next head.
        if failed.is_some() || slot.awaits_continue() {
            return Next::Close;
        }
        match tokio::time::timeout(UNREAD_BODY_WAIT, discard(reader, &mut decoder)).await {
            Ok(true) => Next::Again,
            _ => Next::Close,
        }
    }

    /// Ends our side and lets the client read the answer before the connection goes.
    async fn linger(mut self) {
        if self.writer.shutdown().await.is_err() {
            return;
        }
        let returned = || self.slot.and_then(|slot| slot.take()).map(|returned| returned.reader);
        // Whoever still holds the request's body reads it.
        if self.reader.or_else(returned).is_some() {
            self.socket.linger().await;
        }
    }
}

/// Reads a body to its end and throws it away; `false` if it is too long or malformed.
async fn discard(reader: &mut Reader, decoder: &mut Decoder) -> bool {
    let mut left = UNREAD_BODY_BYTES_MAX;
    loop {
        match decoder.decode(&mut reader.buffer) {
            Ok(Piece::End | Piece::Trailers(_)) => return true,
            Ok(Piece::Data(data)) if data.len() <= left => left -= data.len(),
            Ok(Piece::Data(_)) | Err(_) => return false,
            Ok(Piece::More) => match poll_fn(|cx| reader.poll_fill(cx, BODY_READ_BYTES)).await {
                Ok(0) | Err(_) => return false,
                Ok(_) => {}
            },
        }
    }
}
