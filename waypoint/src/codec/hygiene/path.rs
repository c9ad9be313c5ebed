//! The one spelling of a path: what policy reads is what the origin gets.

use std::borrow::Cow;

use super::{Refusal, framing::hex_value};

#[cfg(test)]
mod tests;

/// What becomes of `%2F` and `%5C` in a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EncodedSlashes {
    /// 400: an origin may decode them into path separators after policy has read the path.
    #[default]
    Refuse,
    /// Kept as they are, in upper case.
    Keep,
}

/// Gives a path (without its query) its one spelling; a second time changes nothing.
///
/// Percent-escapes of unreserved characters are decoded, the others get upper-case digits; then
/// runs of slashes become one; then dot segments are resolved, never above the root. Parameters
/// (`;x=1`) are kept, for they belong to the origin.
///
/// # Errors
///
/// An escape that is none, `%00`, a dot segment with parameters (which some origins resolve), and,
/// unless they are to be kept, `%2F` and `%5C`.
///
/// # Source
///
/// RFC 3986, 6.2.2 and 5.2.4.
pub fn normalise_path(path: &str, slashes: EncodedSlashes) -> Result<Cow<'_, str>, Refusal> {
    if is_normal(path) {
        return Ok(Cow::Borrowed(path));
    }
    let decoded = decode_unreserved(path, slashes)?;
    resolve_segments(&decoded).map(Cow::Owned)
}

/// Whether there is nothing to do: the common case, told in one pass.
fn is_normal(path: &str) -> bool {
    let bytes = path.as_bytes();
    let pairs = bytes.iter().zip(bytes.iter().skip(1));
    !bytes.contains(&b'%') && pairs.into_iter().all(|pair| !matches!(pair, (b'/', b'/' | b'.')))
}

fn decode_unreserved(path: &str, slashes: EncodedSlashes) -> Result<String, Refusal> {
    let mut decoded = String::with_capacity(path.len());
    let mut parts = path.split('%');
    decoded.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let [high, low, ..] = *part.as_bytes() else {
            return Err(Refusal::PathEscapeMalformed);
        };
        if !high.is_ascii_hexdigit() || !low.is_ascii_hexdigit() {
            return Err(Refusal::PathEscapeMalformed);
        }
        match hex_value(high) << 4 | hex_value(low) {
            0 => return Err(Refusal::PathNul),
            b'/' | b'\\' if slashes == EncodedSlashes::Refuse => {
                return Err(Refusal::PathEncodedSlash);
            }
            byte if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => {
                decoded.push(char::from(byte));
            }
            _ => {
                let digits = [high, low].map(|digit| char::from(digit.to_ascii_uppercase()));
                decoded.push('%');
                decoded.extend(digits);
            }
        }
        // Both digits are ASCII, so this is a boundary.
        decoded.push_str(&part[2..]);
    }
    Ok(decoded)
}

/// Merges slashes and resolves dot segments.
fn resolve_segments(path: &str) -> Result<String, Refusal> {
    let mut resolved = String::with_capacity(path.len());
    let mut directory = true;
    for segment in path.split('/').skip(1) {
        directory = match segment {
            "" | "." => true,
            ".." => {
                resolved.truncate(resolved.rfind('/').unwrap_or(0));
                true
            }
            _ if has_dot_parameters(segment) => return Err(Refusal::PathDotParameters),
            _ => {
                resolved.push('/');
                resolved.push_str(segment);
                false
            }
        };
    }
    if directory {
        resolved.push('/');
    }
    Ok(resolved)
}

fn has_dot_parameters(segment: &str) -> bool {
    let after = segment.strip_prefix("..").or_else(|| segment.strip_prefix('.'));
    after.is_some_and(|after| after.starts_with(';') || after.starts_with("%3B"))
}
