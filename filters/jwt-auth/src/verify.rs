//! Checks a signature with a key: in the guest, or by the host, which is many times faster.

use std::cell::Cell;

use rsa::traits::SignatureScheme;
use sha2::{Digest, Sha256};
use waypoint_sdk::foreign::{self, ForeignError};

use crate::keys::{Key, Material};

/// Checks signatures.
pub trait Verifier {
    /// `true` when `signature` is one of `text` by the key, in the algorithm that the key is for.
    fn verify(&self, key: &Key, text: &[u8], signature: &[u8]) -> bool;
}

/// Checks them here.
#[derive(Clone, Copy, Debug, Default)]
pub struct InGuest;

impl Verifier for InGuest {
    fn verify(&self, key: &Key, text: &[u8], signature: &[u8]) -> bool {
        match &key.material {
            Material::Rsa { n, e } => rsa_pkcs1(n, e, text, signature),
            Material::P256(point) => p256_ecdsa(point, text, signature),
            Material::Ed25519(key) => ed25519(key, text, signature),
        }
    }
}

/// Asks the host for what costs most in a guest, and checks here what the host cannot.
#[derive(Clone, Debug, Default)]
pub struct OnHost {
    /// The host does not know the function: do not ask again.
    unknown: Cell<bool>,
}

impl Verifier for OnHost {
    fn verify(&self, key: &Key, text: &[u8], signature: &[u8]) -> bool {
        let (public_key, signature_der) = match &key.material {
            _ if self.unknown.get() => return InGuest.verify(key, text, signature),
            // Cheap in a guest, and not in Envoy's function.
            Material::Ed25519(_) => return InGuest.verify(key, text, signature),
            Material::Rsa { n, e } => (rsa_spki(n, e), signature.to_vec()),
            Material::P256(point) => match ecdsa_der(signature) {
                Some(der) => (p256_spki(point), der),
                None => return false,
            },
        };
        let asked = foreign::Signature {
            hash: "sha256",
            public_key: &public_key,
            signature: &signature_der,
            text,
        };
        match foreign::verify_signature(&asked) {
            Ok(good) => good,
            Err(error) => {
                self.unknown.set(error == ForeignError::Unknown);
                InGuest.verify(key, text, signature)
            }
        }
    }
}

fn rsa_pkcs1(n: &[u8], e: &[u8], text: &[u8], signature: &[u8]) -> bool {
    let (n, e) = (rsa::BigUint::from_bytes_be(n), rsa::BigUint::from_bytes_be(e));
    // `new` stops at 4096 bits.
    let Ok(key) = rsa::RsaPublicKey::new_with_max_size(n, e, *crate::keys::RSA_BITS.end()) else {
        return false;
    };
    rsa::Pkcs1v15Sign::new::<Sha256>().verify(&key, &Sha256::digest(text), signature).is_ok()
}

/// A signature is the pair r, s of 32 bytes each, both from 1 to the curve's order less 1. JOSE does
/// not demand the lower of the two possible `s`, and common signers do not make it: both count.
fn p256_ecdsa(point: &[u8; 65], text: &[u8], signature: &[u8]) -> bool {
    use p256::ecdsa::signature::Verifier as _;
    let key = p256::ecdsa::VerifyingKey::from_sec1_bytes(point);
    let signature = p256::ecdsa::Signature::from_slice(signature);
    key.is_ok_and(|key| signature.is_ok_and(|signature| key.verify(text, &signature).is_ok()))
}

fn ed25519(key: &[u8; 32], text: &[u8], signature: &[u8]) -> bool {
    let key = ed25519_dalek::VerifyingKey::from_bytes(key);
    let signature = ed25519_dalek::Signature::from_slice(signature);
    key.is_ok_and(|key| {
        signature.is_ok_and(|signature| key.verify_strict(text, &signature).is_ok())
    })
}

/// A value of DER: tag, length, content.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let len = content.len();
    let mut value = vec![tag];
    // A key of 8192 bits stays far below 64 KiB.
    match len {
        0..=0x7f => value.push(len as u8),
        0x80..=0xff => value.extend([0x81, len as u8]),
        _ => value.extend([0x82, (len >> 8) as u8, len as u8]),
    }
    value.extend_from_slice(content);
    value
}

