//! The foreign function `verify_signature`.

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA512, RsaEncoding, RsaKeyPair,
};
use http::Method;
use tempfile::TempDir;

use super::{Beside, guest};
use crate::guests::Guest;
use crate::harness::request;
use crate::origin::{Origin, Speaks};

/// The argument of `verify_signature`: fields 1 to 4, each with its number, type and length.
fn signature_arguments(hash: &str, key: &[u8], signature: &[u8], text: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    for (number, field) in (1_u8..).zip([hash.as_bytes(), key, signature, text]) {
        let length = u16::try_from(field.len()).expect("short");
        // Two bytes are always enough of a varint here.
        let length = [(length & 0x7f) as u8 | 0x80, u8::try_from(length >> 7).expect("short")];
        message.extend([&[number << 3 | 2], &length[..], field].concat());
    }
    message
}

/// A guest that asks `verify_signature`, and tells the status and the tag of the answer's first field
/// in `x-verified`, each as a character from `0` on: `8` is the result, true, `B` is an error's text.
fn verifying(argument: &[u8]) -> Guest {
    let bytes: String = argument.iter().map(|byte| format!("\\{byte:02x}")).collect();
    let length = argument.len();
    Guest::on_request(&format!(
        "(i32.store (i32.const 40012) (i32.const 0))
         (i32.store8 (i32.const 40000) (i32.add (i32.const 48)
           (call $foreign {{verify_signature}} (i32.const 50000) (i32.const {length})
             (i32.const 40008) (i32.const 40012))))
         (if (i32.load (i32.const 40012)) (then
           (i32.store8 (i32.const 40001) (i32.add (i32.const 48)
             (i32.load8_u (i32.load (i32.const 40008)))))
           (local.set $i (i32.const 1))))
         (call $add (i32.const 0) {{x-verified}}
           (i32.const 40000) (i32.add (i32.const 1) (local.get $i)))
         (i32.const 0))
         (data (i32.const 50000) \"{bytes}\") (func"
    ))
}

/// A public key in DER, and what signs `text` with it.
fn rsa_signature(padding: &'static dyn RsaEncoding) -> (Vec<u8>, Vec<u8>) {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let key: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
    let mut signature = vec![0; pair.public_modulus_len()];
    pair.sign(padding, &SystemRandom::new(), b"text", &mut signature).unwrap();
    (key.as_ref().to_vec(), signature)
}

fn ecdsa_signature(algorithm: &'static EcdsaSigningAlgorithm) -> (Vec<u8>, Vec<u8>) {
    let pair = EcdsaKeyPair::generate(algorithm).unwrap();
    let key: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
    let signature = pair.sign(&SystemRandom::new(), b"text").unwrap();
    (key.as_ref().to_vec(), signature.as_ref().to_vec())
}

#[tokio::test]
async fn verify_signature_answers_the_same_on_envoy() {
    let (key, good) = rsa_signature(&RSA_PKCS1_SHA256);
    let (key512, good512) = rsa_signature(&RSA_PKCS1_SHA512);
    let (p256, by_p256) = ecdsa_signature(&ECDSA_P256_SHA256_ASN1_SIGNING);
    let (p384, by_p384) = ecdsa_signature(&ECDSA_P384_SHA384_ASN1_SIGNING);
    let dir = TempDir::new().unwrap();
    let mut wanted = Vec::new();
    let mut plugins = Vec::new();
    for (name, argument, answer) in [
        ("good", signature_arguments("sha256", &key, &good, b"text"), "08"),
        ("upper", signature_arguments("SHA256", &key, &good, b"text"), "08"),
        ("long", signature_arguments("sha512", &key512, &good512, b"text"), "08"),
        ("p256", signature_arguments("sha256", &p256, &by_p256, b"text"), "08"),
        ("p384", signature_arguments("sha384", &p384, &by_p384, b"text"), "08"),
        ("text", signature_arguments("sha256", &key, &good, b"other"), "0B"),
        ("other", signature_arguments("sha256", &p256, &good, b"text"), "0B"),
        ("hash", signature_arguments("sha512", &key, &good, b"text"), "0B"),
        ("none", signature_arguments("md5", &key, &good, b"text"), "0B"),
        ("cut", signature_arguments("sha256", &key[1..], &good, b"text"), "0B"),
        ("junk", signature_arguments("sha256", b"junk", &good, b"text"), "0B"),
        ("keyless", signature_arguments("sha256", b"", &good, b"text"), "2"),
        ("empty", Vec::new(), "2"),
        ("garbage", vec![0xff; 9], "2"),
    ] {
        plugins.push(guest(&dir, name, verifying(&argument)));
        wanted.push(answer);
    }
    let origins = vec![("origin", Origin::named(Speaks::Http1, "origin").await)];
    let beside = Beside::start(dir, &plugins, &[], origins).await;

    let exchange = beside.same(request(Method::GET, "/", "")).await;

    assert_eq!(exchange.reached[0].header("x-verified"), wanted);
}
