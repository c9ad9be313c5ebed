//! The state machine, as tables.

use bytes::Bytes;

use super::{BodyAction, HeadAction, Side, TooLarge};
use crate::{
    headers::Headers,
    outcome::Flow,
    spec::Bodies::{self, AfterHeaders, BeforeHeaders},
};

const LIMIT: usize = 16;

fn head() -> Headers {
    [(":status", "200")].into_iter().collect()
}

fn flow(side: &Side) -> &'static str {
    match side.flow(LIMIT) {
        Flow::Continue => "continue",
        Flow::Buffer => "buffer",
        Flow::Hold => "hold",
        Flow::Reply(_) | Flow::Reset => "over",
    }
}

fn out(side: &mut Side) -> (bool, Bytes, bool) {
    let mut out = side.take_out();
    (out.head.is_some(), out.body(), out.trailers.is_some())
}

fn fed(bodies: Bodies, action: HeadAction, end: bool, body_callback: bool) -> Side {
    let mut side = Side::default();
    side.begin_head(head(), end);
    side.after_head(action, bodies, body_callback);
    side
}

#[test]
fn head_action_decides_whether_the_body_may_come() {
    let cases = [
        // wire, bodies,      end,  body callback, flow
        (0, AfterHeaders, false, true, "continue"),
        (2, AfterHeaders, false, true, "continue"),
        (1, AfterHeaders, false, true, "hold"),
        (1, BeforeHeaders, false, true, "buffer"),
        (1, BeforeHeaders, true, true, "hold"),
        (1, BeforeHeaders, false, false, "hold"),
        (3, BeforeHeaders, false, true, "hold"),
        (4, BeforeHeaders, false, true, "hold"),
        (9, BeforeHeaders, false, true, "hold"),
    ];
    for (wire, bodies, end, body_callback, want) in cases {
        let side = fed(bodies, HeadAction::from_wire(wire), end, body_callback);
        assert_eq!(flow(&side), want, "{wire} {bodies:?} {end} {body_callback}");
    }
}

#[test]
fn body_action_decides_what_leaves() {
    let cases = [
        // wire, end, flow,       what leaves
        (0, false, "continue", "abcd"),
        (1, false, "buffer", ""),
        (1, true, "hold", ""),
        (2, false, "buffer", ""),
        (3, false, "buffer", ""),
        (7, false, "buffer", ""),
    ];
    for (wire, end, want, leaves) in cases {
        let mut side = fed(AfterHeaders, HeadAction::Continue, false, true);
        out(&mut side);
        assert_eq!(side.begin_body("abcd".into(), end, LIMIT), Ok(4));
        side.after_body(BodyAction::from_wire(wire), false, LIMIT).expect("within the limit");
        assert_eq!(flow(&side), want, "{wire} {end}");
        assert_eq!(out(&mut side).1, leaves, "{wire} {end}");
    }
}

#[test]
fn continue_of_the_body_releases_a_held_head_only_without_callouts() {
    for (callouts, released) in [(false, true), (true, false)] {
        let mut side = fed(BeforeHeaders, HeadAction::Pause, false, true);
        side.begin_body("ab".into(), true, LIMIT).expect("fits");
        side.after_body(BodyAction::Continue, callouts, LIMIT).expect("fits");
        assert_eq!(out(&mut side).0, released, "callouts: {callouts}");
        side.continue_stream();
        let (_, rest, _) = out(&mut side);
        assert_eq!(rest, if released { "" } else { "ab" });
        assert_eq!(flow(&side), "continue");
    }
}

#[test]
fn continue_of_the_trailers_releases_everything_only_without_callouts() {
    for (callouts, want) in [(false, "continue"), (true, "hold")] {
        let mut side = fed(BeforeHeaders, HeadAction::Pause, false, true);
        side.begin_body("ab".into(), false, LIMIT).expect("fits");
        side.after_body(BodyAction::Buffer, callouts, LIMIT).expect("fits");
        side.begin_trailers(Headers::new());
        side.after_trailers(BodyAction::Continue, callouts);
        assert_eq!(flow(&side), want);
        side.continue_stream();
        assert_eq!(out(&mut side), (true, "ab".into(), true));
    }
}

#[test]
fn trailers_without_a_callback_do_not_release_what_is_held() {
    let mut side = fed(AfterHeaders, HeadAction::Continue, false, true);
    out(&mut side);
    side.begin_body("ab".into(), false, LIMIT).expect("fits");
    side.after_body(BodyAction::Buffer, false, LIMIT).expect("fits");
    side.pass_trailers(Headers::new());
    assert_eq!(out(&mut side), (false, Bytes::new(), false));
    side.continue_stream();
    assert_eq!(out(&mut side), (false, "ab".into(), true));
}

#[test]
fn continue_stream_with_nothing_held_changes_nothing() {
    let mut side = fed(AfterHeaders, HeadAction::Continue, false, true);
    out(&mut side);
    side.continue_stream();
    assert_eq!(out(&mut side), (false, Bytes::new(), false));
    side.begin_body("ab".into(), false, LIMIT).expect("fits");
    assert!(side.window_mut().is_some(), "and the next body is the guest's");
}

#[test]
fn held_body_past_the_limit_is_too_large_before_and_after_the_guest() {
    let mut side = fed(AfterHeaders, HeadAction::Continue, false, true);
    side.begin_body(Bytes::from(vec![0; LIMIT + 1]), false, LIMIT).expect("nothing is held yet");
    assert_eq!(side.after_body(BodyAction::Buffer, false, LIMIT), Err(TooLarge));

    let mut side = fed(AfterHeaders, HeadAction::Continue, false, true);
    side.begin_body(Bytes::from(vec![0; LIMIT]), false, LIMIT).expect("fits");
    side.after_body(BodyAction::Buffer, false, LIMIT).expect("fits");
    assert_eq!(side.begin_body("x".into(), false, LIMIT), Err(TooLarge));
    assert_eq!(side.take_held().body.len(), LIMIT + 1, "nothing is lost");
}

#[test]
fn what_is_held_is_told_as_it_came() {
    let mut side = fed(BeforeHeaders, HeadAction::Pause, false, true);
    side.head_mut().expect("held").push("x-guest", "1");
    side.begin_body("ab".into(), false, LIMIT).expect("fits");
    *side.window_mut().expect("open") = "changed".into();
    side.after_body(BodyAction::Continue, true, LIMIT).expect("fits");
    side.begin_body("cd".into(), false, LIMIT).expect("fits");
    let held = side.take_held();
    assert_eq!((held.head, held.body), (Some(head()), "abcd".into()));
}

#[test]
fn discarded_body_is_not_kept_for_an_open_policy_either() {
    let mut side = fed(AfterHeaders, HeadAction::Continue, false, true);
    out(&mut side);
    side.begin_body("ab".into(), false, LIMIT).expect("fits");
    side.after_body(BodyAction::Discard, false, LIMIT).expect("fits");
    assert!(side.take_held().body.is_empty());
}

#[test]
fn head_is_written_only_while_it_is_held() {
    let mut side = fed(AfterHeaders, HeadAction::Pause, false, true);
    assert!(side.head_mut().is_some());
    side.continue_stream();
    assert!(side.head_mut().is_none());
    assert!(side.head().is_some(), "and read until the end");
}
