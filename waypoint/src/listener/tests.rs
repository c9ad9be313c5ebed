use http::Response;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{PrivateKeyDer, ServerName},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::*;
use crate::codec::{
    Alpn, Body,
    testing::{Client, Rig, Setup, patiently},
};

/// One certificate for one name.
#[derive(Debug)]
struct One {
    name: &'static str,
    key: Arc<CertifiedKey>,
}

impl ResolvesServerCert for One {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        (hello.server_name() == Some(self.name)).then(|| self.key.clone())
    }
}

/// A server that says what it knows of its connections, and a client's trust in it.
fn tls(change: impl FnOnce(&mut Setup)) -> (Rig, RootCertStore) {
    let made = rcgen::generate_simple_self_signed(["a.test".to_owned()]).expect("a certificate");
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).expect("a good certificate");
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    let key = aws_lc_rs::sign::any_supported_type(&key).expect("a known kind");
    let key = Arc::new(CertifiedKey::new(vec![made.cert.der().clone()], key));
    let mut setup = Setup { tls: Some(Arc::new(One { name: "a.test", key })), ..Setup::default() };
    change(&mut setup);
    let rig = Rig::start(setup, |request, info| async move {
        let tls = info.tls.clone().expect("it is TLS");
        let known = format!("{} {:?} {:?} {}", request.uri(), tls.sni, tls.alpn, tls.version);
        Response::new(Body::full(known))
    });
    (rig, roots)
}

async fn connect(
    rig: &Rig,
    roots: RootCertStore,
    name: &'static str,
    alpn: &[&str],
) -> io::Result<TlsStream<TcpStream>> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has suites")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let stream = TcpStream::connect(rig.address).await.expect("the server listens");
    let name = ServerName::try_from(name).expect("a name");
    patiently(TlsConnector::from(Arc::new(config)).connect(name, stream)).await
}

#[tokio::test]
async fn tls_settles_http1_by_alpn_or_without_it() {
    let (rig, roots) = tls(|_| {});
    for (alpn, known) in [(&["http/1.1"][..], "Some(Http1)"), (&[], "None")] {
        let mut client = connect(&rig, roots.clone(), "a.test", alpn).await.expect("it trusts");
        let request = b"GET /x HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";
        client.write_all(request).await.expect("open");
        let mut answer = String::new();
        patiently(client.read_to_string(&mut answer)).await.expect("a clean end with close_notify");
        let want = format!("\r\n\r\nhttps://a.test/x Some(\"a.test\") {known} 1.3");
        assert!(answer.ends_with(&want), "{answer}");
    }
}

#[tokio::test]
async fn tls_goes_on_in_another_lane() {
    let (lanes, _end) = Lanes::of(2);
    let (rig, roots) = tls(|setup| setup.lanes = lanes.clone());
    let mut client = connect(&rig, roots, "a.test", &["http/1.1"]).await.expect("it trusts");
    for round in 0..6 {
        let (here, there) = (round % 2, (round + 1) % 2);
        lanes.give(here, there);
        let request = format!("GET /{round} HTTP/1.1\r\nHost: a.test\r\n\r\n");
        client.write_all(request.as_bytes()).await.expect("open");
        let mut answer = String::new();
        while !answer.ends_with(" 1.3") {
            answer.push(patiently(client.read_u8()).await.expect("open").into());
        }
        assert!(answer.contains(&format!("https://a.test/{round} ")), "{answer}");
        patiently(lanes.have(there, 1)).await;
    }
}

