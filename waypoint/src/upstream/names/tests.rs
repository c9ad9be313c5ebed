//! What is believed of a name, and for how long.

use super::*;

fn addresses(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().expect("an address")).collect()
}

fn answered(texts: &[&str], seconds: u64) -> Answer {
    Answer::Addresses { addresses: addresses(texts), ttl: Duration::from_secs(seconds) }
}

fn nothing(seconds: u64) -> Answer {
    Answer::Nothing { ttl: Duration::from_secs(seconds) }
}

#[test]
fn an_answer_is_believed_for_its_time_within_bounds_and_a_failure_changes_no_address() {
    use Trouble::{Failing, NoSuchName, Refused};
    let limits = NameLimits { addresses_max: 2, ..NameLimits::default() };
    let cases: [(Answer, &[&str], Option<Trouble>, u64); 13] = [
        // answer, then known, trouble, seconds; each case begins with what the one before left
        (Answer::Failure, &[], Some(Failing), 1),
        (Answer::Failure, &[], Some(Failing), 2),
        (answered(&["10.0.0.2", "10.0.0.1", "10.0.0.2"], 60), &["10.0.0.1", "10.0.0.2"], None, 60),
        (answered(&["10.0.0.1"], 0), &["10.0.0.1"], None, 1),
        (answered(&["10.0.0.1", "::2", "10.0.0.3"], 9_999), &["10.0.0.1", "10.0.0.3"], None, 300),
        (Answer::Failure, &["10.0.0.1", "10.0.0.3"], Some(Failing), 1),
        (Answer::Failure, &["10.0.0.1", "10.0.0.3"], Some(Failing), 2),
        (nothing(0), &[], Some(NoSuchName), 1),
        (nothing(86_400), &[], Some(NoSuchName), 30),
        (answered(&["169.254.169.254", "fe80::1"], 60), &[], Some(Refused), 60),
        (answered(&["169.254.169.254", "10.0.0.1"], 60), &["10.0.0.1"], None, 60),
        (answered(&["::ffff:169.254.169.254", "::ffff:10.0.0.1"], 60), &["10.0.0.1"], None, 60),
        (
            answered(&["0.0.0.0", "224.0.0.1", "255.255.255.255", "::", "ff02::1"], 5),
            &[],
            Some(Refused),
            5,
        ),
    ];
    let mut known = Known::default();
    for (number, (answer, want, trouble, seconds)) in (0..).zip(cases) {
        let pause;
        (known, pause) = known.after(answer, "a.test", &limits);
        assert_eq!(known.addresses.to_vec(), addresses(want), "case {number}");
        assert_eq!((known.trouble, pause.as_secs()), (trouble, seconds), "case {number}");
    }
}

#[test]
fn the_pause_between_failures_doubles_up_to_its_bound() {
    let limits = NameLimits::default();
    let mut known = Known::default();
    let mut pauses = Vec::new();
    for _ in 0..8 {
        let pause;
        (known, pause) = known.after(Answer::Failure, "a.test", &limits);
        pauses.push(pause.as_secs());
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30, 30]);
}
