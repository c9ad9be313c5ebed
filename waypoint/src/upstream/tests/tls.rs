//! TLS towards endpoints, with real certificates: who is believed, and what is kept.

mod fixtures;

use http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use waypoint_policies::{BackendTls, CaCertificates, Hostname, SubjectAltName, Trust};

use self::fixtures::{Authority, HELLO, NOW, Seen, TlsOrigin, head};
use super::*;
use crate::codec::{Tunnel, Upgrade};
use crate::upstream::{TlsFailure, UpstreamTls};

impl Bench {
    fn secure(&self, protocol: Protocol, policy: &BackendTls, address: SocketAddr) -> Cluster {
        self.secure_all(protocol, policy, &[address])
    }

    fn secure_all(
        &self,
        protocol: Protocol,
        policy: &BackendTls,
        addresses: &[SocketAddr],
    ) -> Cluster {
        let tls = self.upstreams.tls(policy, protocol).expect("settings that can be used");
        let security = Security::Tls(tls);
        self.upstreams.cluster("ns/service".into(), protocol, security, &[addresses.to_vec()])
    }
}

fn exact(name: &str) -> SubjectAltName {
    SubjectAltName::Dns(Hostname::Exact(name.into()))
}

async fn failure(cluster: &Cluster) -> TlsFailure {
    match send(cluster, get("/")).await.expect_err("no response") {
        UpstreamError::Tls { failure, .. } => failure,
        error => panic!("another error: {error:?}"),
    }
}

#[tokio::test]
async fn a_request_goes_over_tls_with_the_name_and_protocol_of_its_service() {
    let bench = Bench::new(UpstreamLimits::default());
    let authority = Authority::new();
    let config = authority.server(&["cart.test"], &["h2", "http/1.1"], NOW);
    let origin = TlsOrigin::hello(&bench, config, false).await;
    let cluster =
        bench.secure(Protocol::Http1, &authority.policy("cart.test", &[]), origin.address);
    for _ in 0..3 {
        assert_eq!(fetch(&cluster, get("/")).await, (StatusCode::OK, "hello".into()));
    }
    let seen =
        Seen { sni: Some("cart.test".into()), alpn: Some(b"http/1.1".to_vec()), resumed: false };
    assert_eq!(*origin.seen.lock(), [seen], "the connection is used again");
}

#[tokio::test]
async fn bodies_of_any_size_pass_in_both_directions_at_once() {
    let bench = Bench::new(UpstreamLimits::default());
    let authority = Authority::new();
    let config = authority.server(&["cart.test"], &[], NOW);
    const LENGTH: usize = 3 * 1024 * 1024;
    // Echoes while it reads.
    let origin = TlsOrigin::start(&bench, config, |mut stream| async move {
        head(&mut stream).await;
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {LENGTH}\r\n\r\n");
        stream.write_all(answer.as_bytes()).await.expect("written");
        let mut buffer = vec![0; 64 * 1024];
        let mut left = LENGTH;
        while 0 < left {
            let count = stream.read(&mut buffer).await.expect("read");
            stream.write_all(&buffer[..count]).await.expect("written");
            stream.flush().await.expect("written");
            left -= count;
        }
    })
    .await;
    let cluster =
        bench.secure(Protocol::Http1, &authority.policy("cart.test", &[]), origin.address);
    let sent: Vec<u8> = (0..LENGTH).map(|at| (at % 251) as u8).collect();
    let response = send(&cluster, post("/", sent.clone())).await.expect("a response");
    let (received, end) = read(response.into_body()).await;
    assert!(end.is_ok() && received == sent, "{end:?}, {} bytes", received.len());
}

