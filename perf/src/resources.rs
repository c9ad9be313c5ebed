//! What the waypoints under measurement serve, and the load that they get.

use std::io::Write as _;

use serde_json::{Value, json};
use tempfile::NamedTempFile;

/// A Gateway that sends everything to the origin, without filters.
pub(crate) fn plain(origin: u16) -> String {
    format!(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: web}}
spec:
  gatewayClassName: waypoint
  listeners: [{{name: http, port: 8080, protocol: HTTP}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: all}}
spec:
  parentRefs: [{{name: web}}]
  rules: [{{backendRefs: [{{name: origin, port: 80}}]}}]
---
apiVersion: v1
kind: Service
metadata: {{name: origin}}
spec: {{ports: [{{name: http, port: 80, appProtocol: http}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: origin-1, labels: {{kubernetes.io/service-name: origin}}}}
addressType: IPv4
ports: [{{name: http, port: {origin}}}]
endpoints: [{{addresses: [127.0.0.1]}}]
"
    )
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
