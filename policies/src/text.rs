//! Values that are written as text and mean more: durations, sizes, hostnames, patterns.
//!
//! Each is a [`Format`]: the schema names it, the reader of files checks it in place, and
//! [`Parsed`] holds the value that it stands for.

mod address;
mod host;
mod module;

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use regex::{Regex, RegexBuilder};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};

pub(crate) use self::address::{Address, ClusterAddress, ClusterIp};
use self::host::is_label;
pub(crate) use self::host::{HostnameText, OriginText, PreciseHostname};
pub(crate) use self::module::{BUILTINS, ModuleUrl, Sha256};

/// Size bound of one compiled regular expression, in bytes.
const REGEX_BYTES_MAX: usize = 1 << 20;

/// How a kind of text is read.
pub(crate) trait Format {
    /// Its name in the schema.
    const NAME: &'static str;
    /// What a right value looks like, for people.
    const EXPECTED: &'static str;
    /// What editors check; the reader uses [`Format::parse`].
    const PATTERN: Option<&'static str> = None;
    /// Whether an integer will do in place of text.
    const INTEGER_TOO: bool = false;
    type Value;

    /// The value, or what is wrong.
    fn parse(text: &str) -> Result<Self::Value, String>;
}

/// A value of a format.
pub(crate) struct Parsed<F: Format>(pub F::Value, PhantomData<F>);

impl<F: Format<Value: fmt::Debug>> fmt::Debug for Parsed<F> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

impl<F: Format<Value: Clone>> Clone for Parsed<F> {
    fn clone(&self) -> Self {
        Self(self.0.clone(), PhantomData)
    }
}

impl<'de, F: Format> Deserialize<'de> for Parsed<F> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Text(String),
            Integer(i64),
        }
        let text = match Written::deserialize(deserializer)? {
            Written::Text(text) => text,
            Written::Integer(number) => number.to_string(),
        };
        F::parse(&text).map(|value| Self(value, PhantomData)).map_err(de::Error::custom)
    }
}

impl<F: Format> JsonSchema for Parsed<F> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        F::NAME.into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let mut schema = json_schema!({ "type": "string", "format": F::NAME });
        if F::INTEGER_TOO {
            schema.insert("type".into(), serde_json::json!(["string", "integer"]));
        }
        if let Some(pattern) = F::PATTERN {
            schema.insert("pattern".into(), pattern.into());
        }
        schema
    }
}

/// A checker by name: what is wrong with a text of that format.
pub(crate) struct Checker {
    pub name: &'static str,
    pub expected: &'static str,
    pub check: fn(&str) -> Result<(), String>,
}

const fn checker<F: Format>() -> Checker {
    Checker { name: F::NAME, expected: F::EXPECTED, check: |text| F::parse(text).map(drop) }
}

/// Every format.
pub(crate) static FORMATS: [Checker; 16] = [
    checker::<GatewayDuration>(),
    checker::<Quantity>(),
    checker::<HostnameText>(),
    checker::<PreciseHostname>(),
    checker::<OriginText>(),
    checker::<RegexText>(),
    checker::<HeaderNameText>(),
    checker::<HeaderValueText>(),
    checker::<ObjectName>(),
    checker::<Sha256>(),
    checker::<ModuleUrl>(),
    checker::<Prefix>(),
    checker::<EnvironmentName>(),
    checker::<Base64>(),
    checker::<Address>(),
    checker::<ClusterIp>(),
];

/// Gateway API `Duration`.
///
/// # Source
///
/// GEP-2257.
#[derive(Debug)]
pub(crate) struct GatewayDuration;

impl Format for GatewayDuration {
    const NAME: &'static str = "gateway-duration";
    const EXPECTED: &'static str = "a duration such as `10ms`, `5s` or `1h30m`";
    const PATTERN: Option<&'static str> = Some("^([0-9]{1,5}(h|m|s|ms)){1,4}$");
    type Value = Duration;

    fn parse(text: &str) -> Result<Duration, String> {
        let wrong = || format!("`{text}` is not a duration");
        let mut rest = text;
        let mut total = Duration::ZERO;
        let mut parts = 0;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            let letters = rest[digits..].find(|c: char| c.is_ascii_digit());
            let end = letters.map_or(rest.len(), |letters| digits + letters);
            let (number, unit) = (&rest[..digits], &rest[digits..end]);
            let milliseconds = match unit {
                "h" => 3_600_000,
                "m" => 60_000,
                "s" => 1_000,
                "ms" => 1,
                _ => return Err(wrong()),
            };
            parts += 1;
            if number.is_empty() || number.len() > 5 || parts > 4 {
                return Err(wrong());
            }
            let number: u64 = number.parse().map_err(|_| wrong())?;
            total += Duration::from_millis(number * milliseconds);
            rest = &rest[end..];
        }
        if parts == 0 { Err(wrong()) } else { Ok(total) }
    }
}

/// A number of bytes, in Kubernetes' notation.
#[derive(Debug)]
pub(crate) struct Quantity;

impl Format for Quantity {
    const NAME: &'static str = "quantity";
    const EXPECTED: &'static str = "a number of bytes such as `16Mi`, `512Ki` or `1M`";
    const PATTERN: Option<&'static str> = Some("^[0-9]{1,15}(Ki|Mi|Gi|k|M|G)?$");
    const INTEGER_TOO: bool = true;
    type Value = u64;

