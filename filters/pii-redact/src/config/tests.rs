//! Configurations that are refused, and why; defaults.

use super::*;

fn refused(config: &str) -> String {
    match serde_json::from_str::<Config>(config) {
        Err(error) => error.to_string(),
        Ok(config) => config.check().expect_err("it is refused").to_string(),
    }
}

#[test]
fn mistakes_are_refused_with_what_was_expected() {
    let cases = [
        (r#"{"entity":[]}"#, "unknown field `entity`, expected one of `entities`"),
        (r#"{"entities":[]}"#, "entities: name at least one entity"),
        (r#"{"entities":["mail"]}"#, "unknown variant `mail`, expected one of `email`, `iban`"),
        (r#"{"entities":[{"type":"email","mask":1}]}"#, "unknown field `mask`"),
        (r#"{"entities":[{"operator":"mask"}]}"#, "missing field `type`"),
        (r#"{"entities":["email","email"]}"#, "entities[1].type: this entity is named twice"),
        (r#"{"entities":[7]}"#, "expected an entity's name or an object"),
        (
            r#"{"entities":[{"type":"ip","operator":"hash"}]}"#,
            "entities[0].operator: hash needs a salt",
        ),
        (
            r#"{"entities":[{"type":"ip","operator":"mask","with":"x"}]}"#,
            "entities[0].with: belongs",
        ),
        (r#"{"entities":[{"type":"ip","keepLast":2}]}"#, "entities[0].operator: maskChar"),
        (
            r#"{"entities":[{"type":"ip","with":"a\r\nb"}]}"#,
            "entities[0].with: must not hold control",
        ),
        (
            r#"{"maskChar":"é","entities":[{"type":"ip","operator":"mask"}]}"#,
            "entities[0].maskChar",
        ),
        (r#"{"directions":[]}"#, "directions: name request, response or both"),
        (r#"{"directions":["both"]}"#, "unknown variant `both`, expected `request` or `response`"),
        (r#"{"locations":{"headers":"some"}}"#, "expected \"all\", \"none\" or a list"),
        (r#"{"locations":{"headers":["a b"]}}"#, "locations.headers: \"a b\" is not a header name"),
        (r#"{"safeHeaders":[""]}"#, "safeHeaders: \"\" is not a header name"),
        (r#"{"contentEncoding":"br"}"#, "expected one of `decode`, `refuse`, `pass`"),
        (r#"{"inflate":{"ratioMax":0}}"#, "inflate: a bound must not be 0"),
    ];
    for (config, want) in cases {
        let got = refused(config);
        assert!(got.contains(want), "{config}: {got}");
    }
}

#[test]
fn an_empty_configuration_redacts_everything_in_both_directions() {
    let (settings, rules) = serde_json::from_str::<Config>("{}").unwrap().check().unwrap();
    assert!(settings.requests && settings.responses && settings.query && settings.bodies);
    assert_eq!(settings.headers, HeaderChoice::All);
    for entity in Entity::ALL {
        assert_eq!(rules.action(entity), Action::Redact);
        assert_eq!(rules.replacement(entity, b"x"), entity.label().as_bytes());
    }
}
