//! The configuration, as operators write it, and the rules that it makes.

use std::collections::BTreeMap;

use serde::Deserialize;
use waypoint_sdk::ConfigError;

use crate::json::Pointer;
use crate::scan::KEY_BYTES_MAX;

/// How many rules there may be: each may read the body again.
const RULES_MAX: usize = 16;

/// What `maxBodyBytes` may be at most; hosts bound what they hold, too.
const BODY_BYTES_MAX: usize = 1 << 20;

/// The filter's JSON.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// The header that carries the route's key. The caller's own is always removed.
    #[serde(default = "default_header")]
    pub header: String,
    /// Tried in order; the first that yields a key decides.
    pub rules: Vec<RuleConfig>,
    /// How many bytes of the body may be read (and so held) to decide.
    #[serde(default = "default_body_bytes")]
    pub max_body_bytes: usize,
    /// What happens when no rule yields a key.
    #[serde(default)]
    pub on_missing: OnMissing,
    /// The key then, with `onMissing: continue`; without it the header stays unset.
    pub default_key: Option<String>,
}

/// What happens when no rule yields a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OnMissing {
    /// The request goes on, with `defaultKey` if there is one.
    #[default]
    Continue,
    /// 400, or 413 when the key was not within `maxBodyBytes`.
    Reject,
}

/// One rule: exactly one of `jsonPointer`, `formField`, `grpc`, `header`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RuleConfig {
    /// A scalar in a JSON body (RFC 6901).
    pub json_pointer: Option<String>,
    /// A field of an `application/x-www-form-urlencoded` body.
    pub form_field: Option<String>,
    /// The method that a gRPC request calls.
    pub grpc: Option<GrpcPart>,
    /// A header of the request.
    pub header: Option<String>,
    /// Values and the keys that they mean. When given, any other value yields no key.
    pub values: Option<BTreeMap<String, String>>,
}

/// Which part of a gRPC request's path is the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum GrpcPart {
    /// `package.Service`.
    Service,
    /// `package.Service/Method`.
    Method,
}

/// Where a rule looks.
#[derive(Clone, Debug)]
pub enum Source {
    /// In a JSON body.
    Json(Pointer),
    /// In a form.
    Form(String),
    /// In a gRPC path.
    Grpc(GrpcPart),
    /// In a header.
    Header(String),
}

/// A checked rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Where it looks.
    pub source: Source,
    /// What values mean.
    pub values: Option<BTreeMap<String, String>>,
}

/// The checked configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The header that carries the key, in lower case.
    pub header: String,
    /// The rules, in order.
    pub rules: Vec<Rule>,
    /// See [`Config::max_body_bytes`].
    pub max_body_bytes: usize,
    /// See [`Config::on_missing`].
    pub on_missing: OnMissing,
    /// See [`Config::default_key`].
    pub default_key: Option<String>,
}

impl TryFrom<Config> for Settings {
    type Error = ConfigError;

    fn try_from(config: Config) -> Result<Self, ConfigError> {
        let header = header_name("header", &config.header)?;
        if config.rules.is_empty() || config.rules.len() > RULES_MAX {
            return Err(ConfigError::at("rules", format!("expected 1 to {RULES_MAX} rules")));
        }
        if !(1..=BODY_BYTES_MAX).contains(&config.max_body_bytes) {
            let message = format!("expected 1 to {BODY_BYTES_MAX} bytes");
            return Err(ConfigError::at("maxBodyBytes", message));
        }
        if config.default_key.as_deref().is_some_and(|key| !is_key(key)) {
            return Err(ConfigError::at("defaultKey", "expected a header value"));
        }
        if config.default_key.is_some() && config.on_missing == OnMissing::Reject {
            return Err(ConfigError::at("defaultKey", "has no effect with onMissing: reject"));
        }
        let rules = config.rules.into_iter().enumerate();
        let rules = rules.map(|(n, rule)| check_rule(&format!("rules[{n}]"), rule, &header));
        Ok(Self {
            rules: rules.collect::<Result<_, _>>()?,
            header,
            max_body_bytes: config.max_body_bytes,
            on_missing: config.on_missing,
            default_key: config.default_key,
        })
    }
}

fn check_rule(path: &str, rule: RuleConfig, key_header: &str) -> Result<Rule, ConfigError> {
    let source = match (rule.json_pointer, rule.form_field, rule.grpc, rule.header) {
        (Some(pointer), None, None, None) => match Pointer::parse(&pointer) {
            Some(pointer) => Source::Json(pointer),
            None => {
                let message = format!("{pointer:?} is not a JSON pointer such as /order/region");
                return Err(ConfigError::at(format!("{path}.jsonPointer"), message));
            }
        },
        (None, Some(field), None, None) => Source::Form(field),
        (None, None, Some(part), None) => Source::Grpc(part),
        (None, None, None, Some(header)) => {
            let path = format!("{path}.header");
            let header = header_name(&path, &header)?;
            if header == key_header {
                return Err(ConfigError::at(path, "is the header that the key is put into"));
            }
            Source::Header(header)
        }
        _ => {
            let message = "expected exactly one of jsonPointer, formField, grpc, header";
            return Err(ConfigError::at(path, message));
        }
    };
    for (value, key) in rule.values.iter().flatten() {
        if !is_key(key) {
            return Err(ConfigError::at(
                format!("{path}.values.{value}"),
                "expected a header value",
            ));
        }
    }
    Ok(Rule { source, values: rule.values })
}

fn header_name(path: &str, name: &str) -> Result<String, ConfigError> {
    if !waypoint_sdk::is_header_name(name) {
        return Err(ConfigError::at(path, format!("{name:?} is not a header name")));
    }
    Ok(name.to_ascii_lowercase())
}

/// What may be put into the header.
pub fn is_key(text: &str) -> bool {
    text.len() <= KEY_BYTES_MAX && waypoint_sdk::is_header_value(text)
}

fn default_header() -> String {
    "x-waypoint-route-key".to_owned()
}

fn default_body_bytes() -> usize {
    64 << 10
}
