use std::convert::Infallible;

use super::*;

fn frame(kind: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).expect("short");
    [&[0, 0, length, kind, END_HEADERS, 0, 0, 0, stream], payload].concat()
}

#[test]
fn the_same_frames_are_found_however_the_bytes_are_cut() {
    let bytes = [
        HTTP2_PREFACE.to_vec(),
        frame(SETTINGS, 0, b""),
        frame(DATA, 1, b"abc"),
        frame(RST_STREAM, 255, &[0; 4]),
    ]
    .concat();
    for size in 1..=bytes.len() {
        let (mut frames, mut begun, mut ended, mut payload) =
            (Frames::of_client(), Vec::new(), Vec::new(), Vec::new());
        for part in bytes.chunks(size) {
            let Ok(()) = frames.scan(part, |frame, part| {
                match part {
                    Part::Begin => begun.push((frame.kind, frame.flags, frame.stream)),
                    Part::Payload(piece) => payload.extend_from_slice(piece),
                    Part::End { .. } => ended.push((frame.kind, frame.flags, frame.stream)),
                }
                Ok::<_, Infallible>(())
            });
        }
        let want = [(SETTINGS, 4, 0), (DATA, 4, 1), (RST_STREAM, 4, 255)];
        assert_eq!(
            (&begun[..], &ended[..], &payload[..]),
            (&want[..], &want[..], &b"abc\0\0\0\0"[..])
        );
    }
}
