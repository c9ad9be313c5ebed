//! Key sets: which public keys an issuer's tokens are checked with.
//!
//! A set is refused as a whole when it cannot be trusted to be what it seems: not strict JSON, too
//! large, a `kid` that names two keys, or secrets in it (a private or symmetric key that was
//! published is known to everybody). A key that is merely of no use here (another algorithm or
//! purpose, too short) is passed over, as RFC 7517 section 5 asks; a set of which no key is left is
//! refused.

use std::fmt;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{base64url, strict_json};

/// A set's text in bytes, at most.
pub const SET_BYTES_MAX: usize = 256 << 10;

/// A set's keys, at most.
pub const KEYS_MAX: usize = 100;

/// A key's RSA modulus in bits: shorter is weak, longer only costs time.
pub const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// How a signature is made. There is no `none` and no HMAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    #[serde(rename = "RS256")]
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    #[serde(rename = "ES256")]
    Es256,
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
}

impl Algorithm {
    /// Every algorithm.
    pub const ALL: [Self; 3] = [Self::Rs256, Self::Es256, Self::EdDsa];

    /// The name in `alg`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }
}

/// A public key, bound to the one algorithm that its kind has here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its name in the set.
    pub id: Option<String>,
    /// What it is made of.
    pub material: Material,
}

/// What a key is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Material {
    /// Modulus and exponent, big-endian without leading zeros.
    Rsa {
        /// The modulus.
        n: Vec<u8>,
        /// The exponent.
        e: Vec<u8>,
    },
    /// A point on the curve, uncompressed (SEC 1).
    P256([u8; 65]),
    /// An Ed25519 public key.
    Ed25519([u8; 32]),
}

impl Key {
    /// The algorithm that the key is for.
    pub fn algorithm(&self) -> Algorithm {
        match self.material {
            Material::Rsa { .. } => Algorithm::Rs256,
            Material::P256(_) => Algorithm::Es256,
            Material::Ed25519(_) => Algorithm::EdDsa,
        }
    }
}

/// Why a set is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetError {
    /// Over [`SET_BYTES_MAX`].
    TooLarge,
    /// Not strict JSON of the form `{"keys": [{…}, …]}`.
    Malformed,
    /// Over [`KEYS_MAX`].
    TooManyKeys,
    /// One `kid` names two keys.
    DuplicateKid,
    /// A private or symmetric key.
    Secret,
    /// No key of the set can be used.
    NoUsableKey,
}

impl fmt::Display for SetError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::TooLarge => "the key set is over 256 KiB",
            Self::Malformed => "expected a JSON Web Key Set: {\"keys\": [...]}, no name twice",
            Self::TooManyKeys => "the key set has over 100 keys",
            Self::DuplicateKid => "a kid names two keys",
            Self::Secret => "the key set has a private or symmetric key",
            Self::NoUsableKey => {
                "no key can be used: expected RSA of 2048 to 8192 bits, EC P-256 or OKP Ed25519, \
                 for RS256, ES256 or EdDSA, not use=enc"
            }
        })
    }
}

/// An issuer's usable keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeySet(Vec<Key>);

impl KeySet {
    /// Reads a set.
    ///
    /// # Errors
    ///
    /// [`SetError`] when the whole set is refused.
    pub fn parse(text: &[u8]) -> Result<Self, SetError> {
        if text.len() > SET_BYTES_MAX {
            return Err(SetError::TooLarge);
        }
        Self::read(&strict_json::object(text).ok_or(SetError::Malformed)?)
    }

    /// Reads a set from JSON that is known to be strict.
    ///
    /// # Errors
    ///
    /// [`SetError`] when the whole set is refused.
    pub fn read(set: &Map<String, Value>) -> Result<Self, SetError> {
        let jwks = set.get("keys").and_then(Value::as_array).ok_or(SetError::Malformed)?;
        if jwks.len() > KEYS_MAX {
            return Err(SetError::TooManyKeys);
        }
        let mut keys = Vec::new();
        let mut ids = Vec::new();
        for jwk in jwks {
            let jwk = jwk.as_object().ok_or(SetError::Malformed)?;
            let secret = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];
            if text(jwk, "kty") == Some("oct") || secret.iter().any(|name| jwk.contains_key(*name))
            {
                return Err(SetError::Secret);
            }
            if let Some(id) = jwk.get("kid") {
                let id = id.as_str().ok_or(SetError::Malformed)?;
                if ids.contains(&id) {
                    return Err(SetError::DuplicateKid);
                }
                ids.push(id);
            }
            keys.extend(read_key(jwk));
        }
        if keys.is_empty() { Err(SetError::NoUsableKey) } else { Ok(Self(keys)) }
    }

    /// The key of a name.
    pub fn named(&self, id: &str) -> Option<&Key> {
        self.0.iter().find(|key| key.id.as_deref() == Some(id))
    }

    /// All keys for an algorithm.
    pub fn of(&self, algorithm: Algorithm) -> impl Iterator<Item = &Key> {
        self.0.iter().filter(move |key| key.algorithm() == algorithm)
    }
}

fn text<'a>(jwk: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    jwk.get(name).and_then(Value::as_str)
}

fn bytes(jwk: &Map<String, Value>, name: &str) -> Option<Vec<u8>> {
    base64url(text(jwk, name)?)
}

