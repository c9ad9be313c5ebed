//! Answers of endpoints.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use super::{Read, Script, block_on};
use crate::codec::{
    fuzzing::cuttings,
    http1::client::fuzzing::{Heard, hear},
    hygiene,
};

/// Reads an answer from bytes; the first byte says whether the request was HEAD.
///
/// # Panics
///
/// If what is heard depends on how the bytes arrive, or if hyper finds another status, header, body
/// or trailer in an answer that is whole.
pub fn answer(bytes: &[u8]) {
    let Some((first, bytes)) = bytes.split_first() else { return };
    let headless = first & 1 == 1;
    let text = bytes.escape_ascii();
    let mut heard = cuttings(bytes).into_iter().map(|pieces| hear(&pieces, headless));
    let first = heard.next().expect("at least one cutting");
    for other in heard {
        assert_eq!(other, first, "{text}");
    }
    let Ok(Heard { status, headers, body, trailers, stays, taken }) = first else { return };
    assert!(!stays || taken == bytes.len(), "what is left would answer the next request: {text}");
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return;
    }
    let theirs = as_client(bytes.to_vec(), headless);
    let theirs = theirs.unwrap_or_else(|error| panic!("hyper refuses {text}: {error:?}"));
    assert_eq!(theirs.head.status(), status, "{text}");
    assert_eq!(one_length(theirs.head.headers()), headers, "{text}");
    assert_eq!(theirs.body, body, "{text}");
    let mut theirs = theirs.trailers;
    hygiene::remove_forbidden_trailers(&mut theirs);
    assert_eq!(theirs, trailers, "{text}");
}

/// The answer that hyper reads from bytes.
fn as_client(bytes: Vec<u8>, headless: bool) -> hyper::Result<Read<Response<()>>> {
    let method = if headless { Method::HEAD } else { Method::GET };
    let request = Request::builder().method(method).uri("/").header(header::HOST, "a");
    let request = request.body(Empty::<Bytes>::new()).expect("a request");
    block_on(async {
        let peer = Script { bytes: bytes.into(), waits: true };
        // Its own bound is 100 fields.
        let mut builder = http1::Builder::new();
        builder.max_headers(hygiene::FIELDS_CEILING);
        let (mut sender, connection) = builder.handshake(TokioIo::new(peer)).await?;
        let asking = async {
            let (parts, body) = sender.send_request(request).await?.into_parts();
            let whole = body.collect().await?;
            let trailers = whole.trailers().cloned().unwrap_or_default();
            let body = whole.to_bytes().to_vec();
            Ok(Read { head: Response::from_parts(parts, ()), body, trailers })
        };
        // The sender says how it went; the connection may fail behind a whole answer.
        let (read, _) = tokio::join!(asking, connection);
        read
    })
}

/// The fields with one length, as we leave them.
fn one_length(fields: &HeaderMap) -> HeaderMap {
    let mut fields = fields.clone();
    hygiene::unite_content_lengths(&mut fields).expect("lengths that do not differ");
    fields
}
