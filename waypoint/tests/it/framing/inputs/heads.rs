//! Lengths, transfer codings, lines, names, request lines, and what is said to one hop.

use super::{Made, Want, controls};
use Want::{Closes, Passes, Refused, RefusedByAny};

const LENGTH: Want = Refused("content_length_malformed");
const LENGTHS: Want = Refused("content_length_repeated");
const BOTH: Want = Refused("content_length_with_transfer_encoding");
const CODING: Want = Refused("transfer_encoding_unsupported");
const CODINGS: Want = Refused("transfer_encoding_repeated");
const CONTROL: Want = Refused("control_character");

/// Either `Content-Length`, or two of them.
pub(super) fn lengths(all: &mut Made) {
    for value in ["3", "3 ", "3\t", "\t3", "   3"] {
        all.post(&format!("Content-Length:{value}"), "abc", Passes);
    }
    for value in [
        "",
        " ",
        "+3",
        "-3",
        "-0",
        "+0",
        "0x3",
        "0X3",
        "03",
        "003",
        "00",
        "3;",
        "3.0",
        "3.",
        ".3",
        "3e0",
        "3 3",
        "3\t3",
        "\"3\"",
        "'3'",
        "(3)",
        "3a",
        "a",
        "3h",
        "3_0",
        "1_000",
        "0b11",
        "0o3",
        "three",
        "\u{b3}",
        "3\u{a0}",
        "\u{a0}3",
        "9223372036854775808",
        "18446744073709551616",
        "18446744073709551619",
        "99999999999999999999999",
        "-18446744073709551613",
        "NaN",
        "inf",
    ] {
        all.post(&format!("Content-Length: {value}"), "abc", LENGTH);
        all.get(&format!("Content-Length: {value}"), LENGTH);
    }
    for value in ["3,3", "3, 3", "3, 4", "3,", ",3", ",", "0,3", "3 , 3", "3,,3", "3, chunked"] {
        all.post(&format!("Content-Length: {value}"), "abc", LENGTHS);
    }
    for control in controls() {
        all.post(&format!("Content-Length: 3{control}"), "abc", CONTROL);
        all.post(&format!("Content-Length: {control}3"), "abc", CONTROL);
    }
    let values = ["0", "3", "4", "03", "", "x"];
    for first in values {
        for second in values {
            let pair = format!("Content-Length: {first}~content-length: {second}");
            all.post(&pair, "abc", LENGTHS);
            let apart = format!("Content-Length: {first}~X: y~CONTENT-LENGTH: {second}");
            all.post(&apart, "abc", LENGTHS);
        }
    }
}

/// `Transfer-Encoding` in every disguise, alone and beside a length.
pub(super) fn codings(all: &mut Made) {
    let mut coding = |value: &str, alone: Want, beside: Want| {
        let body = "3~abc~0~~";
        all.post(&format!("Transfer-Encoding:{value}"), body, alone);
        all.post(&format!("Content-Length: 3~Transfer-Encoding:{value}"), body, beside);
        all.post(&format!("Transfer-Encoding:{value}~Content-Length: 8"), body, beside);
        all.put(
            &format!("POST / HTTP/1.0~Host: a~Transfer-Encoding:{value}~~{body}"),
            if beside == BOTH { Refused("transfer_encoding_on_http10") } else { beside },
        );
    };
    for value in [" chunked", "chunked", "\tchunked", " \t chunked", " chunked ", " chunked\t \t"] {
        coding(value, Passes, BOTH);
    }
    for value in [" CHUNKED", " Chunked", " cHuNkEd"] {
        coding(value, Passes, BOTH);
    }
    for value in [
        "",
        " ",
        " identity",
        " gzip",
        " deflate",
        " br",
        " x",
        " cow",
        " chunked;q=1",
        " chunked; x",
        " \"chunked\"",
        " 'chunked'",
        " chunked x",
        " x chunked",
        " xchunked",
        " chunkedx",
        " chunke",
        " chunked\u{a0}",
        " \u{a0}chunked",
        " \u{85}chunked",
        " chunked\u{ad}",
        " chunk\u{e9}d",
        " chunked=1",
        " chunked/1",
        " (chunked)",
        " chunked.",
        " -chunked",
        " 0",
        " true",
        " chunked\\",
        " =chunked",
        " :chunked",
    ] {
        coding(value, CODING, BOTH);
    }
    for value in [
        " chunked, identity",
        " identity, chunked",
        " gzip, chunked",
        " chunked, gzip",
        " chunked,chunked",
        " chunked, chunked",
        " ,chunked",
        " chunked,",
        " , chunked ,",
        " x,chunked",
        " chunked , x",
    ] {
        coding(value, CODINGS, BOTH);
    }
    for control in controls() {
        coding(&format!(" {control}chunked"), CONTROL, CONTROL);
        coding(&format!(" chunked{control}"), CONTROL, CONTROL);
        coding(&format!(" chun{control}ked"), CONTROL, CONTROL);
    }
    for second in ["chunked", "identity", "x", "", "CHUNKED"] {
        let twice = format!("Transfer-Encoding: chunked~Transfer-Encoding: {second}");
        all.post(&twice, "0~~", CODINGS);
        let twice = format!("Transfer-Encoding: {second}~X: y~transfer-encoding: chunked");
        all.post(&twice, "0~~", CODINGS);
    }
}