#[tokio::test]
async fn tls_settles_http2_by_alpn() {
    let (rig, roots) = tls(|_| {});
    let stream = connect(&rig, roots, "a.test", &["h2", "http/1.1"]).await.expect("it trusts");
    let (mut client, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    tokio::spawn(async move { drop(connection.await) });
    let request = http::Request::get("https://a.test/y").body(()).expect("a request");
    let (response, _) = client.send_request(request, true).expect("open");
    let mut response = patiently(response).await.expect("an answer");
    let data = patiently(response.body_mut().data()).await.expect("data").expect("no error");
    assert_eq!(data, format!("https://a.test/y Some(\"a.test\") {:?} 1.3", Some(Alpn::Http2)));
}

#[tokio::test]
async fn a_handshake_that_fails_says_why() {
    let (mut rig, roots) = tls(|_| {});
    let mut plain = rig.client().await;
    plain.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(patiently(rig.failures.recv()).await, Some(HandshakeFailure::NotTls));

    assert!(connect(&rig, roots.clone(), "b.test", &["h2"]).await.is_err());
    assert_eq!(patiently(rig.failures.recv()).await, Some(HandshakeFailure::NoCertificate));

    assert!(connect(&rig, roots, "a.test", &["smtp"]).await.is_err());
    assert_eq!(patiently(rig.failures.recv()).await, Some(HandshakeFailure::Alpn));

    assert!(connect(&rig, RootCertStore::empty(), "a.test", &["h2"]).await.is_err());
    assert_eq!(patiently(rig.failures.recv()).await, Some(HandshakeFailure::ClientRefused));

    drop(rig.client().await);
    assert_eq!(patiently(rig.failures.recv()).await, Some(HandshakeFailure::Closed));
}

#[tokio::test]
async fn a_handshake_that_does_not_end_is_closed_in_time() {
    let (mut rig, _) = tls(|setup| setup.handshake_timeout = Duration::from_millis(50));
    let mut client = rig.client().await;
    assert_eq!(client.rest().await, "");
    assert_eq!(patiently(rig.failures.recv()).await, Some(HandshakeFailure::Timeout));
}

#[tokio::test]
async fn past_the_bound_on_connections_clients_wait_in_the_kernel() {
    let rig = Rig::echo(Setup { connections: 1, ..Setup::default() });
    let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut first = rig.client().await;
    first.send(request).await;
    first.until("\r\n\r\n").await;
    let mut second = rig.client().await;
    second.send(request).await;
    first.send(request).await;
    first.until("\r\n\r\n").await;
    let early = second.stream.try_read(&mut [0; 1]).map_err(|error| error.kind());
    assert_eq!(early, Err(io::ErrorKind::WouldBlock), "it was served beside the first");
    drop(first);
    second.until("\r\n\r\n").await;
}

#[tokio::test]
async fn a_closed_listener_accepts_no_more_and_its_port_is_free() {
    let rig = Rig::echo(Setup::default());
    rig.closing.close();
    let address = rig.address;
    assert!(rig.drain.drain(Duration::from_secs(20)).await);
    assert!(TcpStream::connect(address).await.is_err());
    let again = Listener::bind(address, false).expect("the port is free");
    assert_eq!(again.local_addr().expect("it is bound"), address);
    let taken = Listener::bind(address, false).expect_err("the port is taken");
    assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
}

#[tokio::test]
async fn a_dual_stack_listener_shows_ipv4_clients_as_ipv4() {
    let Ok(listener) = Listener::bind("[::]:0".parse().expect("an address"), false) else {
        return; // This host has no IPv6.
    };
    let port = listener.local_addr().expect("it is bound").port();
    let client = Client::connect(([127, 0, 0, 1], port).into());
    let (_client, accepted) = tokio::join!(client, listener.listener.accept());
    let accepted = accepted.and_then(|(stream, _)| stream.into_std()).expect("a client");
    let (peer, local) = prepare(&accepted).expect("it is open");
    assert!(peer.is_ipv4() && local == ([127, 0, 0, 1], port).into(), "{peer} {local}");
}

#[test]
fn running_out_of_descriptors_or_memory_makes_accepting_pause() {
    use rustix::io::Errno;
    let exhausted = |errno: Errno| is_exhaustion(&io::Error::from(errno));
    assert!(exhausted(Errno::MFILE) && exhausted(Errno::NFILE) && exhausted(Errno::NOMEM));
    assert!(!exhausted(Errno::CONNABORTED) && !exhausted(Errno::INTR));
}