/// `None`: the key is of no use here.
fn read_key(jwk: &Map<String, Value>) -> Option<Key> {
    if jwk.contains_key("use") && text(jwk, "use") != Some("sig") {
        return None;
    }
    if let Some(operations) = jwk.get("key_ops") {
        operations.as_array()?.iter().find(|operation| *operation == "verify")?;
    }
    let material = match text(jwk, "kty")? {
        "RSA" => rsa(bytes(jwk, "n")?, bytes(jwk, "e")?)?,
        "EC" if text(jwk, "crv") == Some("P-256") => p256(&bytes(jwk, "x")?, &bytes(jwk, "y")?)?,
        "OKP" if text(jwk, "crv") == Some("Ed25519") => ed25519(bytes(jwk, "x")?)?,
        _ => return None,
    };
    let key = Key { id: text(jwk, "kid").map(str::to_owned), material };
    let bound = jwk.get("alg").is_none_or(|algorithm| *algorithm == key.algorithm().name());
    bound.then_some(key)
}

fn rsa(n: Vec<u8>, e: Vec<u8>) -> Option<Material> {
    let (first, last) = (*n.first()?, *n.last()?);
    let bits = n.len() * 8 - first.leading_zeros() as usize;
    let odd = |byte: u8| byte & 1 == 1;
    // An exponent of 1 would make every text its own signature.
    let exponent = (1..=4).contains(&e.len()) && e[0] != 0 && odd(*e.last()?) && e != [1];
    let fits = first != 0 && odd(last) && RSA_BITS.contains(&bits);
    (fits && exponent).then_some(Material::Rsa { n, e })
}

fn p256(x: &[u8], y: &[u8]) -> Option<Material> {
    if x.len() != 32 || y.len() != 32 {
        return None;
    }
    let mut point = [4; 65];
    point[1..33].copy_from_slice(x);
    point[33..].copy_from_slice(y);
    // Checks that it is on the curve.
    p256::PublicKey::from_sec1_bytes(&point).ok()?;
    Some(Material::P256(point))
}

fn ed25519(x: Vec<u8>) -> Option<Material> {
    let x = <[u8; 32]>::try_from(x).ok()?;
    let key = ed25519_dalek::VerifyingKey::from_bytes(&x).ok()?;
    (!key.is_weak()).then_some(Material::Ed25519(x))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{EC, OKP, RSA};

    fn set(keys: &[&str]) -> String {
        format!("{{\"keys\": [{}]}}", keys.join(", "))
    }

    fn with(jwk: &str, members: &str) -> String {
        jwk.replacen('{', &format!("{{{members}, "), 1)
    }

    #[test]
    fn a_set_is_refused_or_a_key_passed_over_for_each_mistake() {
        use SetError::{DuplicateKid, Malformed, NoUsableKey, Secret, TooLarge, TooManyKeys};
        let one = |jwk: String| set(&[&jwk]);
        let rsa_1024 = format!(r#"{{"kty": "RSA", "e": "AQAB", "n": "{}"}}"#, "v".repeat(171));
        let many = vec![OKP; KEYS_MAX + 1];
        let cases = [
            (set(&[RSA, EC, OKP]), Ok(3)),
            (one(with(RSA, r#""use": "sig", "alg": "RS256", "key_ops": ["verify"]"#)), Ok(1)),
            (one(with(OKP, r#""x5u": "http://a", "kid": "k", "other": {}"#)), Ok(1)),
            // Passed over.
            (set(&[OKP, &with(EC, r#""use": "enc""#), &rsa_1024, r#"{"kty": "new"}"#]), Ok(1)),
            (one(rsa_1024.clone()), Err(NoUsableKey)),
            (one(with(RSA, r#""use": "enc""#)), Err(NoUsableKey)),
            (one(with(RSA, r#""use": 1"#)), Err(NoUsableKey)),
            (one(with(RSA, r#""key_ops": ["sign"]"#)), Err(NoUsableKey)),
            (one(with(RSA, r#""alg": "RS512""#)), Err(NoUsableKey)),
            (one(with(RSA, r#""alg": "ES256""#)), Err(NoUsableKey)),
            (one(with(EC, r#""alg": "HS256""#)), Err(NoUsableKey)),
            (one(RSA.replace("AQAB", "AQ")), Err(NoUsableKey)),
            (one(RSA.replace("AQAB", "AAEAAQ")), Err(NoUsableKey)),
            (one(RSA.replace("AQAB", "AQAB=")), Err(NoUsableKey)),
            (one(RSA.replace("AQAB", "AQAA")), Err(NoUsableKey)),
            (one(EC.replace("P-256", "P-384")), Err(NoUsableKey)),
            (one(EC.replace("f83O", "f83P")), Err(NoUsableKey)),
            (one(OKP.replace("Ed25519", "X25519")), Err(NoUsableKey)),
            (
                one(format!(r#"{{"kty": "OKP", "crv": "Ed25519", "x": "{}"}}"#, "A".repeat(43))),
                Err(NoUsableKey),
            ),
            (set(&[]), Err(NoUsableKey)),
            // Refused.
            (set(&[RSA, &with(OKP, r#""d": "AA""#)]), Err(Secret)),
            (set(&[RSA, &with(RSA, r#""p": "AA""#)]), Err(Secret)),
            (set(&[RSA, r#"{"kty": "oct", "k": "AA"}"#]), Err(Secret)),
            (set(&[&with(RSA, r#""kid": "k""#), &with(EC, r#""kid": "k""#)]), Err(DuplicateKid)),
            (one(with(RSA, r#""kid": 1"#)), Err(Malformed)),
            (one(with(RSA, r#""kty": "RSA""#)), Err(Malformed)),
            (set(&["1"]), Err(Malformed)),
            (r#"{"keys": {}}"#.to_owned(), Err(Malformed)),
            ("<html>".to_owned(), Err(Malformed)),
            (set(&many), Err(TooManyKeys)),
            (" ".repeat(SET_BYTES_MAX + 1), Err(TooLarge)),
        ];
        for (text, want) in cases {
            let got = KeySet::parse(text.as_bytes()).map(|set| set.0.len());
            assert_eq!(got, want, "{:.200}", text);
        }
    }
}