/// What stands in the place of CRLF.
pub(super) fn lines(all: &mut Made) {
    let lf = RefusedByAny(&["bare_line_feed", "bare_carriage_return"]);
    for end in ["\n", "\r", "\r\r\n", "\n\r", "\n\n", "\r\r"] {
        let any = if end == "\r" || end == "\r\r" { Refused("bare_carriage_return") } else { lf };
        all.put(&format!("POST / HTTP/1.1{end}Host: a~Content-Length: 3~~abc"), any);
        all.put(&format!("POST / HTTP/1.1~Host: a{end}Content-Length: 3~~abc"), any);
        all.put(&format!("POST / HTTP/1.1~Host: a~Content-Length: 3{end}X: y~~abc"), any);
        all.put(&format!("POST / HTTP/1.1~Host: a~Content-Length: 3{end}~abc"), any);
        all.put(&format!("POST / HTTP/1.1~Host: a~X: y{end}Content-Length: 30~~"), any);
        all.put(&format!("POST / HTTP/1.1~Host: a~X: y{end}Transfer-Encoding: chunked~~0~~"), any);
        all.put(&format!("GET / HTTP/1.1~Host: a~X: y{end}Host: b~~"), any);
    }
    all.put("GET / HTTP/1.1\nHost: a\n\n", lf);
    all.put("\nGET / HTTP/1.1~Host: a~~", lf);
    // One empty line before a request line may stand (RFC 9112, 2.2).
    all.put("~GET / HTTP/1.1~Host: a~~", Passes);
    all.put("~~GET / HTTP/1.1~Host: a~~", Refused("request_line_malformed"));
    for blank in [" ", "\t", "  ", " \t", "\t "] {
        let folded = Refused("folded_field");
        all.get(&format!("X: y~{blank}z"), folded);
        all.get(&format!("X:~{blank}Content-Length: 30"), folded);
        all.post(&format!("Content-Length:~{blank}3"), "abc", folded);
        all.post(&format!("Transfer-Encoding:~{blank}chunked"), "0~~", folded);
        all.post(&format!("Transfer-Encoding: chunked~{blank}, identity"), "0~~", folded);
        all.put(&format!("GET / HTTP/1.1~{blank}Host: a~~"), folded);
        all.put(&format!("GET / HTTP/1.1~Host: a~{blank}~~"), folded);
        all.put(&format!("GET / HTTP/1.1~Host:~{blank}a~~"), folded);
    }
}

