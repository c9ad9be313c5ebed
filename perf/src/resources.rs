//! What the waypoints under measurement serve, and the load that they get.

use std::fs;
use std::io::Write as _;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::peers::Result;

/// Rules of one HTTPRoute.
const RULES_OF_A_ROUTE: usize = 10;
/// Hosts that the routes take turns with.
const HOSTS: usize = 100;

/// Addresses of this machine: of endpoints, where one is too few.
pub(crate) const ENDPOINTS: [&str; 8] = [
    "127.0.0.1",
    "127.0.0.2",
    "127.0.0.3",
    "127.0.0.4",
    "127.0.0.5",
    "127.0.0.6",
    "127.0.0.7",
    "127.0.0.8",
];

/// A Gateway and the origin behind it, without a route between them.
fn ends(origin: u16) -> String {
    ends_at(&ENDPOINTS[..1], origin, "http")
}

/// The same with an endpoint for each address, spoken to in this `appProtocol`.
fn ends_at(addresses: &[&str], port: u16, protocol: &str) -> String {
    let endpoint = |address: &&str| format!("{{addresses: [{address}]}}");
    let endpoints = addresses.iter().map(endpoint).collect::<Vec<_>>().join(", ");
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: web}}
spec:
  gatewayClassName: waypoint
  listeners: [{{name: http, port: 8080, protocol: HTTP}}]
---
apiVersion: v1
kind: Service
metadata: {{name: origin}}
spec: {{ports: [{{name: http, port: 80, appProtocol: {protocol}}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: origin-1, labels: {{kubernetes.io/service-name: origin}}}}
addressType: IPv4
ports: [{{name: http, port: {port}}}]
endpoints: [{endpoints}]
"
    )
}

/// An HTTPRoute to the origin; `more` goes before its rules.
fn route(name: &str, more: &str, rules: &str) -> String {
    format!(
        "
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {name}}}
spec:
  parentRefs: [{{name: web}}]
  {more}
  rules: [{rules}]
"
    )
}

/// A Gateway that sends everything to the origin, without filters.
pub(crate) fn plain(origin: u16) -> String {
    ends(origin) + &route("all", "", "{backendRefs: [{name: origin, port: 80}]}")
}

/// The plain one behind TLS, with a certificate that `openssl` makes.
pub(crate) fn secured(origin: u16) -> Result<String> {
    let dir = tempfile::tempdir()?;
    let [key, certificate] = ["key", "certificate"].map(|name| dir.path().join(name));
    let made = Command::new("openssl")
        .args("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes".split(' '))
        .args("-days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost".split(' '))
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()?;
    if !made.status.success() {
        return Err(String::from_utf8_lossy(&made.stderr).into());
    }
    let data = json!({"tls.crt": fs::read_to_string(certificate)?,
                      "tls.key": fs::read_to_string(key)?});
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "web"},
                        "type": "kubernetes.io/tls", "stringData": data});
    let secured = "protocol: HTTPS, tls: {certificateRefs: [{name: web}]}}";
    Ok(plain(origin).replace("protocol: HTTP}", secured) + &format!("---\n{secret}\n"))
}

/// The plain one with all of [`ENDPOINTS`].
pub(crate) fn wide(port: u16, protocol: &str) -> String {
    ends_at(&ENDPOINTS, port, protocol)
        + &route("all", "", "{backendRefs: [{name: origin, port: 80}]}")
}

/// So many rules, each for a host and a path of its own.
pub(crate) fn routed(origin: u16, rules: usize) -> String {
    let routes = (0..rules).step_by(RULES_OF_A_ROUTE).map(|first| {
        let rule = |number: usize| {
            let backend = "backendRefs: [{name: origin, port: 80}]";
            format!("{{matches: [{{path: {{value: /{number}}}}}], {backend}}}")
        };
        let rules: Vec<String> = (first..first + RULES_OF_A_ROUTE).map(rule).collect();
        let host = format!("hostnames: [h{}.test]", first / RULES_OF_A_ROUTE % HOSTS);
        route(&format!("r{first}"), &host, &rules.join(", "))
    });
    ends(origin) + &routes.collect::<String>()
}

/// A wrk script that asks for one of so many rules, another each time.
pub(crate) fn routed_script(rules: usize) -> std::io::Result<NamedTempFile> {
    let mut file = NamedTempFile::with_suffix(".lua")?;
    write!(
        file,
        "request = function()\n\
         local rule = math.random({rules}) - 1\n\
         local host = math.floor(rule / {RULES_OF_A_ROUTE}) % {HOSTS}\n\
         return wrk.format('GET', '/' .. rule, {{Host = 'h' .. host .. '.test'}})\n\
         end\n"
    )?;
    Ok(file)
}

/// The same with the three bundled filters: a token checked, the body's route, personal data out.
pub(crate) fn chain(origin: u16) -> String {
    let filter = |(name, config): (&str, Value)| {
        let bodies = if name == "payload-router" { "BeforeHeaders" } else { "AfterHeaders" };
        format!(
            "
---
apiVersion: waypoint.rs/v1alpha1
kind: Filter
metadata: {{name: {name}}}
spec:
  module: {{url: builtin://{name}}}
  bodies: {bodies}
  config: {config}
"
        )
    };
    plain(origin) + &filters().map(filter).concat()
}

/// The bundled filters and their configurations, in the order in which they run.
pub(crate) fn filters() -> [(&'static str, Value); 3] {
    let issuer = json!({"issuer": "perf", "jwks": JWKS});
    [
        ("jwt-auth", json!({"requireExp": false, "issuers": [issuer]})),
        ("payload-router", json!({"rules": [{"jsonPointer": "/region"}]})),
        ("pii-redact", json!({})),
    ]
}

/// RFC 8037 appendix A: the public key, and a token of ours signed with its private key.
const JWKS: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"perf","alg":"EdDSA","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
const TOKEN: &str = concat!(
    "eyJhbGciOiJFZERTQSIsImtpZCI6InBlcmYifQ.eyJpc3MiOiJwZXJmIiwic3ViIjoibG9hZCJ9.WYCW",
    "0oqy5EiHo81qupyWx0QRMIBot3uU9UPSlQ2EYyfOK1QttBq2U-m5E-ibokALyt0JwH_7IZSmXQ0oSeSEAg",
);

/// A wrk script that posts 1 KiB of JSON with the token.
pub(crate) fn post_script() -> std::io::Result<NamedTempFile> {
    let text = "the quick brown fox jumps over the lazy dog ".repeat(22);
    let body = format!(r#"{{"region":"eu","mail":"alice@example.com","note":"{text}"}}"#);
    let mut file = NamedTempFile::with_suffix(".lua")?;
    write!(
        file,
        "wrk.method = 'POST'\nwrk.body = '{body}'\n\
         wrk.headers['content-type'] = 'application/json'\n\
         wrk.headers['authorization'] = 'Bearer {TOKEN}'\n"
    )?;
    Ok(file)
}
