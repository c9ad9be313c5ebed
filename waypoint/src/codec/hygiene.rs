//! What is refused, removed and normalised before anyone else sees a request.
//!
//! Every check is a small pure function that gives a [`Refusal`]; each file has the table of its
//! cases beside it. The rule behind all of them: if two parsers could read it two ways, it does not
//! pass, and what passes has one spelling.

mod refusal;

pub use self::refusal::Refusal;

/// The most fields that any configuration may allow in one head.
pub const FIELDS_CEILING: usize = 256;

/// What becomes of `%2F` and `%5C` in a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EncodedSlashes {
    /// 400: an origin may decode them into path separators after policy has read the path.
    #[default]
    Refuse,
    /// Kept as they are, in upper case.
    Keep,
}
