use super::*;

fn with(values: &[&'static str]) -> HeaderMap {
    let values = values.iter().map(|value| (GRPC_TIMEOUT, HeaderValue::from_static(value)));
    values.collect()
}

#[test]
fn a_timeout_has_up_to_eight_digits_and_a_unit() {
    for (value, want) in [
        ("1H", Duration::from_secs(3_600)),
        ("2M", Duration::from_secs(120)),
        ("3S", Duration::from_secs(3)),
        ("4m", Duration::from_millis(4)),
        ("5u", Duration::from_micros(5)),
        ("99999999n", Duration::from_nanos(99_999_999)),
        ("0S", Duration::ZERO),
        ("99999999H", Duration::from_secs(99_999_999 * 3_600)),
    ] {
        assert_eq!(timeout(&with(&[value])), Ok(Some(want)), "{value}");
    }
    assert_eq!(timeout(&with(&[])), Ok(None));
}

#[test]
fn anything_else_is_malformed() {
    for value in ["", "S", "1", "1s", "-1S", "+1S", "1.5S", "123456789n", " 1S", "1 S", "0x1S"] {
        assert_eq!(timeout(&with(&[value])), Err(Malformed), "{value}");
    }
    assert_eq!(timeout(&with(&["1S", "1S"])), Err(Malformed));
}

#[test]
fn what_is_left_is_written_in_the_finest_unit_with_room_for_it() {
    for (left, want) in [
        (Duration::from_nanos(1), "1n"),
        (Duration::from_nanos(99_999_999), "99999999n"),
        (Duration::from_millis(100), "100000u"),
        (Duration::from_secs(100), "100000m"),
        (Duration::from_secs(100_000), "100000S"),
        (Duration::MAX, "99999999S"),
    ] {
        let mut headers = with(&["1S", "2S"]);
        set_timeout(&mut headers, left);
        assert_eq!(headers.get_all(GRPC_TIMEOUT).iter().collect::<Vec<_>>(), [want]);
    }
}