/// A positive integer of DER, without needless zeros in front.
fn der_integer(bytes: &[u8]) -> Vec<u8> {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let mut content = bytes[zeros..].to_vec();
    if content.first().is_none_or(|first| *first >= 0x80) {
        content.insert(0, 0);
    }
    der(0x02, &content)
}

/// SubjectPublicKeyInfo of an RSA key (RFC 3279).
fn rsa_spki(n: &[u8], e: &[u8]) -> Vec<u8> {
    const RSA_ENCRYPTION: &[u8] =
        &[0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];
    let key = der(0x30, &[der_integer(n), der_integer(e)].concat());
    let bits = der(0x03, &[&[0], key.as_slice()].concat());
    der(0x30, &[RSA_ENCRYPTION, &bits].concat())
}

/// SubjectPublicKeyInfo of a P-256 key (RFC 5480).
fn p256_spki(point: &[u8; 65]) -> Vec<u8> {
    const EC_P256: &[u8] = &[
        0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
        0x48, 0xce, 0x3d, 0x03, 0x01, 0x07,
    ];
    let bits = der(0x03, &[&[0], point.as_slice()].concat());
    der(0x30, &[EC_P256, &bits].concat())
}

/// `ECDSA-Sig-Value` of JOSE's pair; `None` when it is not one.
fn ecdsa_der(signature: &[u8]) -> Option<Vec<u8>> {
    p256::ecdsa::Signature::from_slice(signature).ok()?;
    let (r, s) = signature.split_at(32);
    Some(der(0x30, &[der_integer(r), der_integer(s)].concat()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests {
    use super::*;
    use crate::testing::{
        EC, OKP, RFC_7515_A2, RFC_7515_A3, RFC_8037_A4, RSA, answer_verify_signature, key, parts,
    };
    use waypoint_sdk::testing;

    /// r or s of a P-256 signature replaced by the curve's order less itself.
    fn other_s(signature: &[u8]) -> Vec<u8> {
        let signature = p256::ecdsa::Signature::from_slice(signature).unwrap();
        let (r, s) = (signature.r(), signature.s());
        p256::ecdsa::Signature::from_scalars(*r, -*s).unwrap().to_bytes().to_vec()
    }

    fn check(verifier: &impl Verifier) {
        let vectors = [(RSA, RFC_7515_A2), (EC, RFC_7515_A3), (OKP, RFC_8037_A4)];
        for (jwk, token) in vectors {
            let (text, signature) = parts(token);
            let verify = |signature: &[u8]| verifier.verify(&key(jwk), text.as_bytes(), signature);
            assert!(verify(&signature), "{token}");
            assert!(!verifier.verify(&key(jwk), b"other", &signature));
            for (other, _) in vectors.iter().filter(|(other, _)| *other != jwk) {
                assert!(!verifier.verify(&key(other), text.as_bytes(), &signature), "{other}");
            }
            let mut flipped = signature.clone();
            *flipped.last_mut().unwrap() ^= 1;
            let longer = [signature.as_slice(), &[0]].concat();
            let shorter = &signature[..signature.len() - 1];
            let zeros = vec![0; signature.len()];
            for bad in [&flipped, &longer, shorter, &zeros, &[]] {
                assert!(!verify(bad), "{bad:?} of {token}");
            }
        }
        let (text, signature) = parts(RFC_7515_A3);
        let der = ecdsa_der(&signature).unwrap();
        assert!(!verifier.verify(&key(EC), text.as_bytes(), &der), "DER is not JOSE's form");
        let other = other_s(&signature);
        assert!(verifier.verify(&key(EC), text.as_bytes(), &other), "either s counts");
    }

    #[test]
    fn the_vectors_of_the_rfcs_pass_in_the_guest_and_what_differs_does_not() {
        check(&InGuest);
    }

    #[test]
    fn the_vectors_of_the_rfcs_pass_on_a_host_with_the_function() {
        testing::reset();
        testing::with(|host| host.foreign("verify_signature", answer_verify_signature));
        check(&OnHost::default());
        assert!(testing::with(|host| host.foreign_calls.len()) > 10);
    }

    #[test]
    fn a_host_without_the_function_is_asked_once() {
        testing::reset();
        check(&OnHost::default());
        assert_eq!(testing::with(|host| host.foreign_calls.len()), 1);
    }

    #[test]
    fn a_host_that_fails_is_not_believed() {
        testing::reset();
        testing::with(|host| host.foreign("verify_signature", |_| Err(ForeignError::Failed)));
        check(&OnHost::default());
    }
}
