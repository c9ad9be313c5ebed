use super::*;

fn read(head: &str, headless: bool) -> Result<Answer, WireError> {
    parse(&Bytes::copy_from_slice(head.as_bytes()), headless)
}

#[test]
fn where_an_answer_ends_and_whether_its_connection_stays_follow_from_its_head() {
    use Ends as E;
    let cases = [
        ("1.1 200 OK", "content-length: 5", false, (E::Length(5), true)),
        ("1.1 200", "content-length: 0", false, (E::Length(0), true)),
        ("1.1 200 OK", "content-length: 5, 5\r\ncontent-length: 5", false, (E::Length(5), true)),
        ("1.1 200 OK", "content-length: 5\r\nconnection: x, Close", false, (E::Length(5), false)),
        ("1.1 200 OK", "transfer-encoding: Chunked", false, (E::LastChunk, true)),
        ("1.1 200 OK", "x: y", false, (E::Connection, false)),
        ("1.0 200 OK", "content-length: 5\r\nconnection: keep-alive", false, (E::Length(5), false)),
        ("1.1 200 OK", "content-length: 5", true, (E::Head, true)),
        ("1.1 200 OK", "x: y", true, (E::Head, true)),
        ("1.1 204 No Content", "x: y", false, (E::Head, true)),
        ("1.1 304 Not Modified", "content-length: 5", false, (E::Head, true)),
        ("1.1 103 Early Hints", "link: </a>", false, (E::Head, true)),
        ("1.1 101 Switching Protocols", "upgrade: websocket", false, (E::Head, true)),
    ];
    for (line, fields, headless, want) in cases {
        let answer = read(&format!("HTTP/{line}\r\n{fields}\r\n\r\n"), headless).expect(line);
        assert_eq!((answer.ends, answer.stays), want, "{line} {fields}");
        let lengths = answer.response.headers().get_all(header::CONTENT_LENGTH).iter().count();
        assert!(lengths <= 1, "{fields}");
    }
}

#[test]
fn a_head_that_two_readers_could_read_two_ways_is_malformed() {
    let heads = [
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 5, 6\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: +5\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length:\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 05\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 9223372036854775808\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: identity\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n",
        "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\na b: c\r\n\r\n",
        "HTTP/1.1 200 OK\r\na : c\r\n\r\n",
        "HTTP/1.1 200 OK\r\na: b\r\n c\r\n\r\n",
        "HTTP/1.1 200 OK\r\n: c\r\n\r\n",
        "HTTP/1.1 200 OK\r\na: \0\r\n\r\n",
        "HTTP/1.1 099 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "ICY 200 OK\r\n\r\n",
    ];
    for head in heads {
        let read = read(head, false);
        assert!(matches!(read, Err(WireError::Malformed(_))), "{head:?} gave {read:?}");
    }
}
