//! The configuration, as operators write it, and what is checked of it.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use waypoint_sdk::{ConfigError, duration};

use crate::keys::{Algorithm, KeySet};
use crate::strict_json::Strict;

/// How many issuers there may be.
const ISSUERS_MAX: usize = 16;

/// How far clocks may differ at most.
const CLOCK_SKEW_MAX: Duration = Duration::from_secs(600);

/// Headers that frame or route a request: a claim must not become one.
const RESERVED_HEADERS: [&str; 10] = [
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "expect",
    "host",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The filter's JSON.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// Whose tokens are accepted.
    pub issuers: Vec<Issuer>,
    /// Verified claims that the upstream gets as headers. The caller's own are always removed.
    #[serde(default)]
    pub claims_to_headers: Vec<ClaimToHeader>,
    /// The upstream gets the token, too.
    #[serde(default)]
    pub forward_token: bool,
    /// How far the issuers' clocks may differ from ours.
    #[serde(default = "default_clock_skew", with = "duration")]
    pub clock_skew: Duration,
    /// A token without `exp` is refused.
    #[serde(default = "yes")]
    pub require_exp: bool,
    /// A request without a token passes; one with a bad token never does.
    #[serde(default)]
    pub allow_missing: bool,
    /// Paths that need no token: exact, or all below when they end in `/*`.
    #[serde(default)]
    pub skip_paths: Vec<String>,
    /// `realm` of `WWW-Authenticate`.
    #[serde(default = "default_realm")]
    pub realm: String,
    /// The route is chosen again, for routes that match headers made of claims.
    #[serde(default)]
    pub clear_route_cache: bool,
}

/// One issuer: exactly one of `jwks` and `jwksUri`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Issuer {
    /// What `iss` must be.
    pub issuer: String,
    /// One of them must be in `aud`; none: `aud` is not looked at.
    #[serde(default)]
    pub audiences: Vec<String>,
    /// What `alg` may be.
    #[serde(default = "all_algorithms")]
    pub algorithms: Vec<Algorithm>,
    /// The keys: a JSON Web Key Set, as an object or as its text.
    pub jwks: Option<Strict>,
    /// Where the keys are.
    pub jwks_uri: Option<JwksUri>,
}

/// Where an issuer publishes its keys.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JwksUri {
    /// `name.namespace:port`; on Envoy a cluster.
    pub upstream: String,
    /// The path, with its query.
    pub path: String,
    /// `:authority`; `upstream` without its port when left out.
    pub authority: Option<String>,
    /// Older keys are fetched anew, while they serve.
    #[serde(default = "default_cache_duration", with = "duration")]
    pub cache_duration: Duration,
    /// Keys that could not be fetched anew for so long serve no more: requests are refused (503).
    #[serde(default = "default_max_age", with = "duration")]
    pub max_age: Duration,
    /// Of one fetch.
    #[serde(default = "default_timeout", with = "duration")]
    pub timeout: Duration,
    /// Unknown keys cause at most one fetch in this time, for all requests together.
    #[serde(default = "default_cool_down", with = "duration")]
    pub cool_down: Duration,
}

/// A claim that becomes a header.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClaimToHeader {
    /// Its name, or a path with dots: `realm_access.role`.
    pub claim: String,
    /// The header's name.
    pub header: String,
}

/// Where an issuer's keys come from, checked.
#[derive(Clone, Debug)]
pub enum KeySource {
    /// From the configuration.
    Inline(KeySet),
    /// From an upstream.
    Remote(JwksUri),
}

impl Config {
    /// Checks what the types do not say, and brings header names into lower case.
    ///
    /// # Errors
    ///
    /// The first mistake.
    pub fn check(&mut self) -> Result<(), ConfigError> {
        if self.issuers.is_empty() || self.issuers.len() > ISSUERS_MAX {
            let message = format!("expected 1 to {ISSUERS_MAX} issuers");
            return Err(ConfigError::at("issuers", message));
        }
        for (n, issuer) in self.issuers.iter().enumerate() {
            if self.issuers[..n].iter().any(|earlier| earlier.issuer == issuer.issuer) {
                return Err(ConfigError::at(format!("issuers[{n}].issuer"), "occurs twice"));
            }
        }
        if self.clock_skew > CLOCK_SKEW_MAX {
            return Err(ConfigError::at("clockSkew", "expected at most 10m"));
        }
        if !self.realm.bytes().all(|b| matches!(b, b' '..=b'~') && b != b'"' && b != b'\\') {
            return Err(ConfigError::at("realm", "expected printable ASCII without quotes"));
        }
        for (n, path) in self.skip_paths.iter().enumerate() {
            if !path.starts_with('/') || !is_plain(path) {
                let message = format!("{path:?} is not a path such as /healthz or /public/*");
                return Err(ConfigError::at(format!("skipPaths[{n}]"), message));
            }
        }
        self.check_headers()
    }

