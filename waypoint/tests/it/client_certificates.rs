//! Client certificates at HTTPS listeners: who is let in, under which name, and for how long.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::Method;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
    SanType, SerialNumber,
};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, HandshakeKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::client::becomes;
use crate::generations::silent;
use crate::harness::{PATIENCE, Waypoint, request, route_of, rule_to, service};
use crate::origin::{Origin, Speaks};
use crate::tls::{Made, made};

const CART: &str = "spiffe://cluster.local/ns/shop/sa/cart";
const HOST: &str = "shop.test";

/// Who issues certificates of clients.
pub(crate) struct Authority {
    pub(crate) issuer: CertifiedIssuer<'static, KeyPair>,
    /// Whether it is between a root and the clients: these present its certificate, too.
    is_between: bool,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let (params, key) = (Self::params(name), KeyPair::generate().unwrap());
        Self { issuer: CertifiedIssuer::self_signed(params, key).unwrap(), is_between: false }
    }

    /// One whose own certificate, of this serial number, this one has issued.
    pub(crate) fn issue(&self, name: &str, serial: u64) -> Self {
        let (mut params, key) = (Self::params(name), KeyPair::generate().unwrap());
        params.serial_number = Some(SerialNumber::from(serial));
        Self {
            issuer: CertifiedIssuer::signed_by(params, key, &self.issuer).unwrap(),
            is_between: true,
        }
    }

    fn params(name: &str) -> CertificateParams {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
    }

    /// A ConfigMap `name` with these authorities.
    pub(crate) fn config_map(name: &str, all: &[&Self]) -> String {
        let pem: String = all.iter().map(|one| one.issuer.pem()).collect();
        let pem = indented(&pem);
        format!(
            "\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata:\n  ca.crt: |\n    {pem}\n"
        )
    }

    /// As [`Authority::config_map`], with what stands under `ca.crl`.
    pub(crate) fn config_map_with(name: &str, all: &[&Self], revocations: &str) -> String {
        Self::config_map(name, all) + &format!("  ca.crl: |\n    {}\n", indented(revocations))
    }

    /// A client with a certificate of a SPIFFE ID, changed.
    pub(crate) fn client_with(
        &self,
        server: &Made,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Client {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "cart");
        params.subject_alt_names = vec![SanType::URI(CART.try_into().unwrap())];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        change(&mut params);
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        let between = self.is_between.then(|| self.issuer.der().clone());
        let chain = [leaf.der().clone()].into_iter().chain(between).collect();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = builder(server).with_client_auth_cert(chain, key);
        Client(Arc::new(config.unwrap()))
    }

    fn client(&self, server: &Made) -> Client {
        self.client_with(server, |_| {})
    }
}

fn indented(text: &str) -> String {
    text.replace('\n', "\n    ")
}

fn builder(server: &Made) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(server.der.clone()).unwrap();
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
}

/// A client, with its sessions of before.
#[derive(Clone)]
pub(crate) struct Client(Arc<ClientConfig>);

impl Client {
    fn without_certificate(server: &Made) -> Self {
        Self(Arc::new(builder(server).with_no_client_auth()))
    }

    fn speaking(&self, protocol: &str) -> Self {
        let mut config = (*self.0).clone();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        Self(Arc::new(config))
    }

    async fn connect(&self, waypoint: &Waypoint) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(waypoint.address("gateway/default/8443")).await?;
        let name = ServerName::try_from(HOST).unwrap();
        TlsConnector::from(Arc::clone(&self.0)).connect(name, stream).await
    }

    /// The status of one request over a new connection, and how its handshake was made; `None`: it was
    /// refused. In TLS 1.3 a client hears of that only when it reads.
    pub(crate) async fn ask(&self, waypoint: &Waypoint) -> Option<(u16, HandshakeKind)> {
        let mut kept = Kept(self.connect(waypoint).await.ok()?);
        let (status, _) = kept.ask("").await?;
        Some((status, kept.0.get_ref().1.handshake_kind().unwrap()))
    }
}

/// A connection of HTTP/1.1 that is kept.
pub(crate) struct Kept(TlsStream<TcpStream>);

impl Kept {
    pub(crate) async fn open(client: &Client, waypoint: &Waypoint) -> Self {
        Self(client.connect(waypoint).await.unwrap())
    }

