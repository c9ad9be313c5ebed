//! What must hold of the scanner of HTTP/2 frames for every input.

use tokio::time::Instant;

use super::{
    frames::{
        ACK, CONTINUATION, END_HEADERS, HEADERS, PING, PRIORITY, RST_STREAM, SETTINGS,
        WINDOW_UPDATE,
    },
    scanner::Scanner,
};
use crate::codec::{HTTP2_PREFACE, Refusal, fuzzing::cuttings};

/// Scans frames behind the preface and its SETTINGS, all at one time.
///
/// # Panics
///
/// If the verdict or the state depends on how the bytes arrive, or if a plain walk over the frames
/// counts otherwise.
pub fn frames(bytes: &[u8]) {
    let bytes = [&HTTP2_PREFACE[..], &[0, 0, 0, SETTINGS, 0, 0, 0, 0, 0], bytes].concat();
    let now = Instant::now();
    let mut outcomes = cuttings(&bytes).into_iter().map(|pieces| scanned(&pieces, now));
    let first = outcomes.next().expect("at least one cutting");
    for outcome in outcomes {
        assert_eq!(outcome, first);
    }
    assert_eq!(first.map(|(_, in_head)| in_head), counted(&bytes[HTTP2_PREFACE.len()..]));
}

/// The scanner's state, and whether a head is open.
fn scanned(pieces: &[&[u8]], now: Instant) -> Result<(String, bool), Refusal> {
    let mut scanner = Scanner::new(now);
    pieces.iter().try_for_each(|piece| scanner.scan(piece, now))?;
    let in_head = scanner.in_head();
    Ok((format!("{scanner:?}"), in_head))
}

/// A frame whose length is counted from its header; its payload may be cut short.
struct Whole<'a> {
    kind: u8,
    flags: u8,
    payload: &'a [u8],
    is_cut: bool,
}

fn split(bytes: &[u8]) -> Option<(Whole<'_>, &[u8])> {
    let (header, rest) = bytes.split_at_checked(9)?;
    let length =
        usize::from(header[0]) << 16 | usize::from(header[1]) << 8 | usize::from(header[2]);
    let (payload, rest) = rest.split_at(length.min(rest.len()));
    let is_cut = payload.len() < length;
    Some((Whole { kind: header[3], flags: header[4], payload, is_cut }, rest))
}

/// Whether a head is open behind the last frame, or the first bound that is passed.
fn counted(mut bytes: &[u8]) -> Result<bool, Refusal> {
    let mut in_head = None;
    let [mut pings, mut settings, mut priorities, mut empty, mut resets, mut heads] = [0_u32; 6];
    while let Some((frame, rest)) = split(bytes) {
        bytes = rest;
        match (frame.kind, &mut in_head) {
            (HEADERS, _) => in_head = Some(0),
            (CONTINUATION, Some(8)) => return Err(Refusal::ContinuationFlood),
            (CONTINUATION, Some(continuations)) => *continuations += 1,
            _ => {}
        }
        if frame.is_cut {
            break;
        }
        let count = |count: &mut u32, most: u32, refusal| {
            *count += 1;
            if most < *count { Err(refusal) } else { Ok(()) }
        };
        let acknowledges = frame.flags & ACK != 0;
        match frame.kind {
            HEADERS => heads += 1,
            PING if !acknowledges => count(&mut pings, 100, Refusal::PingFlood)?,
            SETTINGS if !acknowledges => count(&mut settings, 50, Refusal::SettingsFlood)?,
            PRIORITY => count(&mut priorities, 1_000, Refusal::PriorityFlood)?,
            WINDOW_UPDATE if frame.payload.iter().all(|byte| *byte == 0) => {
                count(&mut empty, 100, Refusal::WindowUpdateFlood)?;
            }
            RST_STREAM => count(&mut resets, 100.max(heads / 2), Refusal::ResetFlood)?,
            _ => {}
        }
        if matches!(frame.kind, HEADERS | CONTINUATION) && frame.flags & END_HEADERS != 0 {
            in_head = None;
        }
    }
    Ok(in_head.is_some())
}
