//! Tokens: what a compact JWS must be before its signature is looked at, and what its claims must be
//! after.
//!
//! Whatever two readers could see differently is refused: names twice, padding, stray bits, numbers
//! that are no numbers. A header parameter never names a key's place or content (`jku`, `x5u`, `jwk`
//! and the like are not read), `kid` only picks from the issuer's set, and the algorithm is the
//! key's: `alg` must agree with it.
//!
//! # Source
//!
//! RFC 7515, RFC 7519, RFC 8725.

use serde_json::{Map, Value};

use crate::keys::{Algorithm, KeySet};
use crate::verify::Verifier;
use crate::{base64url, strict_json};

/// A token in bytes, at most: looked at before anything is decoded.
pub const TOKEN_BYTES_MAX: usize = 8 << 10;

/// How many keys a token without `kid` is tried with: each costs a signature check.
pub const TRIES_MAX: usize = 4;

/// The last second of the year 9999: a date beyond it is a mistake.
const DATE_MAX: f64 = 253_402_300_799.0;

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Over [`TOKEN_BYTES_MAX`].
    TooLarge,
    /// Not three parts of strict base64url, or not JSON objects.
    Malformed,
    /// `alg` is not among those that are accepted, or not that of the key.
    Algorithm,
    /// `crit` or `b64`.
    Critical,
    /// `iss` is not a configured issuer.
    Issuer,
    /// No key of the issuer fits.
    UnknownKey,
    /// The signature is wrong.
    Signature,
    /// `aud` does not name an accepted audience.
    Audience,
    /// `exp` has passed.
    Expired,
    /// There is no `exp`.
    NoExpiry,
    /// `nbf` has not come.
    NotYetValid,
    /// A registered claim has a wrong type or value.
    Claims,
}

impl Refusal {
    /// `error_description`; it repeats nothing of the token.
    pub fn description(self) -> &'static str {
        match self {
            Self::TooLarge => "The token is too large",
            Self::Malformed => "The token is malformed",
            Self::Algorithm => "The token's algorithm is not accepted",
            Self::Critical => "The token demands an extension that is not understood",
            Self::Issuer => "The token's issuer is not accepted",
            Self::UnknownKey => "The token's key is not known",
            Self::Signature => "The token's signature is invalid",
            Self::Audience => "The token is for another audience",
            Self::Expired => "The token has expired",
            Self::NoExpiry => "The token does not expire",
            Self::NotYetValid => "The token is not valid yet",
            Self::Claims => "The token's claims are malformed",
        }
    }
}

/// A token that is well-formed. Nothing in it is to be believed yet.
#[derive(Debug)]
pub struct Unverified<'a> {
    algorithm: Algorithm,
    key_id: Option<String>,
    claims: Map<String, Value>,
    signed: &'a str,
    signature: Vec<u8>,
}

/// Claims whose signature was checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Claims(Map<String, Value>);

/// When a token is valid, in seconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Validity {
    /// `exp`.
    pub expires: Option<f64>,
    /// `nbf`.
    pub not_before: Option<f64>,
}

/// What an issuer's tokens must say.
#[derive(Clone, Debug, Default)]
pub struct Demands {
    /// One of these must be in `aud`; none: `aud` is not looked at.
    pub audiences: Vec<String>,
    /// Without `exp` a token is refused.
    pub expiry: bool,
    /// How far clocks may differ, in seconds.
    pub clock_skew: f64,
}

impl<'a> Unverified<'a> {
    /// Takes a compact JWS apart.
    ///
    /// # Errors
    ///
    /// [`Refusal`] when it is not well-formed.
    pub fn parse(token: &'a str) -> Result<Self, Refusal> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Refusal::TooLarge);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(Refusal::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(Refusal::Malformed)?;
        // A further dot is no base64url.
        let decode = |part: &str| base64url(part).ok_or(Refusal::Malformed);
        let object = |part: &str| strict_json::object(&decode(part)?).ok_or(Refusal::Malformed);
        let header = object(header)?;
        if header.contains_key("crit") || header.contains_key("b64") {
            return Err(Refusal::Critical);
        }
        let algorithm = header.get("alg").and_then(Value::as_str).ok_or(Refusal::Malformed)?;
        let algorithm = Algorithm::ALL.into_iter().find(|known| known.name() == algorithm);
        let key_id = match header.get("kid") {
            None => None,
            Some(Value::String(id)) => Some(id.clone()),
            Some(_) => return Err(Refusal::Malformed),
        };
        Ok(Self {
            algorithm: algorithm.ok_or(Refusal::Algorithm)?,
            key_id,
            claims: object(payload)?,
            signed,
            signature: decode(signature)?,
        })
    }

