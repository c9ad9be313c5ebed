use std::collections::VecDeque;

use super::*;
use crate::codec::{HTTP2_PREFACE, frames::END_HEADERS};

const DATA: u8 = 0;

/// Takes so many bytes at a time.
#[derive(Default)]
struct Peer {
    at_a_time: usize,
    taken: Vec<u8>,
}

impl AsyncWrite for Peer {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let count = bytes.len().min(self.at_a_time);
        self.taken.extend_from_slice(&bytes[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let all: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        self.as_mut().poll_write(cx, &all)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

fn widened(stream: u32, by: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &by.to_be_bytes())
}

fn settings(window: u32) -> Vec<u8> {
    let mut payload = vec![0, 3, 0, 0, 0, 100, 0, 4];
    payload.extend(window.to_be_bytes());
    payload.extend([0, 2, 0, 0, 0, 0]);
    frame(SETTINGS, 0, 0, &payload)
}

/// Writes as `h2` does: each piece at once, its last part from a slice of its own.
fn write(windowed: &mut Windowed<Peer>, mut piece: &[u8], last: usize) {
    let cx = &mut Context::from_waker(Waker::noop());
    while !piece.is_empty() {
        let (head, payload) = piece.split_at(piece.len().saturating_sub(last));
        let slices = [IoSlice::new(head), IoSlice::new(payload)];
        let Poll::Ready(Ok(written)) = Pin::new(&mut *windowed).poll_write_vectored(cx, &slices)
        else {
            panic!("a write waits or fails");
        };
        piece = &piece[written..];
    }
    assert!(Pin::new(windowed).poll_flush(cx).is_ready());
}

/// What is written together, how much of it is a payload of its own, and what is announced first.
type Piece<'a> = (Vec<u8>, usize, &'a [(u32, usize)]);

#[test]
fn ours_replaces_what_h2_announces_however_the_peer_takes_it() {
    let head = frame(HEADERS, 0, 1, b"begins");
    let rest_of_head = frame(CONTINUATION, END_HEADERS, 1, b"ends");
    let next_head = frame(HEADERS, END_HEADERS | 1, 3, b"whole");
    let data = frame(DATA, 1, 1, &[7; 50]);
    let acknowledged = frame(SETTINGS, ACK, 0, b"");
    let pieces: [Piece<'_>; 6] = [
        (HTTP2_PREFACE.to_vec(), 0, &[]),
        ([settings(BELIEVED_WINDOW_BYTES), widened(0, 99)].concat(), 0, &[(1, 500), (3, 7)]),
        ([acknowledged.clone(), head.clone()].concat(), 0, &[]),
        (rest_of_head.clone(), 0, &[]),
        ([widened(1, 5), next_head.clone(), widened(3, 6), widened(0, 8)].concat(), 0, &[]),
        ([widened(3, 6), data.clone()].concat(), 50, &[(1, 20), (5, 1), (1, 30)]),
    ];
    let mut preface = HTTP2_PREFACE.to_vec();
    preface.extend(settings(WINDOW_BYTES_MIN as u32));
    let expected = VecDeque::from([
        preface,
        widened(0, 99),
        acknowledged,
        head,
        rest_of_head,
        widened(1, 500),
        next_head,
        widened(3, 7),
        widened(0, 8),
        widened(1, 50),
        data,
    ]);
    for at_a_time in 1..200 {
        let (mut windowed, windows) = Windowed::new(Peer { at_a_time, ..Default::default() });
        for (piece, last, announced) in &pieces {
            for (stream, by) in *announced {
                windows.announce(*stream, *by);
            }
            write(&mut windowed, piece, *last);
        }
        let expected: Vec<u8> = expected.iter().flatten().copied().collect();
        assert_eq!(windowed.io.taken, expected, "{at_a_time}");
    }
}

#[test]
fn of_a_stream_that_is_over_nothing_is_announced() {
    let (mut windowed, windows) = Windowed::new(Peer { at_a_time: 100, ..Default::default() });
    write(&mut windowed, HTTP2_PREFACE, 0);
    let over = StreamWindow::open(Arc::clone(&windows), 1, None);
    let _runs = StreamWindow::open(Arc::clone(&windows), 3, None);
    drop(over);
    windowed.io.taken.clear();
    let heads = [1, 3].map(|stream| frame(HEADERS, END_HEADERS, stream, b"")).concat();
    write(&mut windowed, &heads, 0);
    let more = u32::try_from(WINDOW_BYTES_MAX - WINDOW_BYTES_MIN).expect("short");
    assert_eq!(windowed.io.taken, [heads, widened(3, more)].concat());
}
