//! From an answer's head to a response, and to where its body ends.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, Version, header};

use super::WireError;
use crate::codec::{
    http1::head::header_map,
    hygiene::{self, FIELDS_CEILING, Refusal},
    sending::may_have_body,
};

#[cfg(test)]
mod tests;

/// A head that has been read.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) response: Response<()>,
    pub(super) ends: Ends,
    /// The endpoint keeps the connection, and nothing about the answer's end is in doubt.
    pub(super) stays: bool,
}

/// Where an answer ends (RFC 9112, 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ends {
    Head,
    Length(u64),
    LastChunk,
    Connection,
}

/// Reads a whole head; `headless` is an answer to HEAD.
pub(super) fn parse(head: &Bytes, headless: bool) -> Result<Answer, WireError> {
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS_CEILING];
    let mut parsed = httparse::Response::new(&mut []);
    let status = httparse::ParserConfig::default()
        .parse_response_with_uninit_headers(&mut parsed, head, &mut fields)
        .map_err(|error| WireError::Malformed(error.into()))?;
    let (httparse::Status::Complete(_), Some(code), Some(minor)) =
        (status, parsed.code, parsed.version)
    else {
        return Err(WireError::Malformed("the head has no end".into()));
    };
    let status = StatusCode::from_u16(code).map_err(|error| WireError::Malformed(error.into()))?;
    let mut headers = header_map(head, parsed.headers)?;
    let version = if minor == 0 { Version::HTTP_10 } else { Version::HTTP_11 };
    let ends = ends(status, version, headless, &mut headers)?;
    let stays =
        version == Version::HTTP_11 && ends != Ends::Connection && !hygiene::says_close(&headers);
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok(Answer { response, ends, stays })
}

/// Decides where the body ends, and leaves one `content-length` or none. A length beside a transfer
/// coding, and a coding on HTTP/1.0, are ends for one reader and none for another (RFC 9112, 6.1 and
/// 6.3).
fn ends(
    status: StatusCode,
    version: Version,
    headless: bool,
    headers: &mut HeaderMap,
) -> Result<Ends, Refusal> {
    let length = hygiene::unite_content_lengths(headers)?;
    let coded = headers.contains_key(header::TRANSFER_ENCODING);
    match (coded, version, length) {
        (true, Version::HTTP_10, _) => return Err(Refusal::TransferEncodingOnHttp10),
        (true, _, Some(_)) => return Err(Refusal::ContentLengthWithTransferEncoding),
        (true, _, None) => hygiene::transfer_encoding(headers)?,
        (false, ..) => {}
    }
    let bodiless = headless || !may_have_body(status);
    Ok(match (bodiless, coded, length) {
        (true, ..) => Ends::Head,
        (false, true, _) => Ends::LastChunk,
        (false, false, Some(length)) => Ends::Length(length),
        (false, false, None) => Ends::Connection,
    })
}
