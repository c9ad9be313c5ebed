//! The filter's configuration: what may be written, and what is then true.

mod choice;

use serde::Deserialize;
use waypoint_sdk::ConfigError;

use crate::body::Limits;
use crate::detect::Entity;
use crate::operator::Operator;
use crate::rules::{Action, Rule, Rules};
use choice::EntityEntry;
pub(crate) use choice::HeaderChoice;

/// An HMAC key shorter than that can be guessed, in bytes.
const SALT_BYTES_MIN: usize = 16;

/// The configuration as it is written. `{}` redacts everything everywhere.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct Config {
    entities: Vec<EntityEntry>,
    action: Action,
    directions: Vec<Side>,
    locations: Locations,
    safe_headers: Vec<String>,
    allow: Vec<String>,
    mask_char: char,
    salt: String,
    json_numbers: bool,
    json_keys: bool,
    content_encoding: EncodingPolicy,
    inflate: Inflate,
    unknown_content: UnknownPolicy,
    charset: Policy,
    partial_content: Policy,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            entities: Entity::ALL.map(EntityEntry::named).into(),
            action: Action::Redact,
            directions: vec![Side::Request, Side::Response],
            locations: Locations::default(),
            safe_headers: Vec::new(),
            allow: Vec::new(),
            mask_char: '*',
            salt: String::new(),
            json_numbers: true,
            json_keys: false,
            content_encoding: EncodingPolicy::Refuse,
            inflate: Inflate::default(),
            unknown_content: UnknownPolicy::Sniff,
            charset: Policy::Refuse,
            partial_content: Policy::Refuse,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Side {
    Request,
    Response,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
struct Locations {
    headers: HeaderChoice,
    query: bool,
    body: bool,
}

impl Default for Locations {
    fn default() -> Self {
        Self { headers: HeaderChoice::All, query: true, body: true }
    }
}

/// What is done with a body in a content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum EncodingPolicy {
    /// gzip and deflate are decoded and sent on so; another coding is refused.
    Decode,
    Refuse,
    Pass,
}

/// What is done with a body of a content type that is neither text nor a picture, sound or font.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum UnknownPolicy {
    /// Its first bytes decide whether it is text.
    Sniff,
    Refuse,
    Pass,
}

/// What is done with a body that cannot be scanned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Policy {
    Refuse,
    Pass,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
struct Inflate {
    bytes_max: u64,
    ratio_max: u32,
}

impl Default for Inflate {
    fn default() -> Self {
        Self { bytes_max: 64 << 20, ratio_max: 100 }
    }
}

/// The configuration, checked.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) requests: bool,
    pub(crate) responses: bool,
    pub(crate) headers: HeaderChoice,
    /// Names that are never looked at, besides the built-in ones; sorted.
    pub(crate) safe_headers: Vec<String>,
    pub(crate) query: bool,
    pub(crate) bodies: bool,
    pub(crate) content_encoding: EncodingPolicy,
    pub(crate) unknown_content: UnknownPolicy,
    pub(crate) charset: Policy,
    pub(crate) partial_content: Policy,
    pub(crate) limits: Limits,
    pub(crate) json_numbers: bool,
    pub(crate) json_keys: bool,
}

impl Config {
    /// Checks what the types do not tell.
    ///
    /// # Errors
    ///
    /// The first mistake, with its field.
    pub(crate) fn check(self) -> Result<(Settings, Rules), ConfigError> {
        let rules = self.rules()?;
        if self.directions.is_empty() {
            return Err(ConfigError::at("directions", "name request, response or both"));
        }
        if self.inflate.bytes_max == 0 || self.inflate.ratio_max == 0 {
            return Err(ConfigError::at("inflate", "a bound must not be 0"));
        }
        let headers = match self.locations.headers {
            HeaderChoice::Only(names) => {
                HeaderChoice::Only(header_names("locations.headers", names)?)
            }
            choice => choice,
        };
        let settings = Settings {
            requests: self.directions.contains(&Side::Request),
            responses: self.directions.contains(&Side::Response),
            headers,
            safe_headers: header_names("safeHeaders", self.safe_headers)?,
            query: self.locations.query,
            bodies: self.locations.body,
            content_encoding: self.content_encoding,
            unknown_content: self.unknown_content,
            charset: self.charset,
            partial_content: self.partial_content,
            limits: Limits {
                inflated_bytes: self.inflate.bytes_max,
                inflated_ratio: self.inflate.ratio_max,
            },
            json_numbers: self.json_numbers,
            json_keys: self.json_keys,
        };
        Ok((settings, rules))
    }

    fn rules(&self) -> Result<Rules, ConfigError> {
        if self.entities.is_empty() {
            return Err(ConfigError::at("entities", "name at least one entity, or leave it out"));
        }
        let mut rules = [const { None }; Entity::ALL.len()];
        for (index, entry) in self.entities.iter().enumerate() {
            let path = |field: &str| format!("entities[{index}].{field}");
            let rule = &mut rules[entry.entity as usize];
            if rule.is_some() {
                return Err(ConfigError::at(path("type"), "this entity is named twice"));
            }
            let operator = self
                .operator(entry)
                .map_err(|(field, reason)| ConfigError::at(path(field), reason))?;
            *rule = Some(Rule { action: entry.action.unwrap_or(self.action), operator });
        }
        let allow = self.allow.iter().map(|text| text.clone().into_bytes()).collect();
        Ok(Rules::new(rules, allow))
    }

    fn operator(&self, entry: &EntityEntry) -> Result<Operator, (&'static str, &'static str)> {
        use choice::OperatorName::{Hash, Mask, Replace};
        if entry.operator != Replace && entry.with.is_some() {
            return Err(("with", "belongs to the operator replace"));
        }
        if entry.operator != Mask
            && (entry.mask_char.is_some() || entry.keep_first + entry.keep_last > 0)
        {
            return Err(("operator", "maskChar, keepFirst and keepLast belong to mask"));
        }
        match entry.operator {
            Replace => {
                let with = entry.with.clone().unwrap_or_else(|| entry.entity.label().to_owned());
                if with.chars().any(char::is_control) {
                    return Err(("with", "must not hold control characters"));
                }
                Ok(Operator::Replace { with })
            }
            Mask => {
                let char = entry.mask_char.unwrap_or(self.mask_char);
                if !char.is_ascii_graphic() || char.is_ascii_digit() {
                    return Err(("maskChar", "must be visible ASCII and not a digit"));
                }
                let (keep_first, keep_last) = (entry.keep_first.into(), entry.keep_last.into());
                Ok(Operator::Mask { char, keep_first, keep_last })
            }
            Hash if self.salt.len() < SALT_BYTES_MIN => {
                Err(("operator", "hash needs a salt of at least 16 bytes in `salt`"))
            }
            Hash => Ok(Operator::Hash { salt: self.salt.clone().into_bytes() }),
        }
    }
}

fn header_names(field: &str, mut names: Vec<String>) -> Result<Vec<String>, ConfigError> {
    for name in &mut names {
        let valid = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.!#$%&'*+^`|~".contains(&byte);
        if name.is_empty() || !name.bytes().all(valid) {
            return Err(ConfigError::at(field, format!("{name:?} is not a header name")));
        }
        name.make_ascii_lowercase();
    }
    names.sort_unstable();
    Ok(names)
}

#[cfg(test)]
mod tests;
