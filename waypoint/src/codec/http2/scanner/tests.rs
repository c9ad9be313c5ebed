use super::super::frames::END_HEADERS;
use super::*;
use crate::codec::HTTP2_PREFACE;
use tokio::time::advance;

fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let [_, high, middle, low] = u32::try_from(payload.len()).expect("short").to_be_bytes();
    [&[high, middle, low, kind, flags, 0, 0, 0, 1], payload].concat()
}

fn begun() -> Scanner {
    let mut scanner = Scanner::new(Instant::now());
    scanner.scan(HTTP2_PREFACE, Instant::now()).expect("only the preface");
    scanner.scan(&frame(SETTINGS, 0, &[]), Instant::now()).expect("the first frame");
    scanner
}

#[tokio::test(start_paused = true)]
async fn a_client_begins_with_settings() {
    for first in [frame(PING, 0, &[1; 8]), frame(SETTINGS, ACK, &[]), frame(0xfe, 0, &[])] {
        let mut scanner = Scanner::new(Instant::now());
        let scanned = scanner.scan(&[&HTTP2_PREFACE[..], &first].concat(), Instant::now());
        assert_eq!(scanned, Err(Refusal::PrefaceMalformed), "{first:?}");
    }
}

/// How many of one frame pass before the first that does not.
fn passing(scanner: &mut Scanner, bytes: &[u8], want: Refusal) -> u32 {
    let mut passed = 0;
    loop {
        match scanner.scan(bytes, Instant::now()) {
            Ok(()) => passed += 1,
            Err(refusal) => {
                assert_eq!(refusal, want);
                return passed;
            }
        }
        assert!(passed < 10_000, "no bound");
    }
}

#[tokio::test(start_paused = true)]
async fn each_kind_of_cheap_frame_is_bounded() {
    let cases = [
        (frame(PING, 0, &[1; 8]), PINGS_MAX, Refusal::PingFlood),
        // One has come.
        (frame(SETTINGS, 0, &[]), SETTINGS_MAX - 1, Refusal::SettingsFlood),
        (frame(PRIORITY, 0, &[0; 5]), PRIORITIES_MAX, Refusal::PriorityFlood),
        (frame(WINDOW_UPDATE, 0, &[0; 4]), EMPTY_WINDOW_UPDATES_MAX, Refusal::WindowUpdateFlood),
        (frame(RST_STREAM, 0, &[0, 0, 0, 8]), RESETS_MAX, Refusal::ResetFlood),
    ];
    for (bytes, limit, refusal) in cases {
        assert_eq!(passing(&mut begun(), &bytes, refusal), limit, "{refusal}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_client_must_send_is_not_counted() {
    let mut scanner = begun();
    for bytes in [
        frame(PING, ACK, &[0; 8]),
        frame(SETTINGS, ACK, &[]),
        frame(WINDOW_UPDATE, 0, &[0, 0, 1, 0]),
        frame(0, 0, &[0; 100]),
    ] {
        for _ in 0..2_000 {
            assert_eq!(scanner.scan(&bytes, Instant::now()), Ok(()));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_period_counts_from_zero() {
    let mut scanner = begun();
    let ping = frame(PING, 0, &[1; 8]);
    for _ in 0..PINGS_MAX {
        assert_eq!(scanner.scan(&ping, Instant::now()), Ok(()));
    }
    advance(PERIOD).await;
    assert_eq!(passing(&mut scanner, &ping, Refusal::PingFlood), PINGS_MAX);
}

#[tokio::test(start_paused = true)]
async fn a_busy_client_may_reset_half_of_its_streams() {
    let mut scanner = begun();
    let head = frame(HEADERS, END_HEADERS, b"x");
    let reset = frame(RST_STREAM, 0, &[0, 0, 0, 8]);
    for _ in 0..1_000 {
        assert_eq!(
            scanner.scan(&[head.clone(), head.clone(), reset.clone()].concat(), Instant::now()),
            Ok(())
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_is_open_until_its_last_frame_ends_and_has_few_frames() {
    let mut scanner = begun();
    let mut scan = |bytes: &[u8]| {
        // Byte by byte: frames do not arrive whole.
        let scanned = bytes.iter().try_for_each(|byte| scanner.scan(&[*byte], Instant::now()));
        (scanned, scanner.in_head())
    };
    assert_eq!(scan(&frame(HEADERS, 0, b"abc")), (Ok(()), true));
    assert_eq!(scan(&frame(CONTINUATION, END_HEADERS, b"")), (Ok(()), false));
    assert_eq!(scan(&frame(HEADERS, END_HEADERS, b"abc")[..11]), (Ok(()), true));
    assert_eq!(scan(b"c"), (Ok(()), false));
    assert_eq!(scan(&frame(HEADERS, 0, b"")), (Ok(()), true));
    for _ in 0..CONTINUATIONS_MAX {
        assert_eq!(scan(&frame(CONTINUATION, 0, b"x")), (Ok(()), true));
    }
    assert_eq!(scan(&frame(CONTINUATION, 0, b"x")).0, Err(Refusal::ContinuationFlood));
}