    /// Status and whole answer to a GET with these header lines; `None`: the connection has ended.
    pub(crate) async fn ask(&mut self, headers: &str) -> Option<(u16, String)> {
        let head = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n{headers}\r\n");
        self.0.write_all(head.as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        let read = async {
            while !answer.ends_with(b"origin") {
                if !matches!(self.0.read_buf(&mut answer).await, Ok(1..)) {
                    return None;
                }
            }
            Some(())
        };
        timeout(PATIENCE, read).await.expect("an answer or an end")?;
        let text = String::from_utf8(answer).unwrap();
        Some((text[9..12].parse().unwrap(), text))
    }

    /// Waits until the other side ends the connection.
    pub(crate) async fn ends(&mut self) {
        let mut rest = Vec::new();
        let ended = timeout(PATIENCE, self.0.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "the connection is still open");
    }
}

/// A Gateway that asks for certificates of the ConfigMap `authority`, and its Secret.
pub(crate) struct Shop {
    pub(crate) origin: Origin,
    pub(crate) server: Made,
}

impl Shop {
    pub(crate) async fn new() -> Self {
        Self { origin: Origin::named(Speaks::Http1, "origin").await, server: made("shop", HOST) }
    }

    pub(crate) fn resources(&self, validation: &str) -> String {
        resources(self.origin.address, validation, &self.server)
    }

    /// With clients of these authorities only.
    fn trusting(&self, all: &[&Authority]) -> String {
        self.resources(&asking("AllowValidOnly")) + &Authority::config_map("authority", all)
    }
}

pub(crate) fn asking(mode: &str) -> String {
    format!(
        "{{default: {{validation: {{mode: {mode}, caCertificateRefs: \
         [{{group: '', kind: ConfigMap, name: authority}}]}}}}}}"
    )
}

fn resources(origin: std::net::SocketAddr, frontend: &str, server: &Made) -> String {
    let gateway = format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: web}}
spec:
  gatewayClassName: waypoint
  tls: {{frontend: {frontend}}}
  listeners: [{{name: shop, port: 8443, protocol: HTTPS, tls: {{certificateRefs: [{{name: shop}}]}}}}]
"
    );
    let route = route_of(&rule_to("origin")) + &service("origin", "http", origin);
    gateway + &route + &server.secret
}

pub(crate) async fn refused(waypoint: &Waypoint, reason: &str, times: u64) {
    let name = "waypoint_tls_handshake_failures_total";
    becomes(waypoint, &format!("{name}{{reason=\"{reason}\"}}"), times).await;
}

#[tokio::test]
async fn a_client_with_a_right_certificate_is_served_under_its_name() {
    let (shop, authority) = (Shop::new().await, Authority::new("a"));
    let waypoint = Waypoint::start(&shop.trusting(&[&authority])).await;
    let client = authority.client(&shop.server);
    let mut kept = Kept::open(&client, &waypoint).await;
    let forged = "x-forwarded-client-cert: Hash=0;URI=spiffe://cluster.local/ns/shop/sa/admin\r\n";
    assert_eq!(kept.ask(forged).await.unwrap().0, 200);

    let seen = shop.origin.seen().pop().unwrap();
    let told: Vec<_> = seen.headers().get_all("x-forwarded-client-cert").iter().collect();
    let [told] = told[..] else { panic!("one value: {told:?}") };
    let told = told.to_str().unwrap();
    assert!(told.starts_with("Hash=") && told.contains(";Cert=\"-----BEGIN%20CERT"), "{told}");
    assert!(told.ends_with(&format!(";Subject=\"CN=cart\";URI={CART}")), "{told}");
    let record = waypoint.record(|record| record["response_code"] == 200).await;
    assert_eq!(record["source_principal"], CART);
    assert_eq!(record["downstream_peer_subject"], "CN=cart");
    let metrics = waypoint.metrics().await;
    let counted = metrics.lines().find(|line| line.starts_with("istio_requests_total")).unwrap();
    assert!(counted.contains(&format!("source_principal=\"{CART}\"")), "{counted}");
    assert!(counted.contains("connection_security_policy=\"mutual_tls\""), "{counted}");

    let stream = client.speaking("h2").connect(&waypoint).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let mut ask = request(Method::GET, "/", "");
    ask.headers_mut().remove("host");
    *ask.uri_mut() = format!("https://{HOST}/").parse().unwrap();
    assert_eq!(sender.send_request(ask).await.unwrap().status(), 200);
    let seen = shop.origin.seen().pop().unwrap();
    assert_eq!(seen.headers()["x-forwarded-client-cert"], told);
}

