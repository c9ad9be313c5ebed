//! JSON Schemas of the kinds, and the shapes that the walker checks against.
//!
//! A schema is made from the Rust type that holds the value (schemars), so a field is written down
//! once: its name, its type, its bounds and its description. Four words are ours: `x-unsupported`
//! (real in the API, refused here for now; on a list of values too), `x-ignored` (real, and of no
//! meaning to a proxy), `x-moved` (where a former field stands now) and the names of [`crate::text::FORMATS`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::resource::{KINDS, KindInfo, Layout};
use crate::text::{Checker, FORMATS};

/// What a value must be like.
#[derive(Debug)]
pub(crate) enum Shape {
    Any,
    Boolean,
    Object(ObjectShape),
    List { item: Box<Shape>, min: usize, max: usize },
    Text(TextShape),
    Choice { values: Vec<String>, unsupported: Vec<String> },
    Number { integer: bool, min: f64, max: f64 },
}

/// A mapping with known fields, or with any fields of one shape.
#[derive(Debug, Default)]
pub(crate) struct ObjectShape {
    pub fields: BTreeMap<String, Shape>,
    pub required: BTreeSet<String>,
    /// What values of other keys must be; `None` = there are no other keys.
    pub others: Option<Box<Shape>>,
    pub ignored: Vec<String>,
    pub unsupported: Vec<String>,
    /// Where fields that the API had once stand now.
    pub moved: BTreeMap<String, String>,
}

/// Text, perhaps of a format.
#[derive(Debug)]
pub(crate) struct TextShape {
    pub format: Option<&'static Checker>,
    pub min: usize,
    pub max: usize,
    pub integer_too: bool,
}

impl std::fmt::Debug for Checker {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.name)
    }
}

/// The shape of each kind's document.
static SHAPES: LazyLock<BTreeMap<&'static str, Shape>> =
    LazyLock::new(|| KINDS.iter().map(|kind| (kind.kind, shape(&document(kind)))).collect());

/// The shape of a kind's document.
pub(crate) fn shape_of(kind: &KindInfo) -> &'static Shape {
    SHAPES.get(kind.kind).unwrap_or(&Shape::Any)
}

/// JSON Schemas of our own kinds, by file name: for editors and for other readers.
pub fn schemas() -> Vec<(String, Value)> {
    let ours = KINDS.iter().filter(|kind| kind.group == "waypoint.rs");
    ours.map(|kind| {
        let mut schema = document(kind);
        strip_private_words(&mut schema);
        (format!("{}.{}.json", kind.kind.to_lowercase(), kind.versions[0]), schema)
    })
    .collect()
}

/// The schema of a whole document of a kind.
fn document(kind: &KindInfo) -> Value {
    let settings =
        SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let body = (kind.schema)(&mut settings.into_generator()).to_value();
    let mut schema = match kind.layout {
        Layout::Root => body,
        Layout::Spec => json!({
            "type": "object",
            "description": body.get("description"),
            "properties": { "spec": body },
            "required": ["spec"],
            "additionalProperties": false,
            "x-ignored": ["status"],
        }),
    };
    let versions: Vec<String> = kind.api_versions().collect();
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties.insert("apiVersion".into(), json!({ "type": "string", "enum": versions }));
        properties.insert("kind".into(), json!({ "type": "string", "enum": [kind.kind] }));
        properties.insert("metadata".into(), metadata());
    }
    if let Some(object) = schema.as_object_mut() {
        let required = object.entry("required").or_insert_with(|| json!([]));
        if let Some(required) = required.as_array_mut() {
            required.extend(["apiVersion", "kind", "metadata"].map(Value::from));
        }
        object.insert("title".into(), kind.kind.into());
        object.insert("$schema".into(), "https://json-schema.org/draft/2020-12/schema".into());
    }
    schema
}

/// `metadata`, the same for all kinds.
fn metadata() -> Value {
    let texts = json!({ "type": "object", "additionalProperties": { "type": "string" } });
    json!({
        "type": "object",
        "description": "Name, namespace, labels.",
        "properties": {
            "name": { "type": "string", "format": "kubernetes-name", "description": "Unique among its kind in its namespace." },
            "namespace": { "type": "string", "format": "kubernetes-name", "description": "`default` where it is absent." },
            "labels": texts,
            "annotations": texts,
            "creationTimestamp": { "type": "string" },
        },
        "required": ["name"],
        "additionalProperties": false,
        "x-ignored": ["deletionGracePeriodSeconds", "deletionTimestamp", "finalizers", "generation", "managedFields",
            "ownerReferences", "resourceVersion", "selfLink", "uid"],
    })
}

/// Takes our private words out of a schema that others read: ignored fields become allowed ones,
/// and formats that no other tool knows go.
fn strip_private_words(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            let ignored = object.remove("x-ignored");
            object.remove("x-unsupported");
            object.remove("x-moved");
            let is_ours = |format: &Value| FORMATS.iter().any(|known| *format == known.name);
            if object.get("format").is_some_and(is_ours) {
                object.remove("format");
            }
            let properties = object.get_mut("properties").and_then(Value::as_object_mut);
            if let (Some(properties), Some(Value::Array(ignored))) = (properties, ignored) {
                let names = ignored.iter().filter_map(Value::as_str);
                properties.extend(names.map(|name| (name.to_owned(), json!(true))));
            }
            object.values_mut().for_each(strip_private_words);
        }
        Value::Array(items) => items.iter_mut().for_each(strip_private_words),
        _ => {}
    }
}

