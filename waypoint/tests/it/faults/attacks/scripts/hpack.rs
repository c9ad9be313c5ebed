//! Blocks of fields that HPACK does not allow, and those that unpack to much.

use super::Ends::{Goaway, Reset, Serves, Status};
use super::{
    ENHANCE_YOUR_CALM, PROTOCOL_ERROR, REFUSED_STREAM, Script, get, get_block, head, repeated,
    script,
};

/// A GET on stream 1 whose block ends with these bytes.
fn ending(bytes: &[u8]) -> Vec<u8> {
    head(1, &[&get_block(), bytes].concat(), true)
}

/// A request with so many fields, each of one byte: a large one that is put into the table first.
fn bomb(fields: usize) -> Vec<u8> {
    let mut block = get_block();
    // With indexing, a new name `x-b`, and a value of 100 bytes.
    block.extend_from_slice(&[0x40, 3, b'x', b'-', b'b', 100]);
    block.resize(block.len() + 100, b'v');
    // The first entry of the dynamic table.
    block.resize(block.len() + fields, 0x80 | 62);
    block
}

pub(super) const ALL: &[Script] = &[
    script(
        "the index 0",
        "RFC 7541, 6.1; h2 says PROTOCOL_ERROR for COMPRESSION_ERROR",
        || ending(&[0x80]),
        Goaway(PROTOCOL_ERROR),
    ),
    script(
        "an index past the table",
        "RFC 7541, 2.3.3; h2 says PROTOCOL_ERROR for COMPRESSION_ERROR",
        || ending(&[0x80 | 62]),
        Goaway(PROTOCOL_ERROR),
    ),
    script(
        "a name's index past the table",
        "RFC 7541, 2.3.3; h2 says PROTOCOL_ERROR for COMPRESSION_ERROR",
        || ending(&[0x7e, 1, b'x']),
        Goaway(PROTOCOL_ERROR),
    ),
    script(
        "an integer that does not end",
        "RFC 7541, 5.1; h2 says PROTOCOL_ERROR for COMPRESSION_ERROR",
        || ending(&[[0xff].as_slice(), &[0xff; 12], &[0x7f]].concat()),
        Goaway(PROTOCOL_ERROR),
    ),
    script(
        "a string that is longer than its block",
        "RFC 7541, 5.2; h2 says PROTOCOL_ERROR for COMPRESSION_ERROR",
        || ending(&[0, 1, b'x', 100, b'y']),
        Goaway(PROTOCOL_ERROR),
    ),
    script(
        "Huffman code with the end of strings within",
        "RFC 7541, 5.2; h2 says PROTOCOL_ERROR for COMPRESSION_ERROR",
        || ending(&[0, 1, b'x', 0x84, 0xff, 0xff, 0xff, 0xff]),
        Goaway(PROTOCOL_ERROR),
    ),
    script(
        "Huffman code with 8 bits of padding",
        "RFC 7541, 5.2; h2 says PROTOCOL_ERROR for COMPRESSION_ERROR",
        // `a` is 00011.
        || ending(&[0, 1, b'x', 0x82, 0b0001_1111, 0xff]),
        Goaway(PROTOCOL_ERROR),
    ),
    script(
        "Huffman code with padding of zeros",
        "RFC 7541, 5.2; h2 says PROTOCOL_ERROR for COMPRESSION_ERROR",
        || ending(&[0, 1, b'x', 0x81, 0b0001_1000]),
        Goaway(PROTOCOL_ERROR),
    ),
    script(
        "Huffman code that is right",
        "RFC 7541, 5.2",
        || ending(&[0, 1, b'x', 0x81, 0b0001_1111]),
        Status(1, 200),
    ),
    script(
        "a table larger than it may be",
        "RFC 7541, 6.3; h2 says PROTOCOL_ERROR for COMPRESSION_ERROR",
        // 5 bits of ones, then 8,192 - 31.
        || head(1, &[&[0x3f, 0xe1, 0x3f], &get_block()[..]].concat(), true),
        Goaway(PROTOCOL_ERROR),
    ),
    script(
        "a table that changes behind a field",
        "RFC 7541, 4.2; h2 says PROTOCOL_ERROR for COMPRESSION_ERROR",
        || ending(&[0x20]),
        Goaway(PROTOCOL_ERROR),
    ),
    script(
        "a table that changes with each of many requests",
        "RFC 7541, 4.2: allowed twice in a block",
        || {
            repeated(50, |id| {
                head(id, &[&[0x20, 0x3f, 0xe1, 0x1f], &get_block()[..]].concat(), true)
            })
        },
        Serves,
    ),
    script(
        "a block that is empty",
        "RFC 9113, 8.3.1",
        || [head(1, &[], true), get(3)].concat(),
        Status(3, 200),
    ),
    script(
        "a list of fields over the bound",
        "CVE-2016-6581",
        || head(1, &bomb(200), true),
        Status(1, 431),
    ),
    script(
        "a list of fields far over the bound",
        "CVE-2016-6581",
        || head(1, &bomb(15_000), true),
        Goaway(ENHANCE_YOUR_CALM),
    ),
    script(
        "lists of fields just under the bound",
        "CVE-2026-47774: all that run have 256 KiB together",
        || repeated(99, |id| head(id, &bomb(90), false)),
        Reset(197, REFUSED_STREAM),
    ),
    script(
        "a string of 60000 bytes",
        "CVE-2024-27316",
        || {
            let length = 60_000 - 127;
            let varint = [
                0x7f,
                0x80 | (length & 0x7f) as u8,
                0x80 | (length >> 7 & 0x7f) as u8,
                (length >> 14) as u8,
            ];
            ending(&[&[0, 1, b'x'], &varint[..], &[b'y'; 60_000]].concat())
        },
        Status(1, 431),
    ),
];