#[tokio::test]
async fn http2_over_tls_is_settled_on_by_alpn_and_never_assumed() {
    let bench = Bench::new(UpstreamLimits::default());
    let authority = Authority::new();
    let policy = authority.policy("cart.test", &[]);
    let config = authority.server(&["cart.test"], &["h2"], NOW);
    let origin = TlsOrigin::start(&bench, config, |stream| async move {
        let mut connection = h2::server::handshake(stream).await.expect("HTTP/2");
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            let scheme = request.uri().scheme_str().unwrap_or_default().to_owned();
            let mut body = respond.send_response(http::Response::new(()), false).expect("sent");
            body.send_data(scheme.into(), true).expect("sent");
        }
    })
    .await;
    let cluster = bench.secure(Protocol::Http2, &policy, origin.address);
    assert_eq!(fetch(&cluster, get("/")).await, (StatusCode::OK, "https".into()));

    let without = TlsOrigin::hello(&bench, authority.server(&["cart.test"], &[], NOW), false).await;
    assert_eq!(
        failure(&bench.secure(Protocol::Http2, &policy, without.address)).await,
        TlsFailure::Alpn
    );
}

#[tokio::test]
async fn a_certificate_that_is_not_right_is_told_apart_and_nothing_is_sent() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let cases = [
        // issued by, names, years                          reason
        (&stranger, "cart.test", NOW, TlsFailure::UnknownCa),
        (&authority, "door.test", NOW, TlsFailure::NameMismatch),
        (&authority, "cart.test", (2000, 2001), TlsFailure::Expired),
        (&authority, "cart.test", (2998, 2999), TlsFailure::NotYetValid),
    ];
    for (issuer, name, years, want) in cases {
        let bench = Bench::new(UpstreamLimits::default());
        let origin = TlsOrigin::hello(&bench, issuer.server(&[name], &[], years), false).await;
        let policy = authority.policy("cart.test", &[]);
        let cluster = bench.secure(Protocol::Http1, &policy, origin.address);
        assert_eq!(failure(&cluster).await, want);
        assert_eq!(bench.outstanding(), 0);
        assert_eq!(bench.upstreams.figures()[0].tls_failure, Some(want.reason()));
    }
}

#[tokio::test]
async fn an_endpoint_that_speaks_plain_text_or_nothing_is_given_up() {
    let limits = UpstreamLimits {
        tls_handshake_timeout: Duration::from_millis(100),
        ..UpstreamLimits::default()
    };
    let bench = Bench::new(limits);
    let policy = Authority::new().policy("cart.test", &[]);
    let plain = origin::Origin::start(&bench, |mut peer, _| async move {
        peer.write("HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n").await;
        peer.closed().await;
    })
    .await;
    let cluster = bench.secure(Protocol::Http1, &policy, plain.address);
    assert_eq!(failure(&cluster).await, TlsFailure::NotTls);
    let silent = origin::Origin::start(&bench, |peer, _| async move {
        peer.closed().await;
    })
    .await;
    let cluster = bench.secure(Protocol::Http1, &policy, silent.address);
    assert_eq!(failure(&cluster).await, TlsFailure::Timeout);
}

#[tokio::test]
async fn with_alternative_names_only_these_are_looked_at() {
    let uri = SubjectAltName::Uri("spiffe://mesh/ns/shop/sa/cart".into());
    let wildcard = SubjectAltName::Dns(Hostname::Wildcard("cart.test".into()));
    let cases: [(&[&str], &[SubjectAltName], bool); 8] = [
        // names of the certificate                wanted                             believed
        (&["cart.test"], &[exact("other.test")], false),
        (&["other.test"], &[exact("other.test")], true),
        (&["a.other.test"], &[exact("b.other.test"), exact("a.other.test")], true),
        (&["*.other.test"], &[exact("a.other.test")], true),
        (&["*.cart.test"], std::slice::from_ref(&wildcard), true),
        (&["a.cart.test"], std::slice::from_ref(&wildcard), false),
        (&["spiffe://mesh/ns/shop/sa/cart"], std::slice::from_ref(&uri), true),
        (&["spiffe://mesh/ns/shop/sa/cart2", "cart.test"], std::slice::from_ref(&uri), false),
    ];
    let authority = Authority::new();
    for (names, wanted, believed) in cases {
        let bench = Bench::new(UpstreamLimits::default());
        let origin = TlsOrigin::hello(&bench, authority.server(names, &[], NOW), false).await;
        let policy = authority.policy("cart.test", wanted);
        let cluster = bench.secure(Protocol::Http1, &policy, origin.address);
        match believed {
            true => {
                assert_eq!(fetch(&cluster, get("/")).await.0, StatusCode::OK, "{names:?}");
                assert_eq!(origin.seen.lock()[0].sni.as_deref(), Some("cart.test"));
            }
            false => assert_eq!(failure(&cluster).await, TlsFailure::NameMismatch, "{names:?}"),
        }
    }
}

