//! JSON of which two readers could not see different values: a name that occurs twice in an object
//! is refused, as is what is no JSON (RFC 8259), numbers beyond a double and deep nesting.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// A value without repeated names.
#[derive(Clone, Debug, PartialEq)]
pub struct Strict(pub Value);

/// Reads a JSON object; `None` when it is anything else, or not strict.
pub fn object(text: &[u8]) -> Option<Map<String, Value>> {
    match serde_json::from_slice(text) {
        Ok(Strict(Value::Object(members))) => Some(members),
        _ => None,
    }
}

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(StrictVisitor).map(Self)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        serde_json::Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("the number is not finite"))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(Strict(item)) = items.next_element()? {
            array.push(item);
        }
        Ok(array.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some((name, Strict(value))) = members.next_entry::<String, Strict>()? {
            if object.contains_key(&name) {
                return Err(A::Error::custom(format!("the name {name:?} occurs twice")));
            }
            object.insert(name, value);
        }
        Ok(object.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_cannot_be_read_two_ways_is_an_object() {
        let deep = format!("{{\"a\": {}1{}}}", "[".repeat(200), "]".repeat(200));
        let cases: [(&[u8], bool); 14] = [
            (br#"{"a": 1, "b": {"a": [1.5, "x", null, true]}}"#, true),
            (br#" {} "#, true),
            (br#"{"a": 1, "a": 1}"#, false),
            (br#"{"a": 1, "\u0061": 2}"#, false),
            (br#"{"b": [{"c": {"a": 1, "a": 2}}]}"#, false),
            (br#"{"a": 1e400}"#, false),
            (br#"{"a": NaN}"#, false),
            (br#"{"a": 01}"#, false),
            (br#"{"a": "\ud800"}"#, false),
            (b"{\"a\": \"\xff\"}", false),
            (b"\xef\xbb\xbf{}", false),
            (br#"{} {}"#, false),
            (br#"[]"#, false),
            (deep.as_bytes(), false),
        ];
        for (text, want) in cases {
            assert_eq!(object(text).is_some(), want, "{}", String::from_utf8_lossy(text));
        }
    }
}
