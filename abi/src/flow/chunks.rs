//! Putting body bytes together, copying as little as can be.

use bytes::{Bytes, BytesMut};

/// Appends without copying what was accumulated before, if nobody else holds it.
pub(super) fn append(window: Bytes, chunk: Bytes) -> Bytes {
    if window.is_empty() {
        return chunk;
    }
    if chunk.is_empty() {
        return window;
    }
    let mut grown = match window.try_into_mut() {
        Ok(unique) => unique,
        Err(shared) => {
            let mut copy = BytesMut::with_capacity(2 * (shared.len() + chunk.len()));
            copy.extend_from_slice(&shared);
            copy
        }
    };
    grown.extend_from_slice(&chunk);
    grown.freeze()
}

pub(super) fn concat(mut parts: Vec<Bytes>) -> Bytes {
    parts.retain(|part| !part.is_empty());
    match parts.len() {
        0 => Bytes::new(),
        1 => parts.swap_remove(0),
        _ => {
            let mut all = BytesMut::with_capacity(parts.iter().map(Bytes::len).sum());
            for part in parts {
                all.extend_from_slice(&part);
            }
            all.freeze()
        }
    }
}
