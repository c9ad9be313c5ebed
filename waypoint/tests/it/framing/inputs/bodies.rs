//! Chunks and trailers.

use super::{Made, Want, controls};
use Want::{Passes, Refused, RefusedByAny};

const SIZE: Want = Refused("chunk_size_malformed");
const EXTENSION: Want = Refused("chunk_extension_malformed");
const END: Want = Refused("chunk_end_malformed");
const TRAILER: Want = Refused("trailer_malformed");

fn chunked(all: &mut Made, body: &str, want: Want) {
    all.post("Transfer-Encoding: chunked", body, want);
}

/// The line before a chunk's data.
pub(super) fn chunk_lines(all: &mut Made) {
    for line in [
        "3",
        "03",
        "003",
        "000000000000003",
        "3;a",
        "3;a=b",
        "3;a=\"b\"",
        "3;a;b=c;d=\"e;f\"",
        "3;a=\"\\\"\"",
        "3;a=\"\u{20}\t\"",
    ] {
        chunked(all, &format!("{line}~abc~0~~"), Passes);
        chunked(all, &format!("3~abc~{}~~", line.replacen('3', "0", 1)), Passes);
    }
    for line in [
        "",
        " ",
        " 3",
        "\t3",
        "3 ",
        "3\t",
        "+3",
        "-3",
        "0x3",
        "0X3",
        "3h",
        "g",
        "3.0",
        "3,",
        "3 3",
        "3=a",
        "\u{b3}",
        "3\u{a0}",
        "0000000000000003",
        "ffffffffffffffff",
        "10000000000000003",
        "3_0",
        "$3",
        "3:",
        "3\"",
        "3 ;a",
        "-0",
        "0x",
        "03h",
    ] {
        chunked(all, &format!("{line}~abc~0~~"), SIZE);
        chunked(all, &format!("1~x~{line}~abc~0~~"), SIZE);
    }
    for line in [
        "3;",
        "3; a",
        "3;a ",
        "3;a =b",
        "3;a= b",
        "3;=b",
        "3;a=",
        "3;;a",
        "3;a;",
        "3;a=\"",
        "3;a=\"b",
        "3;a=b\"",
        "3;a=\"b\"c",
        "3;a=\"\\",
        "3;\u{e4}",
        "3;a=\u{e4}",
        "3;a=\"\u{e4}\"",
        "3;a,b",
        "3;(",
        "3;a=b c",
    ] {
        chunked(all, &format!("{line}~abc~0~~"), EXTENSION);
        chunked(all, &format!("3~abc~{}~~", line.replacen('3', "0", 1)), EXTENSION);
    }
    for control in controls() {
        chunked(all, &format!("3{control}~abc~0~~"), SIZE);
        chunked(all, &format!("3;a{control}~abc~0~~"), EXTENSION);
        chunked(all, &format!("3;a=\"{control}\"~abc~0~~"), EXTENSION);
    }
    chunked(all, &format!("3;{}~abc~0~~", "x".repeat(250)), Passes);
    chunked(all, &format!("3;{}~abc~0~~", "x".repeat(257)), Refused("chunk_extension_too_long"));
    chunked(all, &format!("3;{}~abc~0~~", "x".repeat(5_000)), Refused("chunk_extension_too_long"));
    chunked(all, "3;a=\"\r\n\"~abc~0~~", EXTENSION);
}

/// What ends lines and chunks.
pub(super) fn chunk_ends(all: &mut Made) {
    let bare =
        RefusedByAny(&["bare_line_feed", "bare_carriage_return", "chunk_extension_malformed"]);
    for end in ["\n", "\r\r\n", "\n\r"] {
        chunked(all, &format!("3{end}abc~0~~"), bare);
        chunked(all, &format!("3~abc{end}0~~"), END);
        chunked(all, &format!("3~abc~0{end}~"), bare);
        chunked(all, &format!("3~abc~0~X: y{end}~"), bare);
        chunked(all, &format!("3;a{end}abc~0~~"), bare);
    }
    chunked(all, "3~abc~0~\n", Refused("bare_line_feed"));
    for (data, size) in [("abcd", 3), ("abc", 2), ("abcde~0~~", 3), ("abc", 1), ("", 1)] {
        let want = if data.is_empty() { RefusedByAny(&["chunk_end_malformed"]) } else { END };
        chunked(all, &format!("{size:x}~{data}~0~~"), want);
    }
    // What looks like an end within the data is data.
    chunked(all, "5~0\r\n\r\n~0~~", Passes);
    chunked(all, "1c~GET /within HTTP/1.1\r\nHost: a~0~~", Want::Agreed);
    chunked(all, "0~~", Passes);
    chunked(all, "1~a~1~b~1~c~0~~", Passes);
}

/// What may stand behind the last chunk.
pub(super) fn trailers(all: &mut Made) {
    let mut trailer = |line: &str, want: Want| chunked(all, &format!("3~abc~0~{line}~~"), want);
    for good in ["X: y", "x-checksum: 1~x-other: 2", "X:", "grpc-status: 0", "X: \u{e4}"] {
        trailer(good, Passes);
    }
    for name in [
        "Authorization",
        "cache-control",
        "Content-Encoding",
        "Content-Length",
        "Content-Range",
        "Content-Type",
        "Cookie",
        "Date",
        "Expect",
        "Expires",
        "Host",
        "If-Match",
        "If-Modified-Since",
        "If-None-Match",
        "If-Range",
        "If-Unmodified-Since",
        "Location",
        "Max-Forwards",
        "Proxy-Authenticate",
        "Proxy-Authorization",
        "Range",
        "Retry-After",
        "Set-Cookie",
        "TE",
        "Trailer",
        "Vary",
        "WWW-Authenticate",
        "Transfer-Encoding",
        "Connection",
        "Keep-Alive",
        "Proxy-Connection",
        "Upgrade",
    ] {
        trailer(&format!("{name}: 0"), Refused("trailer_forbidden"));
        trailer(&format!("X: y~{}: 0", name.to_ascii_uppercase()), Refused("trailer_forbidden"));
    }
    for bad in [
        " X: y",
        "X : y",
        "X",
        "X y: z",
        "X: y~ folded",
        "X: y~\tfolded",
        ": y",
        "X(: y",
        "X\u{e4}: y",
    ] {
        trailer(bad, TRAILER);
    }
    for control in controls() {
        trailer(&format!("X: a{control}b"), TRAILER);
        trailer(&format!("X{control}: y"), TRAILER);
    }
    trailer("x_y: z", Refused("field_name_underscore"));
    let many: String = (0..65).map(|at| format!("x-{at}: y~")).collect();
    trailer(many.trim_end_matches('~'), Refused("trailers_too_long"));
    trailer(&format!("X: {}", "y".repeat(9_000)), Refused("trailers_too_long"));
}