/// The names that frame and route, with something in them.
pub(super) fn names(all: &mut Made) {
    for (name, value) in
        [("Content-Length", "3"), ("Transfer-Encoding", "chunked"), ("Host", "b"), ("X-Any", "y")]
    {
        let mut named = |name: &str, want: Want| all.post(&format!("{name}: {value}"), "", want);
        for blank in [" ", "\t", "  ", " \t"] {
            named(&format!("{name}{blank}"), Refused("whitespace_before_colon"));
        }
        let (half, rest) = name.split_at(3);
        for bad in controls().chain("\"(),/;<=>?@[\\]{}\u{a0}\u{ad}\u{ff} \t".chars()) {
            let names = [format!("{half}{bad}{rest}"), format!("{name}{bad}x")];
            names.iter().for_each(|name| named(name, Refused("field_name_malformed")));
        }
        for first in "\0\x0b(@\u{a0}".chars() {
            named(&format!("{first}{name}"), Refused("field_name_malformed"));
        }
        named(&name.replace('-', "_").replace("Host", "Ho_st"), Refused("field_name_underscore"));
        // Other names: what follows the head is no body.
        for other in ["!", "#", "'", "*", ".", "^", "`", "|", "+", "1"] {
            named(&format!("{name}{other}"), Passes);
        }
        all.post(name, "", Refused("field_malformed"));
        all.post(&format!("{name};: {value}"), "", Refused("field_name_malformed"));
    }
    all.get(": y", Refused("field_name_empty"));
    all.get(":", Refused("field_name_empty"));
    all.get("X", Refused("field_malformed"));
    all.get("X:", Passes);
    all.get("X: \u{e4}\u{ff}\t.", Passes);
    for control in controls() {
        all.get(&format!("X: a{control}b"), CONTROL);
        all.get(&format!("X:{control}"), CONTROL);
    }
}

/// Methods, spaces and versions.
pub(super) fn request_lines(all: &mut Made) {
    let (method, line) = (Refused("method_malformed"), Refused("request_line_malformed"));
    let version = Refused("version_unsupported");
    for good in ["GET", "get", "M-SEARCH", "QUERY", "X", "!#$%&'*+.^`|1"] {
        all.put(&format!("{good} / HTTP/1.1~Host: a~~"), Passes);
    }
    for bad in
        ["G(T", "G\u{c9}T", "GET,", "G\"T", "G@T", "G[T", "G/T", "(", "G\0T", "\x16\x03", "G:T"]
    {
        all.put(&format!("{bad} / HTTP/1.1~Host: a~~"), method);
    }
    for control in controls() {
        all.put(&format!("G{control}T / HTTP/1.1~Host: a~~"), method);
        all.put(&format!("GET{control}/ HTTP/1.1~Host: a~~"), method);
        all.put(&format!("GET /{control} HTTP/1.1~Host: a~~"), Refused("target_malformed"));
        all.put(&format!("GET / HTTP/1.1{control}~Host: a~~"), line);
        all.put(&format!("GET /{control}HTTP/1.1~Host: a~~"), line);
    }
    for text in [
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET / x HTTP/1.1",
        "GET /",
        "GET",
        "GET / ",
        "GET / HTTP/1",
        "GET / HTTP/1.",
        "GET / HTTP/11",
        "GET / http/1.1",
        "GET / HTTP1.1",
        "GET / HTTP/1,1",
        "GET / HTTP/x.1",
        "GET / HTTP/1.10",
        "GET / HTTP /1.1",
        "GET / ICY/1.1",
        "GET / HTTP/1.1 HTTP/1.1",
        "GET /\t",
        "GET / HTTP/+1.1",
        "GET / HTTP/1.1;",
        "GET HTTP/1.1",
    ] {
        all.put(&format!("{text}~Host: a~~"), line);
    }
    for text in [" GET / HTTP/1.1", "\tGET / HTTP/1.1", "GET\t/ HTTP/1.1", "GET\t/\tHTTP/1.1"] {
        all.put(&format!("{text}~Host: a~~"), method);
    }
    all.put("GET /\tHTTP/1.1~Host: a~~", line);
    all.put("GET /\tx HTTP/1.1~Host: a~~", Refused("target_malformed"));
    for number in ["0.9", "1.2", "1.9", "2.0", "3.0", "0.0", "9.9"] {
        all.put(&format!("GET / HTTP/{number}~Host: a~~"), version);
    }
    all.put("PRI * HTTP/2.0~~XX~~", version);
    all.put("GET / HTTP/1.0~~", Refused("host_missing"));
    all.put("GET / HTTP/1.0~Host: a~~", Closes);
    all.put("GET / HTTP/1.0~Host: a~Connection: keep-alive~~", Passes);
    all.put("POST / HTTP/1.0~Host: a~Content-Length: 3~Connection: keep-alive~~abc", Passes);
}

