//! Foreign functions: what a host offers beyond the ABI. Each may be missing.

use std::fmt;

use crate::host;

/// Why a foreign function gave no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForeignError {
    /// This host has no function of that name.
    Unknown,
    /// The host could not read the arguments, or refused a key in them.
    BadArgument,
    /// It failed.
    Failed,
}

impl fmt::Display for ForeignError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Unknown => "the host has no such function",
            Self::BadArgument => "the host refused the arguments",
            Self::Failed => "the host's function failed",
        })
    }
}

impl std::error::Error for ForeignError {}

/// Calls a foreign function by name.
///
/// # Errors
///
/// [`ForeignError::Unknown`] where the host does not have it.
pub fn call(name: &str, arguments: &[u8]) -> Result<Vec<u8>, ForeignError> {
    host::foreign(name, arguments)
}

/// Tells the host whether this VM may serve. Waypoint waits with the swap to a new configuration
/// until it is ready, within a bound; other hosts do not know it, which is no error.
///
/// Foreign function `waypoint_ready`; the argument is one byte, 0 or 1.
pub fn ready(ready: bool) {
    if call("waypoint_ready", &[u8::from(ready)]).is_err() {
        log::debug!("this host does not ask whether a filter is ready");
    }
}

/// A signature to verify, with the public key and the text that was signed.
#[derive(Clone, Copy, Debug)]
pub struct Signature<'a> {
    /// `sha256`, `sha384`, `sha512`.
    pub hash: &'a str,
    /// SubjectPublicKeyInfo in DER. Its algorithm decides: RSA means PKCS #1 v1.5.
    pub public_key: &'a [u8],
    /// RSA: as long as the modulus. ECDSA: `ECDSA-Sig-Value` in DER, not the pair of JOSE.
    pub signature: &'a [u8],
    /// What was signed, not its digest.
    pub text: &'a [u8],
}

/// Verifies a signature by the foreign function `verify_signature`, which costs a fraction of the
/// same check inside a guest.
///
/// # Encoding
///
/// The argument is Envoy's protobuf (proto3) message `VerifySignatureArguments`. Every field is
/// length-delimited (wire type 2), so that its tag is `number << 3 | 2`, then the length as a
/// varint, then the bytes:
///
/// | field | tag | type | meaning |
/// | --- | --- | --- | --- |
/// | 1 `hash_function` | `0x0a` | string | `sha1` … `sha512`, in any case; this SDK sends lower case |
/// | 2 `public_key` | `0x12` | bytes | SubjectPublicKeyInfo, DER |
/// | 3 `signature` | `0x1a` | bytes | PKCS #1 v1.5, or DER `ECDSA-Sig-Value` |
/// | 4 `text` | `0x22` | bytes | the signed text; the host hashes it |
/// | 5 `public_key_pem` | `0x2a` | string | instead of field 2; never sent by this SDK |
///
/// The answer is `VerifySignatureResult`: field 1 `result`, a bool (tag `0x08`, varint; left out
/// when false), and field 2 `error`, a string (tag `0x12`; left out when empty). Hence a good
/// signature answers the two bytes `08 01`. Fields may come in any order, the last of a number
/// counts, and unknown fields are skipped.
///
/// Status: OK for a good *and* for a bad signature (`result` tells them apart), for an unknown hash
/// function and for a key that cannot be read (`result` false, with an `error`); BAD_ARGUMENT when
/// the message cannot be read or when neither or both keys are given; NOT_FOUND when the host lacks
/// it.
///
/// # Errors
///
/// [`ForeignError`]; never an error for a signature that is merely wrong.
///
/// # Source
///
/// envoyproxy/envoy `source/extensions/common/wasm/ext/verify_signature.proto` and `foreign.cc`.
pub fn verify_signature(signature: &Signature<'_>) -> Result<bool, ForeignError> {
    let fields =
        [signature.hash.as_bytes(), signature.public_key, signature.signature, signature.text];
    let mut message = Vec::with_capacity(fields.iter().map(|field| field.len() + 6).sum());
    for (number, field) in (1_u8..).zip(fields) {
        message.push(number << 3 | 2);
        push_varint(&mut message, field.len());
        message.extend_from_slice(field);
    }
    let answer = call("verify_signature", &message)?;
    read_result(&answer).ok_or(ForeignError::Failed)
}

fn push_varint(message: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        message.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    message.push(value as u8);
}

/// Field 1 of a `VerifySignatureResult`; `None` when the message is not one.
fn read_result(mut message: &[u8]) -> Option<bool> {
    let mut result = false;
    while !message.is_empty() {
        match take_varint(&mut message)? {
            0x08 => result = take_varint(&mut message)? != 0,
            tag if tag & 7 == 0 => {
                take_varint(&mut message)?;
            }
            tag if tag & 7 == 2 => {
                let len = usize::try_from(take_varint(&mut message)?).ok()?;
                message = message.get(len..)?;
            }
            _ => return None,
        }
    }
    Some(result)
}

fn take_varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = message.split_first()?;
        *message = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn a_signature_is_sent_as_envoys_message_and_the_answer_read() {
        testing::reset();
        testing::with(|host| host.foreign("verify_signature", |_| Ok(vec![0x08, 0x01])));
        let text = [b't'; 200];
        let signature =
            Signature { hash: "sha256", public_key: b"key", signature: b"sig", text: &text };
        assert_eq!(verify_signature(&signature), Ok(true));
        let sent = testing::with(|host| host.foreign_calls.pop()).unwrap().1;
        let mut want = b"\x0a\x06sha256\x12\x03key\x1a\x03sig\x22\xc8\x01".to_vec();
        want.extend(text);
        assert_eq!(sent, want);
    }

    #[test]
    fn a_host_without_the_function_is_told_from_a_bad_signature() {
        testing::reset();
        let signature = Signature { hash: "sha256", public_key: b"", signature: b"", text: b"" };
        assert_eq!(verify_signature(&signature), Err(ForeignError::Unknown));
    }

    #[test]
    fn only_a_readable_answer_counts() {
        let cases: [(&[u8], Option<bool>); 8] = [
            (b"", Some(false)),
            (b"\x08\x01", Some(true)),
            (b"\x08\x00", Some(false)),
            (b"\x12\x03bad", Some(false)),
            (b"\x12\x00\x08\x01", Some(true)),
            (b"\x12\x09bad", None),
            (b"\x08", None),
            (b"\x0d\x01\x00\x00\x00", None),
        ];
        for (answer, want) in cases {
            assert_eq!(read_result(answer), want, "{answer:?}");
        }
    }
}
