//! How an answer's body is sent, on either protocol.

use http::{HeaderMap, Method, StatusCode, Version};
use http_body::Body as _;

use super::{Body, hygiene};

#[cfg(test)]
mod tests;

/// How an answer's body is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sending {
    /// The head is the whole answer.
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

    pub(super) fn remainder(self) -> Remainder {
        Remainder(match self {
            Self::Nothing => Some(0),
            Self::Length(length) => Some(length),
            Self::Open | Self::UntilClose => None,
        })
    }
}

fn may_have_body(status: StatusCode) -> bool {
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