/// Reads a schema: only the words that schemars writes for our types.
fn shape(schema: &Value) -> Shape {
    let Some(object) = schema.as_object() else { return Shape::Any };
    if let Some(choice) = choice(object) {
        return choice;
    }
    if let Some(inner) =
        ["anyOf", "oneOf"].into_iter().find_map(|word| only_branch(object.get(word)?))
    {
        return shape(inner);
    }
    let types = types(object);
    match types.first().copied() {
        Some("object") => Shape::Object(object_shape(object)),
        Some("array") => Shape::List {
            item: Box::new(object.get("items").map_or(Shape::Any, shape)),
            min: size(object, "minItems").unwrap_or(0),
            max: size(object, "maxItems").unwrap_or(usize::MAX),
        },
        Some("string") => Shape::Text(TextShape {
            format: object.get("format").and_then(Value::as_str).and_then(format),
            min: size(object, "minLength").unwrap_or(0),
            max: size(object, "maxLength").unwrap_or(usize::MAX),
            integer_too: types.contains(&"integer"),
        }),
        Some("boolean") => Shape::Boolean,
        Some(kind @ ("integer" | "number")) => {
            let bound = |word| object.get(word).and_then(Value::as_f64);
            let (low, high) = match object.get("format").and_then(Value::as_str) {
                Some("int32") => (f64::from(i32::MIN), f64::from(i32::MAX)),
                Some("uint32") => (0.0, f64::from(u32::MAX)),
                Some("uint16") => (0.0, f64::from(u16::MAX)),
                _ => (f64::MIN, f64::MAX),
            };
            let (min, max) = (bound("minimum").unwrap_or(low), bound("maximum").unwrap_or(high));
            Shape::Number { integer: kind == "integer", min, max }
        }
        _ => Shape::Any,
    }
}

/// A list of values: `enum`, or one `const` for each documented value.
fn choice(object: &Map<String, Value>) -> Option<Shape> {
    let mut values = texts(object.get("enum"));
    for branch in object.get("oneOf").and_then(Value::as_array).into_iter().flatten() {
        values.extend(branch.get("const").and_then(Value::as_str).map(str::to_owned));
        values.extend(texts(branch.get("enum")));
    }
    let unsupported = texts(object.get("x-unsupported"));
    (!values.is_empty()).then_some(Shape::Choice { values, unsupported })
}

/// The branch of an `Option`, beside null.
fn only_branch(branches: &Value) -> Option<&Value> {
    let is_null = |branch: &&Value| branch.get("type").is_some_and(|kind| kind == "null");
    let mut branches = branches.as_array()?.iter().filter(|branch| !is_null(branch));
    branches.next().filter(|_| branches.next().is_none())
}

fn object_shape(object: &Map<String, Value>) -> ObjectShape {
    let properties = object.get("properties").and_then(Value::as_object);
    let others = match object.get("additionalProperties") {
        Some(Value::Bool(true)) => Some(Box::new(Shape::Any)),
        Some(schema @ Value::Object(_)) => Some(Box::new(shape(schema))),
        // A type without named fields is a free mapping.
        None if properties.is_none() => Some(Box::new(Shape::Any)),
        _ => None,
    };
    ObjectShape {
        fields: properties
            .into_iter()
            .flatten()
            .map(|(name, schema)| (name.clone(), shape(schema)))
            .collect(),
        required: texts(object.get("required")).into_iter().collect(),
        others,
        ignored: texts(object.get("x-ignored")),
        unsupported: texts(object.get("x-unsupported")),
        moved: pairs(object.get("x-moved")),
    }
}

fn types(object: &Map<String, Value>) -> Vec<&str> {
    match object.get("type") {
        Some(Value::String(kind)) => vec![kind],
        Some(Value::Array(kinds)) => {
            kinds.iter().filter_map(Value::as_str).filter(|kind| *kind != "null").collect()
        }
        _ => Vec::new(),
    }
}

fn format(name: &str) -> Option<&'static Checker> {
    FORMATS.iter().find(|format| format.name == name)
}

fn size(object: &Map<String, Value>, word: &str) -> Option<usize> {
    object.get(word).and_then(Value::as_u64).and_then(|value| usize::try_from(value).ok())
}

fn pairs(value: Option<&Value>) -> BTreeMap<String, String> {
    let fields = value.and_then(Value::as_object).into_iter().flatten();
    fields.filter_map(|(name, text)| Some((name.clone(), text.as_str()?.to_owned()))).collect()
}

fn texts(value: Option<&Value>) -> Vec<String> {
    let items = value.and_then(Value::as_array).into_iter().flatten();
    items.filter_map(Value::as_str).map(str::to_owned).collect()
}
