//! Fetches modules over HTTP, within bounds and never from a link-local address.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::uri::Scheme;
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use sha2::{Digest, Sha256};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use waypoint_abi::MODULE_BYTES_MAX;

use super::modules::hex;
use crate::redirect::Mark;

/// One attempt, from the connection to the last byte.
const TIMEOUT: Duration = Duration::from_secs(15);
/// Attempts, with a pause between them that doubles.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(250);
/// How long a module without a digest is taken from memory before its URL is asked again.
const FRESH: Duration = Duration::from_secs(60);
/// Modules kept in memory; past it the one fetched longest ago goes.
const KEPT_MAX: usize = 16;

/// Why a module could not be fetched.
#[derive(Debug, Error)]
pub enum FetchError {
    /// Not an absolute `http://` or `https://` URL.
    #[error("{url}: not an http:// or https:// URL")]
    Url { url: String },
    /// The name has no address.
    #[error("{url}: the host has no address: {source}")]
    Resolve { url: String, source: std::io::Error },
    /// Every address is one that modules are never fetched from.
    #[error("{url}: {address} is link-local or unspecified; modules are not fetched from there")]
    Blocked { url: String, address: IpAddr },
    /// The connection or the TLS handshake failed.
    #[error("{url}: {source}")]
    Connect { url: String, source: std::io::Error },
    /// The exchange failed.
    #[error("{url}: {source}")]
    Http { url: String, source: hyper::Error },
    /// Not 200. Redirects are not followed.
    #[error("{url}: answered {status}")]
    Status { url: String, status: StatusCode },
    /// Too large, or cut.
    #[error("{url}: the module is larger than {MODULE_BYTES_MAX} bytes, or was cut")]
    Body { url: String },
    /// It took too long.
    #[error("{url}: no answer within {} s", TIMEOUT.as_secs())]
    Timeout { url: String },
}

/// Fetches modules and keeps them in memory.
pub(super) struct Fetcher {
    mark: Mark,
    kept: Mutex<HashMap<String, Kept>>,
}

struct Kept {
    bytes: Vec<u8>,
    fetched: Instant,
}

impl Fetcher {
    /// Nothing has been fetched yet.
    pub(super) fn new(mark: Mark) -> Self {
        Self { mark, kept: Mutex::default() }
    }

    /// A module's bytes. With a digest, what was fetched once is not asked for again; without one,
    /// it is after [`FRESH`], and what memory holds is used when that fails.
    pub(super) async fn fetch(
        &self,
        url: &str,
        sha256: Option<&str>,
    ) -> Result<Vec<u8>, FetchError> {
        let key = format!("{url}#{}", sha256.unwrap_or_default());
        if let Some(kept) = self.kept.lock().get(&key)
            && (sha256.is_some() || kept.fetched.elapsed() < FRESH)
        {
            return Ok(kept.bytes.clone());
        }
        match attempts(self.mark, url).await {
            Ok(bytes) => {
                // Kept wrong bytes would be refused for ever, for they are never asked for again.
                if sha256.is_none_or(|wanted| hex(&Sha256::digest(&bytes)) == wanted) {
                    self.keep(key, &bytes);
                }
                Ok(bytes)
            }
            Err(error) => {
                let kept = self.kept.lock().get(&key).map(|kept| kept.bytes.clone());
                kept.ok_or(error)
            }
        }
    }

    fn keep(&self, key: String, bytes: &[u8]) {
        let mut kept = self.kept.lock();
        if kept.len() >= KEPT_MAX {
            let oldest =
                kept.iter().min_by_key(|(_, kept)| kept.fetched).map(|(key, _)| key.clone());
            if let Some(oldest) = oldest {
                kept.remove(&oldest);
            }
        }
        kept.insert(key, Kept { bytes: bytes.to_vec(), fetched: Instant::now() });
    }
}

async fn attempts(mark: Mark, url: &str) -> Result<Vec<u8>, FetchError> {
    let mut pause = PAUSE;
    for _ in 1..ATTEMPTS {
        match once(mark, url).await {
            Err(
                FetchError::Connect { .. } | FetchError::Http { .. } | FetchError::Timeout { .. },
            ) => {
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            done => return done,
        }
    }
    once(mark, url).await
}

async fn once(mark: Mark, url: &str) -> Result<Vec<u8>, FetchError> {
    let late = |_| FetchError::Timeout { url: url.to_owned() };
    timeout(TIMEOUT, get(mark, url)).await.map_err(late)?
}

async fn get(mark: Mark, url: &str) -> Result<Vec<u8>, FetchError> {
    let bad_url = || FetchError::Url { url: url.to_owned() };
    let uri: Uri = url.parse().map_err(|_| bad_url())?;
    let https = uri.scheme() == Some(&Scheme::HTTPS);
    let host = uri.host().ok_or_else(bad_url)?.trim_matches(['[', ']']).to_owned();
    let port = uri.port_u16().unwrap_or(if https { 443 } else { 80 });
    let address = resolve(url, &host, port).await?;
    let connect = |source| FetchError::Connect { url: url.to_owned(), source };
    let stream = mark.connect(address).await.map_err(connect)?;
    if !https {
        return exchange(url, &uri, stream).await;
    }
    let name = ServerName::try_from(host).map_err(|_| bad_url())?;
    let stream = tls().map_err(connect)?.connect(name, stream).await.map_err(connect)?;
    exchange(url, &uri, stream).await
}

async fn resolve(url: &str, host: &str, port: u16) -> Result<SocketAddr, FetchError> {
    let failed = |source| FetchError::Resolve { url: url.to_owned(), source };
    let addresses = tokio::net::lookup_host((host, port)).await.map_err(failed)?;
    let mut blocked = None;
    for address in addresses {
        if !is_blocked(address.ip()) {
            return Ok(address);
        }
        blocked = Some(address.ip());
    }
    Err(match blocked {
        Some(address) => FetchError::Blocked { url: url.to_owned(), address },
        None => failed(std::io::ErrorKind::NotFound.into()),
    })
}

/// Addresses that answer with a cloud's credentials, and none at all. Fails closed.
fn is_blocked(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => address.is_link_local() || address.is_unspecified(),
        IpAddr::V6(address) => {
            address.is_unicast_link_local()
                || address.is_unspecified()
                // The metadata service of one large cloud over IPv6.
                || address.segments() == [0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254]
        }
    }
}

fn tls() -> std::io::Result<TlsConnector> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let config =
        ClientConfig::builder_with_provider(rustls::crypto::aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()
            .map_err(std::io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

async fn exchange(
    url: &str,
    uri: &Uri,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send,
) -> Result<Vec<u8>, FetchError> {
    let failed = |source| FetchError::Http { url: url.to_owned(), source };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let request = Request::get(path)
        .header(http::header::HOST, authority)
        .header(http::header::ACCEPT_ENCODING, "identity")
        .body(Empty::<Bytes>::new())
        .map_err(|_| FetchError::Url { url: url.to_owned() })?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(failed)?;
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status { url: url.to_owned(), status: response.status() });
        }
        let body = Limited::new(response.into_body(), MODULE_BYTES_MAX);
        let body = body.collect().await.map_err(|_| FetchError::Body { url: url.to_owned() })?;
        Ok(body.to_bytes().to_vec())
    };
    tokio::select! {
        // Both are dropped together when either ends: nothing is polled again.
        answer = answer => answer,
        Err(source) = connection => Err(failed(source)),
    }
}