    /// Who says that he made it: decides whose keys are tried.
    ///
    /// # Errors
    ///
    /// [`Refusal::Issuer`] without one.
    pub fn issuer(&self) -> Result<&str, Refusal> {
        self.claims.get("iss").and_then(Value::as_str).ok_or(Refusal::Issuer)
    }

    /// Checks the signature.
    ///
    /// # Errors
    ///
    /// [`Refusal::UnknownKey`] when newer keys may help; any other is final.
    pub fn verify(
        self,
        algorithms: &[Algorithm],
        keys: &KeySet,
        verifier: &impl Verifier,
    ) -> Result<Claims, Refusal> {
        if !algorithms.contains(&self.algorithm) {
            return Err(Refusal::Algorithm);
        }
        let named = self.key_id.as_deref().map(|id| keys.named(id));
        let candidates: Vec<_> = match named {
            Some(None) => return Err(Refusal::UnknownKey),
            Some(Some(key)) if key.algorithm() != self.algorithm => return Err(Refusal::Algorithm),
            Some(Some(key)) => vec![key],
            None => keys.of(self.algorithm).take(TRIES_MAX).collect(),
        };
        if candidates.is_empty() {
            return Err(Refusal::UnknownKey);
        }
        let text = self.signed.as_bytes();
        if candidates.into_iter().any(|key| verifier.verify(key, text, &self.signature)) {
            Ok(Claims(self.claims))
        } else {
            Err(Refusal::Signature)
        }
    }
}

impl Claims {
    /// Checks the registered claims, but not the time.
    ///
    /// # Errors
    ///
    /// [`Refusal`]; a claim of a wrong type is one, never taken for absent.
    pub fn check(&self, demands: &Demands) -> Result<Validity, Refusal> {
        let validity = Validity { expires: self.date("exp")?, not_before: self.date("nbf")? };
        // Only its form: what a filter may say of a token's age is its issuer's `exp`.
        self.date("iat")?;
        if demands.expiry && validity.expires.is_none() {
            return Err(Refusal::NoExpiry);
        }
        if self.0.get("sub").is_some_and(|subject| !subject.is_string()) {
            return Err(Refusal::Claims);
        }
        let audiences = self.audiences()?;
        let accepted = |audience: &str| demands.audiences.iter().any(|wanted| wanted == audience);
        if demands.audiences.is_empty() || audiences.into_iter().any(accepted) {
            Ok(validity)
        } else {
            Err(Refusal::Audience)
        }
    }

    fn date(&self, name: &str) -> Result<Option<f64>, Refusal> {
        match self.0.get(name).map(Value::as_f64) {
            None => Ok(None),
            Some(Some(date)) if (0.0..=DATE_MAX).contains(&date) => Ok(Some(date)),
            Some(_) => Err(Refusal::Claims),
        }
    }

    fn audiences(&self) -> Result<Vec<&str>, Refusal> {
        match self.0.get("aud") {
            None => Ok(Vec::new()),
            Some(Value::String(one)) => Ok(vec![one]),
            Some(Value::Array(several)) => {
                several.iter().map(|one| one.as_str().ok_or(Refusal::Claims)).collect()
            }
            Some(_) => Err(Refusal::Claims),
        }
    }

    /// A claim as text: a string, number or boolean, by its name or by a path with dots.
    pub fn text(&self, name: &str) -> Option<String> {
        let nested = || {
            let mut path = name.split('.');
            let first = self.0.get(path.next()?)?;
            path.try_fold(first, |value, part| value.as_object()?.get(part))
        };
        match self.0.get(name).or_else(nested)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(flag) => Some(flag.to_string()),
            _ => None,
        }
    }
}

impl Validity {
    /// Whether the token is valid at a time.
    ///
    /// # Errors
    ///
    /// [`Refusal::Expired`], [`Refusal::NotYetValid`].
    pub fn at(self, now: f64, clock_skew: f64) -> Result<(), Refusal> {
        if self.expires.is_some_and(|expires| now >= expires + clock_skew) {
            return Err(Refusal::Expired);
        }
        if self.not_before.is_some_and(|begins| now + clock_skew < begins) {
            return Err(Refusal::NotYetValid);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