#[tokio::test]
async fn sessions_are_resumed_under_one_policy_and_across_snapshots() {
    let bench = Bench::new(UpstreamLimits::default());
    let authority = Authority::new();
    let config = authority.server(&["cart.test"], &[], NOW);
    let origin = TlsOrigin::hello(&bench, config, true).await;
    let policy = authority.policy("cart.test", &[]);
    let cluster = bench.secure(Protocol::Http1, &policy, origin.address);
    fetch(&cluster, get("/")).await;
    let again = bench.secure(Protocol::Http1, &policy.clone(), origin.address);
    drop(cluster);
    fetch(&again, get("/")).await;
    let resumed: Vec<bool> = origin.seen.lock().iter().map(|seen| seen.resumed).collect();
    assert_eq!(resumed, [false, true]);
}

#[tokio::test]
async fn another_trust_never_uses_the_connections_of_the_former_one() {
    let bench = Bench::new(UpstreamLimits::default());
    let (old, new) = (Authority::new(), Authority::new());
    let config = old.server(&["cart.test", "cart2.test"], &[], NOW);
    let origin = TlsOrigin::hello(&bench, config, false).await;
    let before = bench.secure(Protocol::Http1, &old.policy("cart.test", &[]), origin.address);
    fetch(&before, get("/")).await;
    assert_eq!(origin.handshakes(), 1);

    // The same endpoint, under another authority, another name, other names, and in plain text.
    let rotated = bench.secure(Protocol::Http1, &new.policy("cart.test", &[]), origin.address);
    assert_eq!(failure(&rotated).await, TlsFailure::UnknownCa);
    for policy in [old.policy("cart2.test", &[]), old.policy("cart.test", &[exact("cart.test")])] {
        let handshakes = origin.handshakes();
        let changed = bench.secure(Protocol::Http1, &policy, origin.address);
        assert_eq!(fetch(&changed, get("/")).await.1, "hello");
        assert_eq!(origin.handshakes(), handshakes + 1);
        assert!(!origin.seen.lock()[handshakes].resumed, "nor its sessions");
    }
    assert!(send(&bench.http1(&[origin.address]), get("/")).await.is_err());
    // Who holds the former snapshot still goes on.
    fetch(&before, get("/")).await;
}

#[tokio::test]
async fn a_service_whose_policy_cannot_be_used_is_sent_nothing() {
    let bench = Bench::new(UpstreamLimits::default());
    let origin = origin::Origin::answering(&bench, HELLO).await;
    let security = Security::Refused("no certificates".into());
    let name = "ns/service".into();
    let cluster = bench.upstreams.cluster(name, Protocol::Http1, security, &[vec![origin.address]]);
    let error = send(&cluster, get("/")).await.expect_err("no response");
    assert!(matches!(error, UpstreamError::TlsRefused { .. }), "{error:?}");
    assert_eq!(origin.accepted(), 0);
}

#[test]
fn settings_that_cannot_be_used_are_told_without_what_they_hold() {
    for pem in ["", "nothing", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        let mut policy = Authority::new().policy("cart.test", &[]);
        let (config_map, pem) = ("ns/ca".to_owned(), pem.into());
        policy.trust = Trust::Certificates(vec![CaCertificates { config_map, pem }]);
        let error = UpstreamTls::new(&policy, Protocol::Http1).err().expect("an error");
        assert_eq!(error.to_string(), "ConfigMap ns/ca: ca.crt holds no usable certificate");
    }
}