    fn check_headers(&mut self) -> Result<(), ConfigError> {
        for n in 0..self.claims_to_headers.len() {
            let path = format!("claimsToHeaders[{n}].header");
            let (earlier, rest) = self.claims_to_headers.split_at_mut(n);
            let header = &mut rest[0].header;
            header.make_ascii_lowercase();
            if !waypoint_sdk::is_header_name(header) {
                return Err(ConfigError::at(path, format!("{header:?} is not a header name")));
            }
            if RESERVED_HEADERS.contains(&header.as_str()) {
                return Err(ConfigError::at(path, format!("{header} cannot be made of a claim")));
            }
            if earlier.iter().any(|other| other.header == *header) {
                return Err(ConfigError::at(path, format!("{header} occurs twice")));
            }
        }
        Ok(())
    }

    /// Whether a request to a path needs no token. A path in which a server could see another one
    /// (dots, double slashes, escapes, parameters) always needs one.
    pub fn skips(&self, path: &str) -> bool {
        let path = path.split('?').next().unwrap_or_default();
        is_plain(path)
            && self.skip_paths.iter().any(|skipped| match skipped.strip_suffix('*') {
                Some(prefix) => path.starts_with(prefix),
                None => path == skipped,
            })
    }
}

fn is_plain(path: &str) -> bool {
    let dots = path.split('/').any(|segment| segment == "." || segment == "..");
    !dots && !path.contains("//") && !path.contains(['\\', '%', ';', '#', '?'])
}

impl Issuer {
    /// Where its keys come from.
    ///
    /// # Errors
    ///
    /// What is wrong with them; `path` is the issuer's.
    pub fn key_source(&self, path: &str) -> Result<KeySource, ConfigError> {
        if self.algorithms.is_empty() {
            return Err(ConfigError::at(format!("{path}.algorithms"), "expected at least one"));
        }
        match (&self.jwks, &self.jwks_uri) {
            (Some(Strict(jwks)), None) => {
                let set = match jwks {
                    Value::String(text) => KeySet::parse(text.as_bytes()),
                    Value::Object(set) => KeySet::read(set),
                    _ => Err(crate::keys::SetError::Malformed),
                };
                let refused = |error: crate::keys::SetError| {
                    ConfigError::at(format!("{path}.jwks"), error.to_string())
                };
                set.map(KeySource::Inline).map_err(refused)
            }
            (None, Some(uri)) => {
                uri.check(&format!("{path}.jwksUri"))?;
                Ok(KeySource::Remote(uri.clone()))
            }
            _ => Err(ConfigError::at(path, "expected exactly one of jwks, jwksUri")),
        }
    }
}

impl JwksUri {
    fn check(&self, path: &str) -> Result<(), ConfigError> {
        let visible = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        let second = Duration::from_secs(1);
        let checks = [
            (
                visible(&self.upstream) && !self.upstream.is_empty(),
                "upstream",
                "an upstream's name",
            ),
            (
                visible(&self.path) && self.path.starts_with('/'),
                "path",
                "a path that begins with /",
            ),
            (self.authority.as_deref().is_none_or(visible), "authority", "a host"),
            (self.cache_duration >= second, "cacheDuration", "at least 1s"),
            (self.max_age >= self.cache_duration, "maxAge", "at least cacheDuration"),
            ((second / 10..=second * 60).contains(&self.timeout), "timeout", "100ms to 1m"),
            (self.cool_down >= second, "coolDown", "at least 1s"),
        ];
        match checks.into_iter().find(|(good, ..)| !good) {
            Some((_, field, wanted)) => {
                Err(ConfigError::at(format!("{path}.{field}"), format!("expected {wanted}")))
            }
            None => Ok(()),
        }
    }
}

fn yes() -> bool {
    true
}

fn all_algorithms() -> Vec<Algorithm> {
    Algorithm::ALL.to_vec()
}

fn default_realm() -> String {
    "waypoint".to_owned()
}

fn default_clock_skew() -> Duration {
    Duration::from_secs(60)
}

fn default_cache_duration() -> Duration {
    Duration::from_secs(600)
}

fn default_max_age() -> Duration {
    Duration::from_secs(3600)
}

fn default_timeout() -> Duration {
    Duration::from_secs(5)
}

fn default_cool_down() -> Duration {
    Duration::from_secs(30)
}
