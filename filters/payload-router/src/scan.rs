//! What scanners of bodies answer.

/// A key's length in bytes, at most; a longer value decides nothing.
pub const KEY_BYTES_MAX: usize = 256;

/// What a scanner knows after so many bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scan {
    /// It needs more.
    More,
    /// The value.
    Found(String),
    /// There will be none.
    Missing(Why),
}

/// Why there is no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// No rule names anything that the request has.
    Absent,
    /// An object or array is there.
    NotScalar,
    /// The body is not of its form, or ends too early.
    Malformed,
    /// The body nests deeper than [`crate::json::DEPTH_MAX`].
    TooDeep,
    /// The value is longer than [`KEY_BYTES_MAX`].
    TooLong,
    /// The value cannot be a header's value.
    NotAHeaderValue,
    /// The bytes that may be read were not enough.
    BodyTooLarge,
}

impl Why {
    /// One sentence for the client; it repeats nothing of the request.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Absent => "the request does not tell where it belongs",
            Self::NotScalar => "the routing field is not a string, number or boolean",
            Self::Malformed => "the request's body is malformed",
            Self::TooDeep => "the request's body is nested too deeply",
            Self::TooLong => "the routing field is too long",
            Self::NotAHeaderValue => "the routing field has characters that a header cannot have",
            Self::BodyTooLarge => {
                "the routing field is not in the part of the body that may be read"
            }
        }
    }
}