#[tokio::test]
async fn an_upload_goes_on_after_an_early_answer() {
    let bench = Bench::new(UpstreamLimits::default());
    let authority = Authority::new();
    let config = authority.server(&["cart.test"], &[], NOW);
    let (uploaded, mut whole) = mpsc::channel(1);
    let origin = TlsOrigin::start(&bench, config, move |mut stream| {
        let uploaded = uploaded.clone();
        async move {
            head(&mut stream).await;
            stream.write_all(HELLO.as_bytes()).await.expect("written");
            let mut body = Vec::new();
            while !body.ends_with(b"0\r\n\r\n") && stream.read_buf(&mut body).await.unwrap_or(0) > 0
            {
            }
            let _ = uploaded.send(body).await;
        }
    })
    .await;
    let cluster =
        bench.secure(Protocol::Http1, &authority.policy("cart.test", &[]), origin.address);
    let (feeder, body) = fed();
    feeder.send(data("one")).await.expect("room");
    let response = send(&cluster, request(Method::POST, "/", body)).await.expect("a response");
    feeder.send(data("two")).await.expect("room");
    drop(feeder);
    let body = within(whole.recv()).await.expect("the upload");
    assert_eq!(String::from_utf8(body).expect("text"), "3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n");
    assert_eq!(text(response.into_body()).await.expect("a whole body"), "hello");
}

#[tokio::test]
async fn a_websocket_passes_in_tls_and_ends_with_a_closing_message() {
    let bench = Bench::new(UpstreamLimits::default());
    let authority = Authority::new();
    let config = authority.server(&["cart.test"], &[], NOW);
    let (told, mut ending) = mpsc::channel(1);
    let origin = TlsOrigin::start(&bench, config, move |mut stream| {
        let told = told.clone();
        async move {
            head(&mut stream).await;
            let answer = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\n\
                          upgrade: websocket\r\n\r\nearly";
            stream.write_all(answer.as_bytes()).await.expect("written");
            let mut ping = [0; 4];
            stream.read_exact(&mut ping).await.expect("bytes");
            stream.write_all(b"pong").await.expect("written");
            let _ = told.send(stream.read(&mut ping).await.ok()).await;
        }
    })
    .await;
    let policy = authority.policy("cart.test", &[]);
    let cluster = bench.secure(Protocol::Http1, &policy, origin.address);
    let mut upgrade = get("/chat");
    upgrade.extensions_mut().insert(Upgrade::WebSocket);
    let response = send(&cluster, upgrade).await.expect("a response");
    let tunnel = response.extensions().get::<Tunnel>().and_then(Tunnel::take);
    let mut tunnel = tunnel.expect("a tunnel");
    tunnel.write_all(b"ping").await.expect("written");
    tunnel.flush().await.expect("written");
    let mut read = [0; 9];
    within(tunnel.read_exact(&mut read)).await.expect("bytes");
    assert_eq!(&read, b"earlypong");
    tunnel.shutdown().await.expect("closed");
    assert_eq!(within(ending.recv()).await, Some(Some(0)), "an end, and no cut");
}

#[tokio::test]
async fn an_endpoint_with_a_wrong_certificate_leads_to_another_one() {
    let bench = Bench::new(UpstreamLimits::default());
    let (authority, stranger) = (Authority::new(), Authority::new());
    let right = authority.server(&["cart.test"], &["h2", "http/1.1"], NOW);
    let wrong = stranger.server(&["cart.test"], &["h2", "http/1.1"], NOW);
    let good = TlsOrigin::hello(&bench, right, false).await;
    let bad = TlsOrigin::hello(&bench, wrong, false).await;
    let addresses = [good.address, bad.address];
    let cluster =
        bench.secure_all(Protocol::Http1, &authority.policy("cart.test", &[]), &addresses);
    for _ in 0..10 {
        assert_eq!(fetch(&cluster, post("/", "body")).await.1, "hello");
    }
    let figures = bench.upstreams.figures();
    let of = |address| figures.iter().find(|one| one.address == address).expect("figures");
    assert_eq!(of(good.address).tls_failure, None);
    // Perhaps it was never chosen; if it was, it says why that was in vain.
    assert!(matches!(of(bad.address).tls_failure, None | Some("unknown_ca")));
}