    fn parse(text: &str) -> Result<u64, String> {
        let wrong = || format!("`{text}` is not a number of bytes");
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let factor: u64 = match &text[digits..] {
            "" => 1,
            "k" => 1_000,
            "M" => 1_000_000,
            "G" => 1_000_000_000,
            "Ki" => 1 << 10,
            "Mi" => 1 << 20,
            "Gi" => 1 << 30,
            _ => return Err(wrong()),
        };
        let number: u64 = text[..digits].parse().map_err(|_| wrong())?;
        number.checked_mul(factor).ok_or_else(|| format!("`{text}` is too large"))
    }
}

/// The name of a resource: a DNS subdomain.
#[derive(Debug)]
pub(crate) struct ObjectName;

impl Format for ObjectName {
    const NAME: &'static str = "kubernetes-name";
    const EXPECTED: &'static str = "lower-case letters, digits, `-` and `.`";
    type Value = String;

    fn parse(text: &str) -> Result<String, String> {
        if text.len() <= 253 && text.split('.').all(is_label) {
            Ok(text.to_owned())
        } else {
            Err(format!("`{text}` cannot be a name"))
        }
    }
}

/// A regular expression that must match the whole value.
#[derive(Debug)]
pub(crate) struct RegexText;

impl Format for RegexText {
    const NAME: &'static str = "rust-regex";
    const EXPECTED: &'static str =
        "a regular expression in RE2's manner: no look-around, no back-references";
    type Value = Regex;

    fn parse(text: &str) -> Result<Regex, String> {
        // Alone first: `a)(b` would close the group around it.
        let build = |pattern: &str| RegexBuilder::new(pattern).size_limit(REGEX_BYTES_MAX).build();
        build(text).and_then(|_| build(&format!("^(?:{text})$"))).map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => "the regular expression is too large".to_owned(),
            error => {
                let text = error.to_string();
                let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
                format!("not a regular expression: {reason}")
            }
        })
    }
}

/// A header's name, in any case.
#[derive(Debug)]
pub(crate) struct HeaderNameText;

impl Format for HeaderNameText {
    const NAME: &'static str = "header-name";
    const EXPECTED: &'static str = "a header name such as `x-user-id`";
    type Value = HeaderName;

    fn parse(text: &str) -> Result<HeaderName, String> {
        HeaderName::from_bytes(text.as_bytes())
            .map_err(|_| format!("`{text}` is not a header name"))
    }
}

/// A header's value.
#[derive(Debug)]
pub(crate) struct HeaderValueText;

impl Format for HeaderValueText {
    const NAME: &'static str = "header-value";
    const EXPECTED: &'static str = "a header value: one line, no control characters";
    type Value = HeaderValue;

    fn parse(text: &str) -> Result<HeaderValue, String> {
        HeaderValue::from_str(text).map_err(|_| "not a header value".to_owned())
    }
}

/// A path prefix on whole segments.
#[derive(Debug)]
pub(crate) struct Prefix;

impl Format for Prefix {
    const NAME: &'static str = "path-prefix";
    const EXPECTED: &'static str = "a path that begins with `/`";
    const PATTERN: Option<&'static str> = Some("^/");
    type Value = String;

    fn parse(text: &str) -> Result<String, String> {
        check_path(text).map(|()| text.to_owned())
    }
}

/// What an exact path or a path prefix may be: what can never be in a normalised path would never
/// match, and a rule that never matches is a mistake.
///
/// # Source
///
/// Gateway API, `HTTPPathMatch` (validation rules).
pub(crate) fn check_path(path: &str) -> Result<(), String> {
    if !path.starts_with('/') {
        return Err(format!("the path `{path}` does not begin with `/`"));
    }
    let lower = path.to_ascii_lowercase();
    let forbidden = ["//", "/./", "/../", "%2f", "#", "?"];
    if let Some(part) = forbidden.into_iter().find(|part| lower.contains(part)) {
        return Err(format!("the path `{path}` contains `{part}`"));
    }
    if path.ends_with("/..") || path.ends_with("/.") {
        return Err(format!("the path `{path}` ends with dots"));
    }
    Ok(())
}

/// What a path may be replaced with: one that could stand in a URI as it is.
///
/// # Source
///
/// RFC 3986 section 3.3.
pub(crate) fn check_new_path(path: &str) -> Result<(), String> {
    check_path(path)?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-/._~!$&'()*+,;=:@%".contains(c);
    match path.chars().find(|c| !allowed(*c)) {
        Some(wrong) => Err(format!("the path `{path}` contains `{wrong}`")),
        None => Ok(()),
    }
}

/// The name of an environment variable.
#[derive(Debug)]
pub(crate) struct EnvironmentName;

impl Format for EnvironmentName {
    const NAME: &'static str = "environment-name";
    const EXPECTED: &'static str = "a name without `=` and control characters";
    type Value = String;

    fn parse(text: &str) -> Result<String, String> {
        let wrong = |c: char| c == '=' || c.is_control();
        if text.is_empty() || text.len() > 256 || text.contains(wrong) {
            Err(format!("`{text}` cannot be the name of an environment variable"))
        } else {
            Ok(text.to_owned())
        }
    }
}

/// Bytes in base64, as Secrets hold them. Its errors never quote the value.
#[derive(Debug)]
pub(crate) struct Base64;

impl Format for Base64 {
    const NAME: &'static str = "base64";
    const EXPECTED: &'static str = "base64 with padding; plain text goes under `stringData`";
    type Value = Vec<u8>;

    fn parse(text: &str) -> Result<Vec<u8>, String> {
        use base64::Engine as _;
        let compact: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
        let engine = base64::engine::general_purpose::STANDARD;
        engine.decode(compact).map_err(|_| "the value is not base64".to_owned())
    }
}
