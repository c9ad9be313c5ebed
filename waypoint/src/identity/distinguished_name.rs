//! Names of subjects as text.

use std::fmt::Write as _;

use x509_parser::oid_registry::Oid;
use x509_parser::x509::X509Name;

/// Short names of attributes; another one is written as its number.
///
/// # Source
///
/// RFC 2253, section 2.3, and OpenSSL's names of those that it leaves out.
const SHORT: [(&str, &str); 10] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.5", "serialNumber"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "street"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("0.9.2342.19200300.100.1.25", "DC"),
];

/// A name in one line, most specific part first, as Envoy and OpenSSL (`XN_FLAG_RFC2253`) write it.
/// It is printable ASCII, whatever the certificate holds.
///
/// # Source
///
/// RFC 2253, section 2.
pub(super) fn rfc2253(name: &X509Name<'_>) -> String {
    let mut out = String::new();
    let parts: Vec<_> = name.iter_rdn().collect();
    for (index, part) in parts.iter().rev().enumerate() {
        for (number, attribute) in part.iter().enumerate() {
            match (index, number) {
                (0, 0) => {}
                (_, 0) => out.push(','),
                _ => out.push('+'),
            }
            out.push_str(&kind(attribute.attr_type()));
            out.push('=');
            match attribute.as_str() {
                Ok(text) => escape(&mut out, text),
                // Of another type of text: its bytes.
                Err(_) => {
                    out.push('#');
                    attribute.as_slice().iter().for_each(|byte| hex(&mut out, *byte));
                }
            }
        }
    }
    out
}

fn kind(oid: &Oid<'_>) -> String {
    let number = oid.to_id_string();
    let short = SHORT.iter().find(|(known, _)| *known == number);
    short.map_or(number, |(_, short)| (*short).to_owned())
}

fn escape(out: &mut String, text: &str) {
    let last = text.len().saturating_sub(1);
    for (index, byte) in text.bytes().enumerate() {
        let at_an_end =
            (byte == b' ' && (index == 0 || index == last)) || (byte == b'#' && index == 0);
        match byte {
            b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';' => {
                out.extend(['\\', char::from(byte)]);
            }
            _ if at_an_end => out.extend(['\\', char::from(byte)]),
            b' '..=b'~' => out.push(char::from(byte)),
            _ => {
                out.push('\\');
                hex(out, byte);
            }
        }
    }
}

fn hex(out: &mut String, byte: u8) {
    // Writing to a String cannot fail.
    let _ = write!(out, "{byte:02X}");
}