#[tokio::test]
async fn a_client_without_a_right_certificate_is_refused_with_the_reason() {
    let (shop, ours, foreign) = (Shop::new().await, Authority::new("a"), Authority::new("a"));
    let waypoint = Waypoint::start(&shop.trusting(&[&ours])).await;
    let server = &shop.server;
    let two = |params: &mut CertificateParams| {
        params.subject_alt_names.push(SanType::URI("spiffe://cluster.local/b".try_into().unwrap()));
    };
    let clients = [
        ("missing", Client::without_certificate(server)),
        ("untrusted", foreign.client(server)),
        ("expired", ours.client_with(server, |p| p.not_after = rcgen::date_time_ymd(2020, 1, 1))),
        (
            "not_yet_valid",
            ours.client_with(server, |p| p.not_before = rcgen::date_time_ymd(4000, 1, 1)),
        ),
        (
            "authority",
            ours.client_with(server, |p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
        ),
        ("spiffe_id", ours.client_with(server, two)),
        ("purpose", ours.client_with(server, |p| p.key_usages.clear())),
    ];
    for (reason, client) in &clients {
        assert_eq!(client.ask(&waypoint).await, None, "{reason}");
        refused(&waypoint, &format!("client_certificate_{reason}"), 1).await;
    }
    assert!(shop.origin.seen().is_empty());
    waypoint.logged("client_certificate_missing").await;
    // A certificate without a SPIFFE ID is right; it has no name.
    let plain = ours.client_with(server, |p| p.subject_alt_names.clear());
    assert_eq!(plain.ask(&waypoint).await, Some((200, HandshakeKind::Full)));
    let record = waypoint.record(|record| record["response_code"] == 200).await;
    assert_eq!(record.get("source_principal"), None);
    assert_eq!(record["downstream_peer_subject"], "CN=cart");
}

#[tokio::test]
async fn where_clients_without_a_right_certificate_are_served_they_have_no_name() {
    let (shop, ours, foreign) = (Shop::new().await, Authority::new("a"), Authority::new("b"));
    let resources = shop.resources(&asking("AllowInsecureFallback"))
        + &Authority::config_map("authority", &[&ours]);
    let waypoint = Waypoint::start(&resources).await;
    let server = &shop.server;
    let clients = [
        (Client::without_certificate(server), false),
        (foreign.client(server), false),
        (ours.client_with(server, |p| p.not_after = rcgen::date_time_ymd(2020, 1, 1)), false),
        (ours.client(server), true),
    ];
    for (number, (client, named)) in clients.iter().enumerate() {
        for times in 0..2 {
            // The second time the session is resumed: it proves no more than the first one.
            assert_eq!(client.ask(&waypoint).await.unwrap().0, 200, "{number}");
            let seen = shop.origin.seen().pop().unwrap();
            let told = seen.headers().contains_key("x-forwarded-client-cert");
            assert_eq!(told, *named, "client {number}, time {times}");
        }
    }
}

#[tokio::test]
async fn authorities_change_without_a_lost_request_and_a_removed_one_ends_its_connections() {
    let (shop, a, b) = (Shop::new().await, Authority::new("a"), Authority::new("b"));
    let waypoint = Waypoint::start(&shop.trusting(&[&a])).await;
    let (of_a, of_b) = (a.client(&shop.server), b.client(&shop.server));
    let mut old = Kept::open(&of_a, &waypoint).await;
    assert_eq!(old.ask("").await.unwrap().0, 200);
    assert_eq!(of_b.ask(&waypoint).await, None);

    waypoint.reload(&shop.trusting(&[&a, &b])).await;
    assert_eq!(old.ask("").await.unwrap().0, 200, "made under A, and A is still trusted");
    let mut new = Kept::open(&of_b, &waypoint).await;
    assert_eq!(new.ask("").await.unwrap().0, 200);

    waypoint.reload(&shop.trusting(&[&b])).await;
    old.ends().await;
    assert_eq!(of_a.ask(&waypoint).await, None, "its sessions are not resumed either");
    assert_eq!(new.ask("").await.unwrap().0, 200, "made under A and B, and B is still trusted");

    // What cannot be read, and what is removed, is trusted no longer, at once.
    let demanding = shop.resources(&asking("AllowValidOnly"));
    let garbage = demanding.clone() + &Authority::config_map("authority", &[]);
    let report = waypoint.reload(&garbage).await;
    assert!(report.to_string().contains("no PEM certificates"), "{report}");
    new.ends().await;
    assert_eq!(of_b.ask(&waypoint).await, None);
    refused(&waypoint, "client_trust_missing", 1).await;
    waypoint.reload(&shop.trusting(&[&b])).await;
    let mut new = Kept::open(&of_b, &waypoint).await;
    assert_eq!(new.ask("").await.unwrap().0, 200);
    let report = waypoint.reload(&demanding).await;
    assert!(report.to_string().contains("there is no ConfigMap default/authority"), "{report}");
    new.ends().await;
    assert_eq!(of_b.ask(&waypoint).await, None);
    refused(&waypoint, "client_trust_missing", 2).await;
}

#[tokio::test]
async fn connections_without_a_certificate_end_when_one_is_demanded() {
    let (shop, authority) = (Shop::new().await, Authority::new("a"));
    let waypoint = Waypoint::start(&shop.resources("{default: {}}")).await;
    let nobody = Client::without_certificate(&shop.server);
    let mut old = Kept::open(&nobody, &waypoint).await;
    assert_eq!(old.ask("").await.unwrap().0, 200);
    assert_eq!(nobody.ask(&waypoint).await.unwrap().1, HandshakeKind::Resumed);
    waypoint.reload(&shop.trusting(&[&authority])).await;
    old.ends().await;
    assert_eq!(nobody.ask(&waypoint).await, None);
    assert_eq!(authority.client(&shop.server).ask(&waypoint).await.unwrap().0, 200);
}

/// Now and so many seconds.
fn in_seconds(seconds: u64) -> (SystemTime, impl FnOnce(&mut CertificateParams)) {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + seconds;
    let expiry = UNIX_EPOCH + Duration::from_secs(since);
    (expiry, move |params: &mut CertificateParams| {
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(since);
    })
}

#[tokio::test]
async fn a_connection_ends_when_its_certificate_expires() {
    let (origin, mut heads) = silent().await;
    let (server, authority) = (made("shop", HOST), Authority::new("a"));
    let all = resources(origin, &asking("AllowValidOnly"), &server)
        + &Authority::config_map("authority", &[&authority]);
    let waypoint = Waypoint::start(&all).await;
    // Longer than the notice before: the connection is closed to new requests in between.
    let (expiry, change) = in_seconds(8);
    let client = authority.client_with(&server, change).speaking("h2");
    let stream = client.connect(&waypoint).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    let connection = tokio::spawn(connection);
    let mut ask = request(Method::GET, "/", "");
    ask.headers_mut().remove("host");
    *ask.uri_mut() = format!("https://{HOST}/").parse().unwrap();
    // Its answer never comes, and the expiry cuts it.
    let running = tokio::spawn(sender.send_request(ask.clone()));
    heads.recv().await.unwrap();
    let mut idle = Kept::open(&authority.client_with(&server, in_seconds(8).1), &waypoint).await;
    idle.ends().await;
    assert!(timeout(PATIENCE, running).await.expect("cut").unwrap().is_err());
    let now = SystemTime::now();
    assert!(expiry <= now, "what runs may go on until then");
    assert!(now < expiry + Duration::from_secs(10), "and no longer");
    let _ = timeout(PATIENCE, connection).await.expect("the connection ends");
    assert_eq!(client.ask(&waypoint).await, None);
    refused(&waypoint, "client_certificate_expired", 1).await;
}

#[tokio::test]
async fn a_session_is_resumed_only_while_its_certificate_is_right() {
    let (shop, authority) = (Shop::new().await, Authority::new("a"));
    let waypoint = Waypoint::start(&shop.trusting(&[&authority])).await;
    let (expiry, change) = in_seconds(6);
    let short = authority.client_with(&shop.server, change);
    assert_eq!(short.ask(&waypoint).await, Some((200, HandshakeKind::Full)));
    assert_eq!(short.ask(&waypoint).await, Some((200, HandshakeKind::Resumed)));
    let record = waypoint.record(|record| record["source_principal"] == CART).await;
    assert_eq!(record["response_code"], 200);

    let left = expiry.duration_since(SystemTime::now()).unwrap_or_default();
    tokio::time::sleep(left + Duration::from_secs(1)).await;
    assert_eq!(short.ask(&waypoint).await, None, "the session outlives the certificate");
    refused(&waypoint, "client_certificate_expired", 1).await;
}
