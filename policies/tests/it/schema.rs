//! JSON Schemas for editors.

use waypoint_policies::schemas;

#[test]
fn the_schema_of_a_filter_is_closed_described_and_free_of_private_words() {
    let schemas = schemas();
    let (name, schema) = &schemas[0];
    assert_eq!((schemas.len(), name.as_str()), (1, "filter.v1alpha1.json"));
    let spec = &schema["properties"]["spec"];
    assert_eq!(spec["additionalProperties"], false);
    assert_eq!(schema["additionalProperties"], false);
    let fields = spec["properties"].as_object().unwrap();
    for (name, field) in fields {
        assert!(field["description"].is_string(), "{name} has no description");
    }
    assert!(!schema.to_string().contains("\"x-"));
    assert_eq!(schema["properties"]["kind"]["enum"][0], "Filter");
}

#[test]
fn the_schema_of_a_filter_is_the_one_that_was_reviewed() {
    let (_, schema) = &schemas()[0];
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/schemas"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    let text = serde_json::to_string_pretty(schema).unwrap();
    settings.bind(|| insta::assert_snapshot!("filter.v1alpha1.json", text));
}
