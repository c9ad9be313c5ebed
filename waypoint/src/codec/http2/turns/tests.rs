use std::task::Waker;

use super::super::frames::{CONTINUATION, END_HEADERS, HEADERS, WINDOW_UPDATE};
use super::*;

fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).expect("short");
    [&[0, 0, length, kind, flags, 0, 0, 0, 1], payload].concat()
}

/// The reads until the end of the bytes; an empty one where a reader is to come again.
fn reads(bytes: &[u8], at_a_time: usize) -> Vec<Vec<u8>> {
    let cx = &mut Context::from_waker(Waker::noop());
    let (mut turns, mut reads) = (Turns::of_server(bytes), Vec::new());
    loop {
        let mut buffer = vec![0; at_a_time];
        let mut buffer = ReadBuf::new(&mut buffer);
        match Pin::new(&mut turns).poll_read(cx, &mut buffer) {
            Poll::Ready(Ok(())) if buffer.filled().is_empty() => return reads,
            Poll::Ready(read) => read.expect("bytes in memory"),
            Poll::Pending => {}
        }
        reads.push(buffer.filled().to_vec());
    }
}

/// What is read between two times that a reader is to come again.
fn turns(bytes: &[u8], at_a_time: usize) -> Vec<Vec<u8>> {
    let reads = reads(bytes, at_a_time);
    reads.split(Vec::is_empty).map(<[_]>::concat).collect()
}

#[test]
fn a_turn_ends_behind_eight_heads_or_four_times_as_many_frames_of_data() {
    let (head, data) = (frame(HEADERS, END_HEADERS, b"head"), frame(DATA, 0, b"data"));
    let long = [frame(HEADERS, 0, b"begins"), frame(CONTINUATION, END_HEADERS, b"ends")].concat();
    let update = frame(WINDOW_UPDATE, 0, &[0, 0, 0, 1]);
    let mixed = [head.repeat(2), long, data.repeat(19), update, head.clone()].concat();
    let all = [mixed, head.repeat(8), data.repeat(32), data];
    for at_a_time in [1, 7, 10_000] {
        assert_eq!(turns(&all.concat(), at_a_time), all, "{at_a_time}");
    }
}

#[test]
fn all_bytes_come_in_order_however_they_are_read() {
    let frames = [frame(HEADERS, END_HEADERS, b"a head"), frame(0, 0, b"data")].concat();
    let bytes = frames.repeat(30);
    for at_a_time in 1..bytes.len() + 1 {
        assert_eq!(reads(&bytes, at_a_time).concat(), bytes, "{at_a_time}");
    }
}
