use super::*;

#[test]
fn a_target_has_one_of_three_forms() {
    use Refusal as R;
    let (get, options) = (Method::GET, Method::OPTIONS);
    let cases = [
        (&get, "/", Ok((None, "/"))),
        (&get, "/a?b=/../c", Ok((None, "/a?b=/../c"))),
        (&get, "http://h/a?b", Ok((Some("h"), "/a?b"))),
        (&get, "HTTPS://h:1?b", Ok((Some("h:1"), "?b"))),
        (&get, "http://h", Ok((Some("h"), ""))),
        (&options, "*", Ok((None, "*"))),
        (&options, "http://h", Ok((Some("h"), "*"))),
        (&get, "*", Err(R::AsteriskWithoutOptions)),
        (&options, "*a", Err(R::TargetMalformed)),
        (&Method::CONNECT, "h:443", Err(R::ConnectRefused)),
        (&Method::CONNECT, "/", Err(R::ConnectRefused)),
        (&get, "h:443", Err(R::TargetMalformed)),
        (&get, "a/b", Err(R::TargetMalformed)),
        (&get, "", Err(R::TargetMalformed)),
        (&get, "ftp://h/", Err(R::SchemeUnsupported)),
        (&get, "/a#b", Err(R::TargetFragment)),
        (&get, "/a?b#", Err(R::TargetFragment)),
        (&get, "/a\\b", Err(R::TargetBackslash)),
        (&get, "/ä", Err(R::TargetNotAscii)),
        (&get, "/a\x7f", Err(R::TargetMalformed)),
        (&get, "/a?\t", Err(R::TargetMalformed)),
    ];
    for (method, text, want) in cases {
        let read = target(method, text).map(|target| (target.authority, target.rest));
        assert_eq!(read, want, "{method} {text}");
    }
}

#[test]
fn what_no_uri_may_have_is_refused_even_where_dots_take_it_away() {
    for text in ["/`", "/<a>", "/`/../b", "/a/<b>/..", "http://h/`/.."] {
        let target = target(&Method::GET, text).expect("its characters are visible");
        let respelled = target.respelled(EncodedSlashes::Refuse);
        assert_eq!(respelled, Err(Refusal::TargetMalformed), "{text}");
    }
}

#[test]
fn only_the_path_of_a_target_is_respelled() {
    let cases = [
        ("/a?x=//%2f", None),
        ("//a?x=//%2f", Some("/a?x=//%2f")),
        ("http://h?x", Some("/?x")),
        ("http://h", Some("/")),
        ("http://h/a", None),
    ];
    for (text, want) in cases {
        let target = target(&Method::GET, text).expect("a good target");
        assert_eq!(target.respelled(EncodedSlashes::Refuse), Ok(want.map(str::to_owned)), "{text}");
    }
}
