//! Takes callbacks that a filter does not implement out of its module's exports.
//!
//! The `proxy-wasm` crate exports every callback, so that a host must call each of them on every
//! stream, only to be told to go on. A module that says what it implements costs its host nothing
//! for the rest.

/// The callbacks about streams that a filter may do without.
const STREAM_CALLBACKS: [&str; 8] = [
    "proxy_on_request_headers",
    "proxy_on_request_body",
    "proxy_on_request_trailers",
    "proxy_on_response_headers",
    "proxy_on_response_body",
    "proxy_on_response_trailers",
    "proxy_on_log",
    "proxy_on_done",
];

/// WebAssembly Core 2.0, section 5.5.10: the export section's id.
const EXPORT_SECTION: u8 = 7;

/// The module without those stream callbacks that are not in `kept`; `None` if it does not parse.
pub(crate) fn keep(module: &[u8], kept: &[&str]) -> Option<Vec<u8>> {
    let (header, mut rest) = module.split_at_checked(8)?;
    let mut out = header.to_vec();
    while let Some((&id, after)) = rest.split_first() {
        rest = after;
        let size = usize::try_from(leb(&mut rest)?).ok()?;
        let (section, after) = rest.split_at_checked(size)?;
        rest = after;
        let section = match id {
            EXPORT_SECTION => filtered(section, kept)?,
            _ => section.to_vec(),
        };
        out.push(id);
        push_leb(&mut out, section.len());
        out.extend(section);
    }
    Some(out)
}

fn filtered(mut section: &[u8], kept: &[&str]) -> Option<Vec<u8>> {
    let (mut count, mut exports) = (0, Vec::new());
    for _ in 0..leb(&mut section)? {
        let whole = section;
        let length = usize::try_from(leb(&mut section)?).ok()?;
        let (name, after) = section.split_at_checked(length)?;
        section = after.get(1..)?;
        leb(&mut section)?;
        let name = std::str::from_utf8(name).ok()?;
        if kept.contains(&name) || !STREAM_CALLBACKS.contains(&name) {
            count += 1;
            exports.extend_from_slice(&whole[..whole.len() - section.len()]);
        }
    }
    let mut out = Vec::with_capacity(exports.len() + 5);
    push_leb(&mut out, count);
    out.extend(exports);
    Some(out)
}

/// An unsigned LEB128 number of at most 32 bits.
fn leb(input: &mut &[u8]) -> Option<u32> {
    let mut value = 0_u32;
    for shift in (0..32).step_by(7) {
        let (&byte, rest) = input.split_first()?;
        *input = rest;
        value |= u32::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn push_leb(out: &mut Vec<u8>, mut value: usize) {
    loop {
        let byte = (value & 0x7f) as u8;
        value >>= 7;
        out.push(if value == 0 { byte } else { byte | 0x80 });
        if value == 0 {
            return;
        }
    }
}
