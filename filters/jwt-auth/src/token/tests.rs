//! Attacks on tokens, as a table.

use super::*;
use crate::testing::{EC, OKP, RFC_7515_A2, RFC_7515_A3, RSA, encode, sign, sign_es256};
use crate::verify::InGuest;

const NOW: f64 = 1_300_819_000.0;
const EDDSA: &str = r#"{"alg": "EdDSA"}"#;

fn keys(jwks: &[&str]) -> KeySet {
    KeySet::parse(format!("{{\"keys\": [{}]}}", jwks.join(", ")).as_bytes())
        .expect("the set is usable")
}

/// What the filter does with a token, whose issuer is `joe`.
fn judge(token: &str, demands: &Demands, now: f64) -> Result<(), Refusal> {
    let named = EC.replacen('{', r#"{"kid": "ec", "#, 1);
    let keys = keys(&[RSA, &named, OKP]);
    let unverified = Unverified::parse(token)?;
    if unverified.issuer()? != "joe" {
        return Err(Refusal::Issuer);
    }
    let claims = unverified.verify(&Algorithm::ALL, &keys, &InGuest)?;
    claims.check(demands)?.at(now, demands.clock_skew)
}

fn demands() -> Demands {
    Demands { audiences: Vec::new(), expiry: true, clock_skew: 60.0 }
}

#[test]
fn the_tokens_of_the_rfcs_are_accepted_until_they_expire() {
    for token in [RFC_7515_A2, RFC_7515_A3] {
        assert_eq!(judge(token, &demands(), NOW), Ok(()));
        assert_eq!(judge(token, &demands(), 1_300_819_380.0 + 59.9), Ok(()));
        assert_eq!(judge(token, &demands(), 1_300_819_380.0 + 60.0), Err(Refusal::Expired));
    }
}

#[test]
fn a_header_that_asks_for_anything_unusual_is_refused() {
    use Refusal::{Algorithm, Critical, Malformed, Signature, UnknownKey};
    let claims = r#"{"iss": "joe", "exp": 1300819380}"#;
    let cases = [
        (EDDSA, Ok(())),
        (r#"{"alg": "EdDSA", "typ": "JWT", "jku": "http://evil", "x5u": "http://evil"}"#, Ok(())),
        // The embedded key is not read: the signature is by the issuer's.
        (r#"{"alg": "EdDSA", "jwk": {"kty": "oct", "k": "AA"}, "x5c": ["AA"]}"#, Ok(())),
        (r#"{"alg": "none"}"#, Err(Algorithm)),
        (r#"{"alg": "None"}"#, Err(Algorithm)),
        (r#"{"alg": "HS256"}"#, Err(Algorithm)),
        (r#"{"alg": "eddsa"}"#, Err(Algorithm)),
        (r#"{"alg": "ES384"}"#, Err(Algorithm)),
        (r#"{"alg": ""}"#, Err(Algorithm)),
        (r#"{"alg": ["EdDSA"]}"#, Err(Malformed)),
        (r#"{"alg": null}"#, Err(Malformed)),
        ("{}", Err(Malformed)),
        // The algorithm is the key's.
        (r#"{"alg": "RS256"}"#, Err(Signature)),
        (r#"{"alg": "ES256"}"#, Err(Signature)),
        (r#"{"alg": "EdDSA", "kid": "ec"}"#, Err(Algorithm)),
        (r#"{"alg": "EdDSA", "kid": "../../etc/passwd"}"#, Err(UnknownKey)),
        (r#"{"alg": "EdDSA", "kid": "' OR 1=1"}"#, Err(UnknownKey)),
        (r#"{"alg": "EdDSA", "kid": ""}"#, Err(UnknownKey)),
        (r#"{"alg": "EdDSA", "kid": 1}"#, Err(Malformed)),
        (r#"{"alg": "EdDSA", "kid": null}"#, Err(Malformed)),
        (r#"{"alg": "EdDSA", "crit": ["exp"], "exp": 1}"#, Err(Critical)),
        (r#"{"alg": "EdDSA", "crit": []}"#, Err(Critical)),
        (r#"{"alg": "EdDSA", "crit": null}"#, Err(Critical)),
        (r#"{"alg": "EdDSA", "b64": false}"#, Err(Critical)),
        (r#"{"alg": "EdDSA", "b64": true}"#, Err(Critical)),
        (r#"{"alg": "none", "alg": "EdDSA"}"#, Err(Malformed)),
        (r#"{"alg": "EdDSA", "\u0061lg": "EdDSA"}"#, Err(Malformed)),
        (r#"{'alg': 'EdDSA'}"#, Err(Malformed)),
        (r#"["EdDSA"]"#, Err(Malformed)),
        ("", Err(Malformed)),
    ];
    for (header, want) in cases {
        assert_eq!(judge(&sign(header, claims), &demands(), NOW), want, "{header}");
    }
    let named = sign_es256(r#"{"alg": "ES256", "kid": "ec"}"#, claims);
    assert_eq!(judge(&named, &demands(), NOW), Ok(()));
}

#[test]
fn claims_of_a_wrong_type_or_value_are_refused_and_never_taken_for_absent() {
    use Refusal::{Audience, Claims, Expired, Issuer, Malformed, NoExpiry, NotYetValid};
    let api = Demands { audiences: vec!["api".to_owned(), "web".to_owned()], ..demands() };
    let cases = [
        (r#""exp": 1300819380, "aud": "api""#, Ok(())),
        (r#""exp": 1300819380.5, "aud": ["x", "web"]"#, Ok(())),
        (r#""exp": 1.3009e9, "aud": "api", "nbf": 1300818000, "iat": 1300817000"#, Ok(())),
        (r#""exp": 1300819380, "aud": "Api""#, Err(Audience)),
        (r#""exp": 1300819380, "aud": "api ""#, Err(Audience)),
        (r#""exp": 1300819380, "aud": []"#, Err(Audience)),
        (r#""exp": 1300819380"#, Err(Audience)),
        (r#""exp": 1300819380, "aud": ["api", 1]"#, Err(Claims)),
        (r#""exp": 1300819380, "aud": {"api": 1}"#, Err(Claims)),
        (r#""exp": 1300819380, "aud": null"#, Err(Claims)),
        (r#""aud": "api""#, Err(NoExpiry)),
        (r#""aud": "api", "exp": null"#, Err(Claims)),
        (r#""aud": "api", "exp": "1300819380""#, Err(Claims)),
        (r#""aud": "api", "exp": true"#, Err(Claims)),
        (r#""aud": "api", "exp": [1300819380]"#, Err(Claims)),
        (r#""aud": "api", "exp": -1"#, Err(Claims)),
        (r#""aud": "api", "exp": 1e300"#, Err(Claims)),
        (r#""aud": "api", "exp": 1e400"#, Err(Malformed)),
        (r#""aud": "api", "exp": 0"#, Err(Expired)),
        (r#""aud": "api", "exp": 1300818940"#, Err(Expired)),
        (r#""aud": "api", "exp": 1300818941"#, Ok(())),
        (r#""aud": "api", "exp": 1300819380, "exp": 9999999999"#, Err(Malformed)),
        (r#""aud": "api", "exp": 1300819380, "nbf": 1300819060"#, Ok(())),
        (r#""aud": "api", "exp": 1300819380, "nbf": 1300819061"#, Err(NotYetValid)),
        (r#""aud": "api", "exp": 1300819380, "nbf": "0""#, Err(Claims)),
        (r#""aud": "api", "exp": 1300819380, "iat": "0""#, Err(Claims)),
        (r#""aud": "api", "exp": 1300819380, "sub": 7"#, Err(Claims)),
    ];
    for (claims, want) in cases {
        let token = sign(EDDSA, &format!("{{\"iss\": \"joe\", {claims}}}"));
        assert_eq!(judge(&token, &api, NOW), want, "{claims}");
    }
    for issuer in [r#"{"exp": 1}"#, r#"{"iss": "jim"}"#, r#"{"iss": ["joe"]}"#, r#"{"iss": null}"#]
    {
        assert_eq!(judge(&sign(EDDSA, issuer), &demands(), NOW), Err(Issuer), "{issuer}");
    }
}

#[test]
fn only_the_compact_form_in_strict_base64url_is_read() {
    let good = sign(EDDSA, r#"{"iss": "joe", "exp": 1300819380}"#);
    assert_eq!(judge(&good, &demands(), NOW), Ok(()));
    let (signed, signature) = good.rsplit_once('.').expect("three parts");
    let (header, payload) = signed.split_once('.').expect("three parts");
    // The last character of 64 bytes has four stray bits.
    let stray = format!("{}B", &signature[..signature.len() - 1]);
    let cases = [
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
        signed.to_owned(),
        format!("{good}."),
        format!("{good}.{good}"),
        format!("{header}..{payload}.{signature}"),
        format!("{header}.{payload}.a.b.{signature}"),
        format!("{good}="),
        format!("{good} "),
        format!(" {good}"),
        format!("{header}\n.{payload}.{signature}"),
        format!("{}.{payload}.{signature}", encode(EDDSA) + "=="),
        format!("{header}.{payload}.{stray}"),
        format!("{header}.{payload}.{}", signature.replace(['-', '_'], "+")),
        format!("{{\"protected\": \"{header}\", \"payload\": \"{payload}\"}}"),
        format!("{header}.{}.{signature}", encode("[1]")),
        format!("{header}.{}.{signature}", encode("joe")),
    ];
    for token in cases {
        if token != good {
            assert_eq!(judge(&token, &demands(), NOW), Err(Refusal::Malformed), "{token}");
        }
    }
    for empty in
        [format!("{signed}."), format!("{header}.{}.{signature}", encode(r#"{"iss": "joe"}"#))]
    {
        assert_eq!(judge(&empty, &demands(), NOW), Err(Refusal::Signature), "{empty}");
    }
    let huge = format!("{header}.{}.{signature}", "A".repeat(TOKEN_BYTES_MAX));
    assert_eq!(judge(&huge, &demands(), NOW), Err(Refusal::TooLarge));
}

#[test]
fn an_algorithm_that_the_operator_left_out_is_refused() {
    let token = sign(EDDSA, r#"{"iss": "joe"}"#);
    let keys = keys(&[OKP]);
    let verify = |algorithms: &[Algorithm]| {
        let token = Unverified::parse(&token).expect("it is well-formed");
        token.verify(algorithms, &keys, &InGuest).map(|_| ())
    };
    assert_eq!(verify(&[Algorithm::EdDsa]), Ok(()));
    assert_eq!(verify(&[Algorithm::Rs256, Algorithm::Es256]), Err(Refusal::Algorithm));
}

#[test]
fn a_claim_is_found_by_name_or_path_if_it_is_a_scalar() {
    let claims = r#"{"iss": "joe", "a": {"b": {"c": 7}, "d": [1]}, "a.b": "whole", "t": true}"#;
    let token = sign(EDDSA, claims);
    let token = Unverified::parse(&token).expect("it is well-formed");
    let claims = token.verify(&Algorithm::ALL, &keys(&[OKP]), &InGuest).expect("it is signed");
    let cases = [
        ("iss", Some("joe")),
        ("a.b.c", Some("7")),
        ("a.b", Some("whole")),
        ("t", Some("true")),
        ("a", None),
        ("a.d", None),
        ("a.d.0", None),
        ("a.x", None),
        ("", None),
    ];
    for (name, want) in cases {
        assert_eq!(claims.text(name).as_deref(), want, "{name}");
    }
}
