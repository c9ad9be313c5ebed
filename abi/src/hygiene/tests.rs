//! What a write leaves in a map.

use super::{MapKind, Write, remove, set, write};
use crate::{headers::Headers, limits::Limits};

fn request() -> Headers {
    [(":method", "GET"), (":path", "/"), (":authority", "a.test"), ("x-a", "1"), ("x-a", "2")]
        .into_iter()
        .collect()
}

fn written(kind: MapKind, how: Write, name: &str, value: &str) -> (Headers, bool) {
    let mut headers = request();
    let limits = Limits::default();
    let fine = write(kind, &mut headers, how, name.as_bytes(), value.as_bytes(), &limits).is_ok();
    (headers, fine)
}

#[test]
fn pseudo_headers_take_only_what_they_can_be() {
    let cases = [
        // name, value, taken
        (":path", "/b?c", true),
        (":path", "*", true),
        (":path", "b", false),
        (":path", "/ b", false),
        (":path", "/b\r\nx: y", false),
        (":path", "/b#c", false),
        (":method", "PATCH", true),
        (":method", "GET /", false),
        (":method", "", false),
        (":authority", "b.test:80", true),
        (":authority", "b test", false),
        (":authority", "", false),
        ("host", "b.test", true),
        (":scheme", "https", true),
        (":scheme", "gopher", false),
        (":status", "200", false),
        (":other", "x", false),
    ];
    for (name, value, taken) in cases {
        let (headers, fine) = written(MapKind::Request, Write::Replace, name, value);
        let name = if name == "host" { ":authority" } else { name };
        let now = headers.get(name).map(|value| &value[..]);
        assert_eq!(now == Some(value.as_bytes()), taken, "{name}: {value:?}");
        assert_eq!(fine, taken, "{name}: {value:?}");
        assert_eq!(headers.iter().next().map(|(n, _)| n[0]), Some(b':'), "pseudo-headers first");
    }
}

#[test]
fn statuses_of_a_response_are_final_ones() {
    for (value, taken) in
        [("200", true), ("599", true), ("100", false), ("600", false), ("+20", false), ("", false)]
    {
        let mut headers: Headers = [(":status", "404")].into_iter().collect();
        let limits = Limits::default();
        let result = write(
            MapKind::Response,
            &mut headers,
            Write::Replace,
            b":status",
            value.as_bytes(),
            &limits,
        );
        assert_eq!(result.is_ok(), taken, "{value:?}");
        let want = if taken { value } else { "404" };
        assert_eq!(headers.get(":status").expect("stays"), want);
    }
}

#[test]
fn names_and_values_are_made_fit_or_dropped() {
    let cases = [
        // name, value, what stands there
        ("X-Up", "v", Some(("x-up", "v"))),
        ("x b", "v", Some(("x%20b", "v"))),
        ("x\r\nb", "v", Some(("x%0d%0ab", "v"))),
        ("x-v", "a\r\nb: c\0", Some(("x-v", "a%0d%0ab: c%00"))),
        ("x-v", "  trimmed\t", Some(("x-v", "trimmed"))),
        ("x-v", "é", Some(("x-v", "é"))),
        ("", "v", None),
        ("connection", "close", None),
        ("Transfer-Encoding", "chunked", None),
    ];
    for (name, value, want) in cases {
        let (headers, _) = written(MapKind::Request, Write::Add, name, value);
        match want {
            Some((name, value)) => assert_eq!(headers.get(name).expect("added"), value),
            None => assert_eq!(headers, request(), "{name:?}"),
        }
    }
}

#[test]
fn replace_leaves_one_line_and_remove_none() {
    let (mut headers, _) = written(MapKind::Request, Write::Replace, "x-a", "3");
    assert_eq!(headers.get_all("x-a").collect::<Vec<_>>(), ["3"]);
    assert!(remove(MapKind::Request, &mut headers, b"X-A").is_ok());
    assert_eq!(headers.get("x-a"), None);
    assert!(remove(MapKind::Request, &mut headers, b":path").is_err());
    assert!(remove(MapKind::Request, &mut headers, b"host").is_err());
    assert_eq!(headers.get(":path").expect("stays"), "/");
}

#[test]
fn whole_map_is_replaced_but_for_the_pseudo_headers() {
    let limits = Limits { headers_max: 5, ..Limits::default() };
    let mut headers = request();
    let lines = [(":path", "/new"), ("b", "1"), ("c", "2")].into_iter().collect();
    assert!(set(MapKind::Request, &mut headers, &lines, &limits).is_ok());
    let want = [(":method", "GET"), (":path", "/new"), (":authority", "a.test"), ("b", "1")];
    assert_eq!(headers, want.into_iter().chain([("c", "2")]).collect());
    let too_many: Headers = [("d", "1"), ("e", "2"), ("f", "3")].into_iter().collect();
    let before = headers.clone();
    assert!(set(MapKind::Request, &mut headers, &too_many, &limits).is_err());
    assert_eq!(headers, before, "too many lines change nothing");
}
