//! A filter's configuration: JSON in, a typed value or a good error out.

use std::fmt;

use serde::de::DeserializeOwned;

/// Why a configuration is refused, and where in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The field's path, as `issuers[0].jwks`; empty for the whole.
    pub path: String,
    /// What was found and what was expected.
    pub message: String,
}

impl ConfigError {
    /// An error at a field.
    pub fn at(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into() }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" | "." => out.write_str(&self.message),
            path => write!(out, "{path}: {}", self.message),
        }
    }
}

impl std::error::Error for ConfigError {}

/// Reads a configuration; an absent one is `{}`.
pub(crate) fn parse<C: DeserializeOwned>(text: &[u8]) -> Result<C, ConfigError> {
    let text = if text.is_empty() { b"{}".as_slice() } else { text };
    let mut reader = serde_json::Deserializer::from_slice(text);
    let config = serde_path_to_error::deserialize(&mut reader)
        .map_err(|error| ConfigError::at(error.path().to_string(), error.inner().to_string()))?;
    reader.end().map_err(|error| ConfigError::at("", error.to_string()))?;
    Ok(config)
}

/// Durations as Kubernetes writes them, for `#[serde(with = "waypoint_sdk::duration")]`: `10m`,
/// `1h30m`, `250ms`; one to four numbers of at most five digits, each with its unit.
///
/// # Source
///
/// Gateway API, GEP-2257.
pub mod duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, de::Error};

    /// Reads a duration.
    ///
    /// # Errors
    ///
    /// When the value is not a string of that form.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(from)?;
        parse(&text).ok_or_else(|| {
            D::Error::custom(format!(
                "invalid duration {text:?}, expected for example 10m or 250ms"
            ))
        })
    }

    /// The duration that a text tells, if it has the form.
    pub fn parse(text: &str) -> Option<Duration> {
        let (mut rest, mut total, mut parts) = (text, Duration::ZERO, 0);
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit())?;
            let number: u64 =
                rest.get(..digits).filter(|d| (1..=5).contains(&d.len()))?.parse().ok()?;
            let unit = &rest[digits..];
            let unit = &unit[..unit.find(|c: char| c.is_ascii_digit()).unwrap_or(unit.len())];
            total += match unit {
                "h" => Duration::from_secs(number * 3600),
                "m" => Duration::from_secs(number * 60),
                "s" => Duration::from_secs(number),
                "ms" => Duration::from_millis(number),
                _ => return None,
            };
            parts += 1;
            rest = &rest[digits + unit.len()..];
        }
        (1..=4).contains(&parts).then_some(total)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests {
    use std::time::Duration;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Config {
        items: Vec<Item>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Item {
        #[serde(with = "duration")]
        after: Duration,
    }

    #[test]
    fn a_mistake_is_reported_with_its_path_and_what_was_expected() {
        let cases = [
            (
                r#"{"items": [{"after": 5}]}"#,
                "items[0].after: invalid type: integer `5`, expected a string",
            ),
            (
                r#"{"items": [{"after": "5"}]}"#,
                "items[0].after: invalid duration \"5\", expected for example 10m",
            ),
            (
                r#"{"items": [{"afer": "5s"}]}"#,
                "items[0].afer: unknown field `afer`, expected `after`",
            ),
            (r#"{"items": []} x"#, "trailing characters"),
            ("", "missing field `items`"),
        ];
        for (text, want) in cases {
            let error = parse::<Config>(text.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with(want), "{text}: {error}");
        }
    }

    #[test]
    fn durations_have_the_form_of_the_gateway_api() {
        let cases = [
            ("10m", Some(600_000)),
            ("1h30m", Some(5_400_000)),
            ("250ms", Some(250)),
            ("0s", Some(0)),
            ("", None),
            ("5", None),
            ("m", None),
            ("-1s", None),
            ("1.5s", None),
            ("123456s", None),
            ("1s1s1s1s1s", None),
            ("1d", None),
            ("1s ", None),
            ("é1s", None),
            ("1é", None),
        ];
        for (text, want) in cases {
            assert_eq!(duration::parse(text), want.map(Duration::from_millis), "{text}");
        }
    }
}
