//! Revocation lists of client certificates: who is no longer let in, and what a list that is missing,
//! old, wrong or unreadable costs.

use rcgen::{KeyIdMethod, RevocationReason, RevokedCertParams, SerialNumber, date_time_ymd};

use crate::client_certificates::{Authority, Client, Kept, Shop, asking, refused};
use crate::harness::Waypoint;

/// How long a list may be used.
#[derive(Clone, Copy)]
enum Until {
    Long,
    /// It is past its next update.
    Over,
}

/// A list of an authority, PEM, that revokes these serial numbers.
fn list(authority: &Authority, revoked: &[u64], until: Until) -> String {
    let revoked_certs = revoked.iter().map(|serial| RevokedCertParams {
        serial_number: SerialNumber::from(*serial),
        revocation_time: date_time_ymd(2024, 1, 1),
        reason_code: Some(RevocationReason::KeyCompromise),
        invalidity_date: None,
    });
    let params = rcgen::CertificateRevocationListParams {
        this_update: date_time_ymd(2024, 1, 2),
        next_update: match until {
            Until::Long => date_time_ymd(4000, 1, 1),
            Until::Over => date_time_ymd(2024, 2, 1),
        },
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: revoked_certs.collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(&authority.issuer).unwrap().pem().unwrap()
}

/// A client whose certificate has this serial number.
fn client(authority: &Authority, shop: &Shop, serial: u64) -> Client {
    authority.client_with(&shop.server, |params| {
        params.serial_number = Some(SerialNumber::from(serial));
    })
}

/// Resources that trust the authority, with what stands under `ca.crl`.
fn listing(shop: &Shop, authority: &Authority, revocations: &str) -> String {
    shop.resources(&asking("AllowValidOnly"))
        + &Authority::config_map_with("authority", &[authority], revocations)
}

async fn is_served(client: &Client, waypoint: &Waypoint) -> bool {
    client.ask(waypoint).await.is_some_and(|(status, _)| status == 200)
}

#[tokio::test]
async fn a_client_that_its_authority_has_revoked_is_refused_and_others_are_served() {
    let (shop, authority) = (Shop::new().await, Authority::new("a"));
    let revoking = list(&authority, &[7, 8], Until::Long);
    let waypoint = Waypoint::start(&listing(&shop, &authority, &revoking)).await;
    let (good, bad) = (client(&authority, &shop, 6), client(&authority, &shop, 7));

    assert!(is_served(&good, &waypoint).await);
    assert!(!is_served(&bad, &waypoint).await);

    refused(&waypoint, "client_certificate_revoked", 1).await;
    waypoint.logged("client_certificate_revoked").await;
    assert_eq!(shop.origin.seen().len(), 1);
}

#[tokio::test]
async fn where_clients_without_a_right_certificate_are_served_a_revoked_one_has_no_name() {
    let (shop, authority) = (Shop::new().await, Authority::new("a"));
    let revoking = list(&authority, &[7], Until::Long);
    let resources = shop.resources(&asking("AllowInsecureFallback"))
        + &Authority::config_map_with("authority", &[&authority], &revoking);
    let waypoint = Waypoint::start(&resources).await;

    for (serial, named) in [(6, true), (7, false)] {
        assert!(is_served(&client(&authority, &shop, serial), &waypoint).await);
        let seen = shop.origin.seen().pop().unwrap();
        assert_eq!(seen.headers().contains_key("x-forwarded-client-cert"), named, "{serial}");
    }
}

#[tokio::test]
async fn lists_change_without_a_lost_request_and_end_the_connections_of_who_is_revoked() {
    let (shop, authority) = (Shop::new().await, Authority::new("a"));
    let nobody = listing(&shop, &authority, &list(&authority, &[], Until::Long));
    let waypoint = Waypoint::start(&nobody).await;
    let (good, bad) = (client(&authority, &shop, 6), client(&authority, &shop, 7));
    let (mut of_good, mut of_bad) =
        (Kept::open(&good, &waypoint).await, Kept::open(&bad, &waypoint).await);
    assert_eq!(of_good.ask("").await.unwrap().0, 200);
    assert_eq!(of_bad.ask("").await.unwrap().0, 200);
    assert!(is_served(&bad, &waypoint).await, "and it has a session to resume");

    waypoint.reload(&listing(&shop, &authority, &list(&authority, &[7], Until::Long))).await;
    of_bad.ends().await;
    assert!(!is_served(&bad, &waypoint).await, "its session is not resumed either");
    assert_eq!(of_good.ask("").await.unwrap().0, 200, "on the connection of before");

    waypoint.reload(&nobody).await;
    assert!(is_served(&bad, &waypoint).await);
    assert_eq!(of_good.ask("").await.unwrap().0, 200, "on the connection of before");
}

#[tokio::test]
async fn a_list_that_proves_nothing_lets_nobody_in() {
    let (shop, ours, foreign) = (Shop::new().await, Authority::new("a"), Authority::new("b"));
    // An authority of the same name, and another key.
    let forger = Authority::new("a");
    let waypoint = Waypoint::start(&listing(&shop, &ours, &list(&ours, &[], Until::Long))).await;
    let good = client(&ours, &shop, 6);
    assert!(is_served(&good, &waypoint).await);

    for (reason, lists) in [
        ("expired", list(&ours, &[], Until::Over)),
        ("missing", list(&foreign, &[], Until::Long)),
        ("wrong", list(&forger, &[], Until::Long)),
    ] {
        waypoint.reload(&listing(&shop, &ours, &lists)).await;
        assert!(!is_served(&good, &waypoint).await, "{reason}");
        refused(&waypoint, &format!("client_revocation_list_{reason}"), 1).await;
    }
    assert_eq!(shop.origin.seen().len(), 1);
}

#[tokio::test]
async fn every_certificate_of_a_chain_must_be_on_a_list_of_its_issuer() {
    let (shop, root) = (Shop::new().await, Authority::new("root"));
    let between = root.issue("between", 3);
    let good = client(&between, &shop, 6);
    let both =
        |revoked: &[u64]| list(&root, revoked, Until::Long) + &list(&between, &[], Until::Long);

    let waypoint = Waypoint::start(&listing(&shop, &root, &both(&[]))).await;
    assert!(is_served(&good, &waypoint).await);
    waypoint.reload(&listing(&shop, &root, &list(&root, &[], Until::Long))).await;
    assert!(!is_served(&good, &waypoint).await);
    refused(&waypoint, "client_revocation_list_missing", 1).await;
    waypoint.reload(&listing(&shop, &root, &both(&[3]))).await;
    assert!(!is_served(&good, &waypoint).await);
    refused(&waypoint, "client_certificate_revoked", 1).await;
}

#[tokio::test]
async fn a_list_binds_the_authorities_that_it_stands_beside() {
    let (shop, listed, free) = (Shop::new().await, Authority::new("a"), Authority::new("b"));
    let two = "{default: {validation: {caCertificateRefs: [\
               {group: '', kind: ConfigMap, name: one}, {group: '', kind: ConfigMap, name: two}]}}}";
    let revoking = list(&listed, &[7], Until::Long);
    // The second one trusts both, and has no list.
    let resources = shop.resources(two)
        + &Authority::config_map_with("one", &[&listed], &revoking)
        + &Authority::config_map("two", &[&free, &listed]);
    let waypoint = Waypoint::start(&resources).await;

    assert!(is_served(&client(&free, &shop, 7), &waypoint).await);
    assert!(is_served(&client(&listed, &shop, 6), &waypoint).await);
    assert!(!is_served(&client(&listed, &shop, 7), &waypoint).await, "revoked is revoked");
}

#[tokio::test]
async fn a_list_that_cannot_be_read_leaves_the_former_one_in_force() {
    let (shop, authority) = (Shop::new().await, Authority::new("a"));
    let revoking = list(&authority, &[7], Until::Long);
    let waypoint = Waypoint::start(&listing(&shop, &authority, &revoking)).await;
    let (good, bad) = (client(&authority, &shop, 6), client(&authority, &shop, 7));
    let mut kept = Kept::open(&good, &waypoint).await;
    assert_eq!(kept.ask("").await.unwrap().0, 200);

    let base64 = "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n";
    for (unreadable, told) in [
        ("a list that somebody has yet to write", "`ca.crl` holds no PEM revocation lists"),
        (&revoking[..revoking.len() / 2], "`ca.crl` holds no PEM revocation lists"),
        (base64, "ca.crl holds no revocation list that can be read; the former one stays"),
    ] {
        let resources = listing(&shop, &authority, unreadable);
        let report = waypoint.reload(&resources).await;
        let problem = &report["problems"][0];
        assert!(problem["message"].as_str().unwrap().contains(told), "{report}");
        assert!(problem["file"].as_str().unwrap().ends_with("all.yaml"), "{report}");
        let list = resources.lines().position(|line| line.contains("ca.crl: |")).unwrap() as u64;
        assert!(problem["line"].as_u64().is_some_and(|line| list < line), "{report}");
        assert!(!is_served(&bad, &waypoint).await, "{unreadable}");
        assert_eq!(kept.ask("").await.unwrap().0, 200, "{unreadable}");
    }
    refused(&waypoint, "client_certificate_revoked", 3).await;

    // Without a former list nobody is let in.
    waypoint
        .reload(
            &(shop.resources(&asking("AllowValidOnly"))
                + &Authority::config_map("authority", &[&authority])),
        )
        .await;
    assert!(is_served(&bad, &waypoint).await, "nothing is looked up");
    let report = waypoint.reload(&listing(&shop, &authority, base64)).await.to_string();
    assert!(report.contains("its authorities are not trusted"), "{report}");
    kept.ends().await;
    assert!(!is_served(&good, &waypoint).await);
    refused(&waypoint, "client_trust_missing", 1).await;
}
