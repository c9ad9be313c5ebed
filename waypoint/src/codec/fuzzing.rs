//! What must hold for every input: the oracles of the fuzz targets in `waypoint/fuzz`.
//!
//! They look at what only this crate may see, so they stand here and not in the fuzz crate. They are
//! compiled for tests, which run them over the committed corpora, and for fuzzing (`--cfg fuzzing`),
//! where the fuzz crate compiles the codec's own sources; never into the proxy.
//!
//! Each oracle takes any bytes, and panics when something that must hold does not.

mod path;

pub use self::path::path;
pub use super::{
    http1::fuzzing::{answer, chunks, request_head},
    http2::fuzzing::frames,
};

/// Inputs up to this length, in bytes, are also cut in two at every position.
const CUT_EVERYWHERE_BYTES_MAX: usize = 128;

/// Inputs up to this length, in bytes, also come byte by byte.
const SINGLY_BYTES_MAX: usize = 4 * 1024;

/// The same bytes in pieces: what is read may arrive in any of these ways.
pub(super) fn cuttings(bytes: &[u8]) -> Vec<Vec<&[u8]>> {
    let mut all = vec![vec![bytes], uneven(bytes)];
    if bytes.len() <= SINGLY_BYTES_MAX {
        all.push(bytes.chunks(1).collect());
    }
    if bytes.len() <= CUT_EVERYWHERE_BYTES_MAX {
        all.extend((1..bytes.len()).map(|at| vec![&bytes[..at], &bytes[at..]]));
    }
    all
}

/// In pieces whose lengths follow from the bytes themselves, so that a failure can be repeated.
fn uneven(bytes: &[u8]) -> Vec<&[u8]> {
    let mut dice = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let (mut rest, mut pieces) = (bytes, Vec::new());
    while !rest.is_empty() {
        dice = dice.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
        let length = usize::from((dice >> 56) as u8 % 32 + 1).min(rest.len());
        let (piece, left) = rest.split_at(length);
        pieces.push(piece);
        rest = left;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Gives every input that is kept for a target to its oracle.
    fn hold(target: &str, oracle: impl Fn(&[u8])) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
        let mut inputs = 0;
        for entry in std::fs::read_dir(&folder).expect("the corpus") {
            let path = entry.expect("an entry").path();
            // A failure names the input: `cargo fuzz run TARGET FILE` repeats it.
            println!("{}", path.display());
            oracle(&std::fs::read(&path).expect("an input"));
            inputs += 1;
        }
        assert!(20 < inputs, "{} has only {inputs} inputs", folder.display());
    }

    #[test]
    fn every_kept_request_head_is_read_one_way() {
        hold("request_head", request_head);
    }

    #[test]
    fn every_kept_chunked_body_is_read_one_way() {
        hold("chunks", chunks);
    }

    #[test]
    fn every_kept_answer_is_read_one_way() {
        hold("answer", answer);
    }

    #[test]
    fn every_kept_run_of_frames_is_counted_one_way() {
        hold("frames", frames);
    }

    #[test]
    fn every_kept_path_has_one_spelling() {
        hold("path", path);
    }
}
