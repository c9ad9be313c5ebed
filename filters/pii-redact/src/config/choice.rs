//! Fields that may be written in two ways.

use std::fmt;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::detect::Entity;
use crate::rules::Action;

/// What is looked for and what becomes of it: `"email"`, or an object with its operator.
#[derive(Debug)]
pub(crate) struct EntityEntry {
    pub(super) entity: Entity,
    pub(super) operator: OperatorName,
    pub(super) action: Option<Action>,
    pub(super) with: Option<String>,
    pub(super) mask_char: Option<char>,
    pub(super) keep_first: u8,
    pub(super) keep_last: u8,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum OperatorName {
    #[default]
    Replace,
    Mask,
    Hash,
}

impl EntityEntry {
    /// With the default operator and action.
    pub(super) fn named(entity: Entity) -> Self {
        Self {
            entity,
            operator: OperatorName::Replace,
            action: None,
            with: None,
            mask_char: None,
            keep_first: 0,
            keep_last: 0,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct EntityObject {
    r#type: Entity,
    #[serde(default)]
    operator: OperatorName,
    action: Option<Action>,
    with: Option<String>,
    mask_char: Option<char>,
    #[serde(default)]
    keep_first: u8,
    #[serde(default)]
    keep_last: u8,
}

impl<'de> Deserialize<'de> for EntityEntry {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct NameOrObject;

        impl<'de> Visitor<'de> for NameOrObject {
            type Value = EntityEntry;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("an entity's name or an object with `type`")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<EntityEntry, E> {
                Entity::from_config(name)
                    .map(EntityEntry::named)
                    .ok_or_else(|| E::unknown_variant(name, &Entity::CONFIG_NAMES))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<EntityEntry, A::Error> {
                let object = EntityObject::deserialize(MapAccessDeserializer::new(map))?;
                Ok(EntityEntry {
                    entity: object.r#type,
                    operator: object.operator,
                    action: object.action,
                    with: object.with,
                    mask_char: object.mask_char,
                    keep_first: object.keep_first,
                    keep_last: object.keep_last,
                })
            }
        }

        from.deserialize_any(NameOrObject)
    }
}

/// Which headers are scanned: `"all"` but the safe ones, `"none"`, or a list of names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HeaderChoice {
    All,
    None,
    /// Sorted, lower-case.
    Only(Vec<String>),
}

impl<'de> Deserialize<'de> for HeaderChoice {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct WordOrList;

        impl<'de> Visitor<'de> for WordOrList {
            type Value = HeaderChoice;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("\"all\", \"none\" or a list of header names")
            }

            fn visit_str<E: Error>(self, word: &str) -> Result<HeaderChoice, E> {
                match word {
                    "all" => Ok(HeaderChoice::All),
                    "none" => Ok(HeaderChoice::None),
                    _ => Err(E::invalid_value(serde::de::Unexpected::Str(word), &self)),
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<HeaderChoice, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(list)).map(HeaderChoice::Only)
            }
        }

        from.deserialize_any(WordOrList)
    }
}
