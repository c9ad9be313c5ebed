#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| waypoint_fuzz::codec::fuzzing::request_head(bytes));
