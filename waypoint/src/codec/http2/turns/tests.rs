use std::task::Waker;

use super::super::frames::{CONTINUATION, END_HEADERS, HEADERS};
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

#[test]
fn a_read_ends_behind_eight_heads_and_the_next_one_comes_later() {
    let head = frame(HEADERS, END_HEADERS, b"head");
    let long = [frame(HEADERS, 0, b"begins"), frame(CONTINUATION, END_HEADERS, b"ends")].concat();
    let data = frame(0, 0, b"data");
    let first = [head.repeat(4), data.repeat(9), long, head.repeat(3)].concat();
    let second = [data.clone(), head.repeat(8)].concat();
    let third = [head, data].concat();
    let all = [first.clone(), second.clone(), third.clone()].concat();
    assert_eq!(reads(&all, 10_000), [first, vec![], second, vec![], third]);
}

#[test]
fn all_bytes_come_in_order_however_they_are_read() {
    let frames = [frame(HEADERS, END_HEADERS, b"a head"), frame(0, 0, b"data")].concat();
    let bytes = frames.repeat(30);
    for at_a_time in 1..bytes.len() + 1 {
        assert_eq!(reads(&bytes, at_a_time).concat(), bytes, "{at_a_time}");
    }
}
