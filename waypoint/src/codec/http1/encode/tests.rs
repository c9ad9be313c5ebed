use super::*;

fn encoded(
    status: StatusCode,
    fields: &[(&'static str, &'static str)],
    sending: Sending,
    afterwards: Afterwards,
) -> String {
    let date = ("date", "Thu, 01 Jan 1970 00:00:00 GMT");
    let fields = fields.iter().chain([&date]);
    let headers = fields
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
    let mut out = Vec::new();
    head(&mut out, status, &headers.collect(), sending, afterwards);
    let text = String::from_utf8(out).expect("ASCII");
    text.replace("date: Thu, 01 Jan 1970 00:00:00 GMT\r\n", "")
}

#[test]
fn an_answer_keeps_its_fields_but_for_those_of_the_connection() {
    let fields = [
        ("x-first", "1"),
        ("connection", "close"),
        ("transfer-encoding", "chunked"),
        ("content-length", "7"),
        ("set-cookie", "a"),
        ("set-cookie", "b"),
    ];
    let text = encoded(StatusCode::OK, &fields, Sending::Length(3), Afterwards::Stays);
    let want = "HTTP/1.1 200 OK\r\nx-first: 1\r\nset-cookie: a\r\nset-cookie: b\r\n\
                content-length: 3\r\n\r\n";
    assert_eq!(text, want);
}

#[test]
fn the_length_of_another_answer_is_kept_only_where_it_may_be() {
    let length = [("content-length", "7")];
    let with = "content-length: 7\r\n";
    let has = |status| encoded(status, &length, Sending::Nothing, Afterwards::Stays).contains(with);
    assert!(has(StatusCode::OK) && has(StatusCode::NOT_MODIFIED));
    assert!(!has(StatusCode::NO_CONTENT));
}

#[test]
fn what_becomes_of_the_connection_is_said() {
    let ending = |sending, afterwards| encoded(StatusCode::OK, &[], sending, afterwards);
    let open = ending(Sending::Open, Afterwards::Closes);
    assert!(open.ends_with("transfer-encoding: chunked\r\nconnection: close\r\n\r\n"), "{open}");
    let asked = ending(Sending::UntilClose, Afterwards::StaysAsAsked);
    assert_eq!(asked, "HTTP/1.1 200 OK\r\nconnection: keep-alive\r\n\r\n");
    let switch = encoded(
        StatusCode::SWITCHING_PROTOCOLS,
        &[("sec-websocket-accept", "x"), ("upgrade", "other")],
        Sending::Nothing,
        Afterwards::Switches,
    );
    let want = "HTTP/1.1 101 Switching Protocols\r\nsec-websocket-accept: x\r\n\
                connection: upgrade\r\nupgrade: websocket\r\n\r\n";
    assert_eq!(switch, want);
}

#[test]
fn a_date_is_added_if_there_is_none() {
    let mut out = Vec::new();
    head(&mut out, StatusCode::OK, &HeaderMap::new(), Sending::Length(0), Afterwards::Stays);
    let text = String::from_utf8(out).expect("ASCII");
    assert_eq!(text.matches("\r\ndate: ").count(), 1, "{text}");
}

#[test]
fn the_last_chunk_carries_the_trailers_that_are_allowed() {
    let fields = [("grpc-status", "0"), ("content-length", "1")];
    let fields = fields
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
    let mut out = Vec::new();
    last_chunk(&mut out, Some(&fields.into_iter().collect()));
    assert_eq!(out, b"0\r\ngrpc-status: 0\r\n\r\n");
}