/// What is asked of this hop: `Connection`, `Upgrade`, `Expect`, `TE`.
pub(super) fn hops(all: &mut Made) {
    let kept = [
        "host",
        "Content-Length",
        "content-type",
        "Content-Encoding",
        "transfer-encoding",
        "Authorization",
        "cookie",
    ];
    for name in kept {
        let named = Refused("connection_names_field");
        all.post(&format!("Content-Length: 3~Connection: {name}"), "abc", named);
        all.post(&format!("Content-Length: 3~Connection: close, {name}"), "abc", named);
        all.post(&format!("Content-Length: 3~Connection: x~Connection: {name}"), "abc", named);
    }
    all.get("Connection: a b", Refused("field_malformed"));
    all.get("Connection: keep-alive, x-y~X-Y: z", Passes);
    all.get("Connection: close", Closes);
    all.get("Connection: CLOSE, keep-alive", Closes);
    let websocket = "Connection: Upgrade~Upgrade: websocket~Sec-WebSocket-Version: 13~\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    // The origin answers 200: what follows the head is a request and never the new protocol.
    all.get(websocket, Passes);
    all.get(&format!("{websocket}~Content-Length: 3"), Refused("upgrade_with_body"));
    all.get(&format!("{websocket}~Transfer-Encoding: chunked"), Refused("upgrade_with_body"));
    all.post(&format!("{websocket}~Content-Length: 3"), "abc", Passes);
    for protocol in
        ["h2c", "h2c, websocket", "websocket, h2c", "HTTP/2.0", "TLS/1.0", "", "x", "WebSocket/13"]
    {
        let asked = "Connection: Upgrade, HTTP2-Settings~HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA";
        all.get(&format!("{asked}~Upgrade: {protocol}"), Passes);
        all.post(&format!("{asked}~Upgrade: {protocol}~Content-Length: 3"), "abc", Passes);
    }
    for expected in ["x", "100-continue, x", "101-continue", "", "100-continue\u{a0}", "100"] {
        let want = Refused("expect_unsupported");
        all.post(&format!("Content-Length: 3~Expect: {expected}"), "abc", want);
    }
    all.post("Content-Length: 3~Expect: 100-Continue", "abc", Passes);
    all.post("Transfer-Encoding: chunked~Expect: 100-continue", "3~abc~0~~", Passes);
    all.get("Expect: 100-continue", Passes);
    all.get("TE: trailers, chunked, identity;q=0~Connection: te", Passes);
    all.get("Keep-Alive: timeout=5~Proxy-Connection: keep-alive", Passes);
}

/// What is too long, and what is just not.
pub(super) fn sizes(all: &mut Made) {
    let long = |length: usize| "x".repeat(length);
    let fields = |count: usize| (0..count).map(|at| format!("x-{at}: y~")).collect::<String>();
    all.get(&format!("X: {}", long(15_000)), Passes);
    all.get(&format!("X: {}", long(17_000)), Refused("head_too_long"));
    all.put(&format!("GET /{} HTTP/1.1~Host: a~~", long(8_000)), Passes);
    all.put(&format!("GET /{} HTTP/1.1~Host: a~~", long(8_192)), Refused("target_too_long"));
    all.put(&format!("GET / HTTP/1.1~{}Host: a~~", fields(99)), Passes);
    all.put(&format!("GET / HTTP/1.1~{}Host: a~~", fields(100)), Refused("too_many_fields"));
}
