//! The demo's services: small HTTP servers on loopback ports that the kernel picks.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::token::Issuer;

/// Largest request body that is echoed, in bytes.
const ECHO_BYTES_MAX: usize = 1024 * 1024;

/// What a sample service answers.
#[derive(Clone)]
enum Sample {
    /// What it saw of the request.
    Echo(&'static str),
    /// A customer, with personal data.
    Customer,
    /// The keys that tokens are checked with.
    Keys(Arc<str>),
}

/// The services that run.
pub(super) struct Upstreams {
    addresses: Vec<(&'static str, SocketAddr)>,
}

impl Upstreams {
    /// Starts every service.
    pub(super) async fn start(issuer: &Issuer) -> std::io::Result<Self> {
        let samples = [
            ("ORDERS_EU", Sample::Echo("orders-eu")),
            ("ORDERS_US", Sample::Echo("orders-us")),
            ("CUSTOMERS", Sample::Customer),
            ("KEYS", Sample::Keys(issuer.jwks().into())),
        ];
        let mut addresses = Vec::new();
        for (name, sample) in samples {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            addresses.push((name, listener.local_addr()?));
            spawn(serve(listener, sample));
        }
        Ok(Self { addresses })
    }

    pub(super) fn addresses(&self) -> &[(&'static str, SocketAddr)] {
        &self.addresses
    }
}

/// The sample services are not the proxy: they end with the process and need no drain.
#[expect(clippy::disallowed_methods, reason = "sample upstreams end with the process")]
fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    drop(tokio::spawn(task));
}

async fn serve(listener: TcpListener, sample: Sample) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let sample = sample.clone();
        spawn(async move {
            let service = service_fn(move |request| {
                let sample = sample.clone();
                async move { Ok::<_, Infallible>(sample.answer(request).await) }
            });
            // A connection that breaks concerns nobody but its client.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

impl Sample {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let body = match self {
            Self::Echo(name) => echo(name, request).await.to_string(),
            Self::Customer => json!({
                "id": 7,
                "name": "Alice Example",
                "mail": "alice@example.com",
                "phone": "+44 20 7946 0958",
                "card": "4111 1111 1111 1111",
                "note": "IBAN GB82 WEST 1234 5698 7654 32, last seen at 192.0.2.7",
            })
            .to_string(),
            Self::Keys(keys) => keys.to_string(),
        };
        let mut response = Response::new(Full::new(Bytes::from(body + "\n")));
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(CONTENT_TYPE, json);
        response
    }
}

/// What the service saw: so a person sees what redaction left of the request.
async fn echo(name: &str, request: Request<Incoming>) -> Value {
    let (parts, body) = request.into_parts();
    let headers: serde_json::Map<String, Value> = parts
        .headers
        .iter()
        .map(|(name, value)| {
            (name.to_string(), Value::from(String::from_utf8_lossy(value.as_bytes())))
        })
        .collect();
    let body = match Limited::new(body, ECHO_BYTES_MAX).collect().await {
        Ok(body) => String::from_utf8_lossy(&body.to_bytes()).into_owned(),
        Err(error) => format!("the body failed: {error}"),
    };
    json!({
        "served_by": name,
        "method": parts.method.as_str(),
        "path": parts.uri.to_string(),
        "headers": headers,
        "body": serde_json::from_str(&body).unwrap_or(Value::from(body)),
    })
}
