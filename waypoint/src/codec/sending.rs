//! How a message's body is sent.

use http::{HeaderMap, Method, StatusCode, Version, header::CONTENT_LENGTH};
use http_body::Body as _;

use super::{Body, hygiene};

#[cfg(test)]
mod tests;

/// How a message's body is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sending {
    /// The head is the whole message.
    Nothing,
    Length(u64),
    /// The protocol marks the end.
    Open,
    /// To clients of HTTP/1.0, when the length is not known.
    UntilClose,
}

/// What may still be sent of a body of declared length.
#[derive(Clone, Copy, Debug)]
pub(super) struct Remainder(Option<u64>);

/// A body that is longer or shorter than its declared length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WrongLength;

// === impl Sending ===

impl Sending {
    /// Decides by what the answer is and by what is known of its body.
    pub(super) fn of(
        method: &Method,
        version: Version,
        status: StatusCode,
        headers: &HeaderMap,
        body: &Body,
    ) -> Self {
        if method == Method::HEAD || !may_have_body(status) {
            return Self::Nothing;
        }
        let declared = || hygiene::content_length(headers).ok().flatten();
        match body.size_hint().exact().or_else(declared) {
            Some(length) => Self::Length(length),
            None if version == Version::HTTP_10 => Self::UntilClose,
            None => Self::Open,
        }
    }

    /// Decides for a request to an endpoint. The length is the body's, whatever the head
    /// declares: a filter may have changed it.
    pub fn of_request(method: &Method, headers: &HeaderMap, body: &Body) -> Self {
        let length = if body.is_end_stream() { Some(0) } else { body.size_hint().exact() };
        match length {
            Some(0) if !expects_body(method) && !headers.contains_key(CONTENT_LENGTH) => {
                Self::Nothing
            }
            Some(length) => Self::Length(length),
            None => Self::Open,
        }
    }

    pub(super) fn remainder(self) -> Remainder {
        Remainder(match self {
            Self::Nothing => Some(0),
            Self::Length(length) => Some(length),
            Self::Open | Self::UntilClose => None,
        })
    }
}

/// Methods whose request says so when it has no body (RFC 9110, 8.6).
fn expects_body(method: &Method) -> bool {
    !matches!(
        *method,
        Method::GET | Method::HEAD | Method::DELETE | Method::OPTIONS | Method::TRACE
    )
}

/// Whether an answer with this status may have a body (RFC 9110, 6.4.1).
pub(super) fn may_have_body(status: StatusCode) -> bool {
    !status.is_informational()
        && status != StatusCode::NO_CONTENT
        && status != StatusCode::NOT_MODIFIED
}

// === impl Remainder ===

impl Remainder {
    /// Counts a piece that is about to be sent.
    pub(super) fn take(&mut self, bytes: usize) -> Result<(), WrongLength> {
        if let Some(left) = &mut self.0 {
            *left = left.checked_sub(bytes as u64).ok_or(WrongLength)?;
        }
        Ok(())
    }

    /// Passes if nothing is missing at the end.
    pub(super) fn end(self) -> Result<(), WrongLength> {
        if matches!(self.0, None | Some(0)) { Ok(()) } else { Err(WrongLength) }
    }
}
