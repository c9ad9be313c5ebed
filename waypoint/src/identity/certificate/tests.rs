//! Leaves that their authority has issued, and what is made of them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P384_SHA384, PKCS_ECDSA_P521_SHA512, PKCS_ED25519, PKCS_RSA_SHA256, PublicKeyData,
    RsaKeySize, SanType, SignatureAlgorithm,
};

use super::*;

const CART: &str = "spiffe://cluster.local/ns/shop/sa/cart";

/// The public half of an RSA key of 1024 bits (PKCS #1).
struct WeakRsa(Vec<u8>);

impl WeakRsa {
    fn new() -> Self {
        let key = "MIGJAoGBANOo+JuOcG/pm1W5vWfeAIJhG1s68ApqcTpuNmsYriE/ZnVD7Gd0wCEKobApBg\
                   47XeE0t+n8rFDbKxFb4j3HyEbxYYnvVBP+DpffTUJQ2lRCtMKlBdGxC0mwKYmbA7QqhAcUIp\
                   VZuLT0N3Fo6l2r/HsULBcBqieBhx2f9G+qAIHLAgMBAAE=";
        Self(STANDARD.decode(key).unwrap())
    }
}

impl PublicKeyData for WeakRsa {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_RSA_SHA256
    }
}

fn uri(name: &str) -> SanType {
    SanType::URI(name.try_into().unwrap())
}

/// A leaf with a SPIFFE ID, changed.
fn read_with(
    key: &impl PublicKeyData,
    change: impl FnOnce(&mut CertificateParams),
) -> Result<PeerCertificate, CertificateFault> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.subject_alt_names = vec![uri(CART)];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    change(&mut params);
    let leaf = params.signed_by(key, &issuer).unwrap();
    PeerCertificate::read(&[leaf.der().clone()])
}

fn read(change: impl FnOnce(&mut CertificateParams)) -> Result<PeerCertificate, CertificateFault> {
    read_with(&KeyPair::generate().unwrap(), change)
}

#[test]
fn the_only_uri_that_is_a_spiffe_id_is_the_principal() {
    let dns = || SanType::DnsName("cart.shop".try_into().unwrap());
    for (names, want) in [
        (vec![uri(CART)], Ok(Some(CART))),
        (vec![dns(), uri(CART)], Ok(Some(CART))),
        (vec![dns()], Ok(None)),
        (vec![uri("https://cart.shop")], Ok(None)),
        (vec![uri(CART), uri("spiffe://cluster.local/ns/shop/sa/bank")], Err(())),
        (vec![uri(CART), uri(CART)], Err(())),
        (vec![uri(CART), uri("https://cart.shop")], Err(())),
        (vec![uri("spiffe://cluster.local")], Err(())),
        (vec![uri("SPIFFE://cluster.local/ns/shop")], Err(())),
    ] {
        let what = format!("{names:?}");
        let peer = read(|params| params.subject_alt_names = names);
        let want = want.map_err(|()| CertificateFault::SpiffeId);
        assert_eq!(
            peer.as_ref().map(|peer| peer.principal.as_deref()),
            want.as_ref().copied(),
            "{what}"
        );
    }
}

#[test]
fn an_authority_and_a_key_for_another_purpose_are_refused() {
    use CertificateFault::{Authority, Purpose};
    use KeyUsagePurpose::{CrlSign, DigitalSignature, KeyCertSign, KeyEncipherment};
    let usages = |usages: &[KeyUsagePurpose]| {
        let usages = usages.to_vec();
        read(|params| params.key_usages = usages).map(|_| ())
    };
    assert_eq!(usages(&[DigitalSignature, KeyEncipherment]), Ok(()));
    assert_eq!(usages(&[DigitalSignature, KeyCertSign]), Err(Authority));
    assert_eq!(usages(&[DigitalSignature, CrlSign]), Err(Authority));
    assert_eq!(usages(&[KeyEncipherment]), Err(Purpose));
    assert_eq!(usages(&[]), Err(Purpose), "a SPIFFE ID needs the extension");
    let plain = read(|params| {
        params.subject_alt_names.clear();
        params.key_usages.clear();
    });
    assert!(plain.is_ok(), "without a SPIFFE ID it may lack");
    let authority = read(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    assert_eq!(authority.map(|_| ()), Err(Authority));
}

#[test]
fn a_key_that_is_too_weak_or_of_another_kind_is_refused() {
    let read = |key: &dyn Fn() -> KeyPair| read_with(&key(), |_| {}).map(|_| ());
    let of = |kind: &'static SignatureAlgorithm| move || KeyPair::generate_for(kind).unwrap();
    assert_eq!(read(&of(&PKCS_ECDSA_P384_SHA384)), Ok(()));
    assert_eq!(read(&of(&PKCS_ED25519)), Ok(()));
    let rsa = || KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    assert_eq!(read(&rsa), Ok(()));
    assert_eq!(read(&of(&PKCS_ECDSA_P521_SHA512)), Err(CertificateFault::WeakKey));
    let weak = read_with(&WeakRsa::new(), |_| {}).map(|_| ());
    assert_eq!(weak, Err(CertificateFault::WeakKey));
}

#[test]
fn a_subject_is_written_as_rfc_2253_says() {
    for (parts, want) in [
        (vec![(DnType::OrganizationName, "Shop"), (DnType::CommonName, "cart")], "CN=cart,O=Shop"),
        (vec![(DnType::CommonName, " a,b+c\"d;e=#f ")], "CN=\\ a\\,b\\+c\\\"d\\;e=#f\\ "),
        (vec![(DnType::CommonName, "#\u{e4}\r\n")], "CN=\\#\\C3\\A4\\0D\\0A"),
        (vec![(DnType::CustomDnType(vec![1, 2, 3]), "x")], "1.2.3=x"),
        (vec![], ""),
    ] {
        let peer = read(|params| {
            params.distinguished_name = rcgen::DistinguishedName::new();
            for (kind, value) in parts {
                params.distinguished_name.push(kind, value);
            }
        });
        assert_eq!(peer.unwrap().subject, want);
    }
}

#[test]
fn what_the_next_hop_is_told_cannot_be_split_by_a_name() {
    let peer = read(|params| {
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "a\";URI=spiffe://x/y");
        params.subject_alt_names =
            vec![uri("https://a/;By=b,c"), SanType::DnsName("a.test".try_into().unwrap())];
    });
    let peer = peer.unwrap();
    let told = peer.forwarded.as_ref().unwrap().to_str().unwrap();
    assert!(
        told.starts_with(&format!("Hash={};Cert=\"-----BEGIN%20CERTIFICATE-----%0A", peer.sha256))
    );
    let after = told.split("-----END%20CERTIFICATE-----%0A\"").nth(1).unwrap();
    let subject = "CN=a\\\\\"\\;URI=spiffe://x/y";
    assert_eq!(after, format!(";Subject=\"{subject}\";URI=\"https://a/;By=b,c\";DNS=a.test"));
}
