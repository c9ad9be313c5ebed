//! What is refused, removed and normalised before anyone else sees a request.
//!
//! Every check is a small pure function that gives a [`Refusal`]; each file has the table of its
//! cases beside it. The rule behind all of them: if two parsers could read it two ways, it does not
//! pass, and what passes has one spelling.

mod forwards;
mod framing;
mod head;
mod headers;
mod host;
mod path;
mod refusal;
mod target;

pub use self::{
    forwards::{count_hop, ends_here},
    framing::unite_content_lengths,
    headers::remove_connection_specific,
    host::authority,
    path::{EncodedSlashes, normalise_path},
    refusal::Refusal,
};
pub(super) use self::{
    framing::{
        CHUNK_LINE_BYTES_MAX, Framing, chunk_line, content_length, request_framing,
        transfer_encoding,
    },
    head::{HeadLimits, HeadScan, diagnose, field_name, field_value, whole_lines},
    headers::{
        expects_continue, is_connection_specific, is_forbidden_trailer, join_cookies,
        refuse_connection_specific, remove_forbidden_trailers, says_close, take_hop,
        trailer_fields,
    },
    host::{authority_of, host_field},
    target::{request_uri, target, to_authority, to_path},
};

/// The most fields that any configuration may allow in one head.
pub const FIELDS_CEILING: usize = 256;
