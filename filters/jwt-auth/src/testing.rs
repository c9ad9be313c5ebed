//! Keys, tokens and a host's `verify_signature` for the tests of this crate.
#![allow(clippy::unwrap_used, reason = "a test")]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use p256::pkcs8::DecodePublicKey as _;
use waypoint_sdk::foreign::ForeignError;

use crate::keys::{Key, KeySet};

/// RFC 7515 A.2.
pub(crate) const RSA: &str = r#"{"kty": "RSA", "e": "AQAB", "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"}"#;
/// RFC 7515 A.3.
pub(crate) const EC: &str = r#"{"kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;
/// RFC 8037 A.2.
pub(crate) const OKP: &str =
    r#"{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
/// The private part of [`OKP`], RFC 8037 A.1.
const OKP_SECRET: &str = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A";
/// The private part of [`EC`], RFC 7515 A.3.
const EC_SECRET: &str = "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI";

pub(crate) const RFC_7515_A2: &str = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
pub(crate) const RFC_7515_A3: &str = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
pub(crate) const RFC_8037_A4: &str = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";

pub(crate) fn key(jwk: &str) -> Key {
    let set = KeySet::parse(format!("{{\"keys\": [{jwk}]}}").as_bytes()).unwrap();
    crate::keys::Algorithm::ALL.iter().find_map(|alg| set.of(*alg).next().cloned()).unwrap()
}

/// What was signed, and the signature.
pub(crate) fn parts(token: &str) -> (&str, Vec<u8>) {
    let (text, signature) = token.rsplit_once('.').unwrap();
    (text, decode(signature))
}

fn decode(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text).unwrap()
}

pub(crate) fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A token signed with the key of RFC 8037, whatever its header says.
pub(crate) fn sign(header: &str, claims: &str) -> String {
    use ed25519_dalek::Signer as _;
    let secret = <[u8; 32]>::try_from(decode(OKP_SECRET)).unwrap();
    let text = format!("{}.{}", encode(header), encode(claims));
    let signature = ed25519_dalek::SigningKey::from_bytes(&secret).sign(text.as_bytes());
    format!("{text}.{}", encode(signature.to_bytes()))
}

/// A token signed with the key of RFC 7515 A.3, whatever its header says.
pub(crate) fn sign_es256(header: &str, claims: &str) -> String {
    use p256::ecdsa::signature::Signer as _;
    let text = format!("{}.{}", encode(header), encode(claims));
    let secret = p256::ecdsa::SigningKey::from_slice(&decode(EC_SECRET)).unwrap();
    let signature: p256::ecdsa::Signature = secret.sign(text.as_bytes());
    format!("{text}.{}", encode(signature.to_bytes()))
}

/// Fields of the message that the SDK sends, by number less one.
fn fields(mut message: &[u8]) -> [Vec<u8>; 4] {
    let mut fields = [const { Vec::new() }; 4];
    while let [tag, rest @ ..] = message {
        let (mut len, mut at) = (0, 0);
        loop {
            len |= usize::from(rest[at] & 0x7f) << (7 * at);
            at += 1;
            if rest[at - 1] < 0x80 {
                break;
            }
        }
        fields[usize::from(tag >> 3) - 1] = rest[at..at + len].to_vec();
        message = &rest[at + len..];
    }
    fields
}

/// Envoy's `verify_signature`, from its own description.
pub(crate) fn answer_verify_signature(message: &[u8]) -> Result<Vec<u8>, ForeignError> {
    use p256::ecdsa::signature::Verifier as _;
    use sha2::Digest as _;
    let [hash, key, signature, text] = fields(message);
    assert_eq!(hash, b"sha256");
    let good = if let Ok(key) = p256::ecdsa::VerifyingKey::from_public_key_der(&key) {
        let signature = p256::ecdsa::DerSignature::from_bytes(&signature);
        signature.is_ok_and(|signature| key.verify(&text, &signature).is_ok())
    } else if let Ok(key) = rsa::RsaPublicKey::from_public_key_der(&key) {
        let scheme = rsa::Pkcs1v15Sign::new::<sha2::Sha256>();
        key.verify(scheme, &sha2::Sha256::digest(&text), &signature).is_ok()
    } else {
        return Err(ForeignError::BadArgument);
    };
    Ok(if good { vec![0x08, 0x01] } else { Vec::new() })
}
