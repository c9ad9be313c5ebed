//! The foreign function `verify_signature`, with the argument encoding that Envoy has.
//!
//! An RSA check costs about 17 times more inside a guest than here (design decision 6).
//!
//! # Source
//!
//! Envoy, `source/extensions/common/wasm/ext/verify_signature.proto`: arguments are
//! `hash_function = 1`, `public_key = 2` (DER, SubjectPublicKeyInfo), `signature = 3`, `text = 4`;
//! the result is `result = 1` (bool), `error = 2` (string).

use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use waypoint_abi::Status;

/// Largest signature, key and text together, in bytes.
const ARGUMENTS_BYTES_MAX: usize = 256 * 1024;

const OID_RSA: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const OID_P256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const OID_P384: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];

/// Checks a signature: RSA PKCS#1 v1.5 (2048–8192 bits) or ECDSA with an ASN.1 signature.
///
/// # Errors
///
/// `BAD_ARGUMENT` when the arguments do not parse or name no key.
pub(super) fn call(arguments: &[u8]) -> Result<Vec<u8>, Status> {
    if arguments.len() > ARGUMENTS_BYTES_MAX {
        return Err(Status::BadArgument);
    }
    let arguments = Arguments::parse(arguments).ok_or(Status::BadArgument)?;
    if arguments.public_key.is_empty() {
        return Err(Status::BadArgument);
    }
    let Some(kind) = KeyKind::of(arguments.public_key) else {
        return Ok(encode_error("the key is not supported"));
    };
    let Some(algorithm) = kind.algorithm(arguments.hash_function) else {
        return Ok(encode_error("the hash function is not supported for this key"));
    };
    let key = UnparsedPublicKey::new(algorithm, arguments.public_key);
    Ok(match key.verify(arguments.text, arguments.signature) {
        Ok(()) => vec![0x08, 0x01],
        Err(_) => encode_error("signature does not verify"),
    })
}

#[derive(Default)]
struct Arguments<'a> {
    hash_function: &'a [u8],
    public_key: &'a [u8],
    signature: &'a [u8],
    text: &'a [u8],
}

impl<'a> Arguments<'a> {
    /// Every field that we know is length-delimited; anything else does not parse.
    fn parse(mut input: &'a [u8]) -> Option<Self> {
        let mut arguments = Self::default();
        while !input.is_empty() {
            let tag = varint(&mut input)?;
            if tag & 7 != 2 {
                return None;
            }
            let length = usize::try_from(varint(&mut input)?).ok()?;
            let (value, rest) = input.split_at_checked(length)?;
            input = rest;
            match tag >> 3 {
                1 => arguments.hash_function = value,
                2 => arguments.public_key = value,
                3 => arguments.signature = value,
                4 => arguments.text = value,
                _ => {}
            }
        }
        Some(arguments)
    }
}

fn varint(input: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = input.split_first()?;
        *input = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn encode_error(message: &str) -> Vec<u8> {
    let length = u8::try_from(message.len()).expect("messages are short literals");
    debug_assert!(length < 0x80, "one varint byte");
    [&[0x12, length], message.as_bytes()].concat()
}

/// What a key's own identifier says that it is.
enum KeyKind {
    Rsa,
    P256,
    P384,
}

impl KeyKind {
    /// The identifier stands at the start of a SubjectPublicKeyInfo.
    fn of(key: &[u8]) -> Option<Self> {
        let head = &key[..key.len().min(40)];
        let has = |oid: &[u8]| head.windows(oid.len()).any(|window| window == oid);
        match () {
            () if has(OID_RSA) => Some(Self::Rsa),
            () if has(OID_P256) => Some(Self::P256),
            () if has(OID_P384) => Some(Self::P384),
            () => None,
        }
    }

    fn algorithm(&self, hash: &[u8]) -> Option<&'static dyn VerificationAlgorithm> {
        match (self, hash.to_ascii_lowercase().as_slice()) {
            (Self::Rsa, b"sha256") => Some(&signature::RSA_PKCS1_2048_8192_SHA256),
            (Self::Rsa, b"sha384") => Some(&signature::RSA_PKCS1_2048_8192_SHA384),
            (Self::Rsa, b"sha512") => Some(&signature::RSA_PKCS1_2048_8192_SHA512),
            (Self::P256, b"sha256") => Some(&signature::ECDSA_P256_SHA256_ASN1),
            (Self::P256, b"sha384") => Some(&signature::ECDSA_P256_SHA384_ASN1),
            (Self::P384, b"sha256") => Some(&signature::ECDSA_P384_SHA256_ASN1),
            (Self::P384, b"sha384") => Some(&signature::ECDSA_P384_SHA384_ASN1),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
    };
    use aws_lc_rs::{encoding::AsDer, encoding::PublicKeyX509Der, rsa::KeySize};

    use super::*;

    fn encode(hash: &str, key: &[u8], signature: &[u8], text: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for (field, value) in [(1, hash.as_bytes()), (2, key), (3, signature), (4, text)] {
            out.push(field << 3 | 2);
            let mut length = value.len();
            while length > 0x7f {
                out.push((length & 0x7f) as u8 | 0x80);
                length >>= 7;
            }
            out.push(length as u8);
            out.extend_from_slice(value);
        }
        out
    }

    #[test]
    fn an_rsa_signature_verifies_and_a_changed_text_does_not() {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), b"text", &mut signature).unwrap();
        let der: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        assert_eq!(call(&encode("sha256", der.as_ref(), &signature, b"text")).unwrap(), [8, 1]);
        let refused = call(&encode("sha256", der.as_ref(), &signature, b"texts")).unwrap();
        assert_eq!(refused[0], 0x12);
    }

    #[test]
    fn an_ecdsa_signature_verifies() {
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let signature = pair.sign(&random, b"text").unwrap();
        let der: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        let arguments = encode("SHA256", der.as_ref(), signature.as_ref(), b"text");
        assert_eq!(call(&arguments).unwrap(), [8, 1]);
    }

    #[test]
    fn a_key_of_another_kind_verifies_nothing() {
        let answer = call(&encode("sha256", b"a key", b"a signature", b"text")).unwrap();
        assert_eq!(answer[0], 0x12);
    }

    #[test]
    fn broken_arguments_are_refused_and_never_panic() {
        for bytes in [&[0x0a][..], &[0x0a, 0xff, 0xff], &[0x08, 1], &[0xff; 12], b"\x0a\x06sha256"]
        {
            assert!(call(bytes).is_err(), "{bytes:?}");
        }
    }
}
