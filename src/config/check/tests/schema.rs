//! `config.schema.json`, for editors: generated from the reference of all keys by
//! `UPDATE_DOCS=1 cargo test --lib schema`.

use std::path::Path;

use serde_json::{Map, Value as Json, json};
use toml::Value;

use crate::config::key::below;
use crate::config::reference::{self, ReferenceKey};
use crate::config::{overrides, raw};

/// Values of keys that permit only some.
const CHOICES: [(&str, &[&str]); 8] = [
    ("authorization", &["cws", "bearer"]),
    ("cloud", &["commercial", "us", "eu", "ap-s", "japan", "gov"]),
    ("client_auth", &["optional", "required"]),
    ("format", &["json", "text"]),
    ("http2", &["auto", "never"]),
    ("level", &["off", "error", "warn", "info", "debug", "trace"]),
    ("mode", &["enforce", "observe"]),
    ("token_dialect", &["oauth2", "trust"]),
];

/// Keys that are a string or a list of strings.
const LISTS: [&str; 3] = [
    "listen.address",
    "caller.secret_sha256",
    "intercept.address",
];
/// Keys that are the name of a file; other keys with their name are secrets.
const KEY_FILES: [&str; 3] = ["listen.tls.key", "fleet.tls.key", "intercept.ca.key"];
const DURATION: &str = "^\\s*([0-9]+\\s*[a-z]+\\s*)+$";
const SIZE: &str = "^\\s*[0-9]+(\\.[0-9]+)?\\s*([kKMGTP]i?)?B?\\s*$";
/// Tables that exist once for each block.
const BLOCKS: [&str; 3] = ["customer", "route", "caller"];

fn schema() -> Json {
    let mut root = table("citrix-auth-proxy");
    for key in reference::keys() {
        let mut parts: Vec<&str> = key.path.split('.').collect();
        let name = parts.pop().unwrap();
        let mut at = &mut root;
        for part in parts {
            let properties = at["properties"].as_object_mut().unwrap();
            let is_block = BLOCKS.contains(&part);
            let next = properties.entry(part).or_insert_with(|| match is_block {
                true => json!({"type": "array", "items": table("")}),
                false => table(""),
            });
            at = if is_block { &mut next["items"] } else { next };
        }
        at["properties"][name] = property(&key, name);
    }
    require(
        &mut root["properties"]["route"]["items"],
        &["prefix", "upstream"],
    );
    require(&mut root["properties"]["caller"]["items"], &["name"]);
    require(
        &mut root["properties"]["customer"]["items"],
        &["customer_id", "client_id"],
    );
    let tls = &mut root["properties"]["listen"]["properties"]["tls"];
    require(tls, &["certificate", "key"]);
    let intercept = &mut root["properties"]["intercept"];
    require(intercept, &["address", "ca"]);
    let authority = &mut intercept["properties"]["ca"];
    require(authority, &["certificate", "key"]);
    root["$schema"] = "http://json-schema.org/draft-07/schema#".into();
    root
}

fn table(title: &str) -> Json {
    let mut table = json!({"type": "object", "additionalProperties": false, "properties": {}});
    if !title.is_empty() {
        table["title"] = title.into();
    }
    table
}

fn require(table: &mut Json, keys: &[&str]) {
    table["required"] = keys.into();
}

/// Returns the schema of one key.
fn property(key: &ReferenceKey, name: &str) -> Json {
    let choice = CHOICES.iter().find(|(of, _)| *of == name);
    let is_secret = overrides::is_secret(name) && !KEY_FILES.contains(&&*key.path);
    let mut schema = match (&key.value, choice) {
        _ if is_secret => secret(),
        (_, Some((_, values))) => json!({"enum": values}),
        _ if LISTS.contains(&&*key.path) => {
            let texts = json!({"type": "array", "items": {"type": "string"}});
            json!({"anyOf": [{"type": "string"}, texts]})
        }
        (Value::String(text), _) if text.parse::<bytesize::ByteSize>().is_ok() && is_size(name) => {
            json!({"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": SIZE}]})
        }
        (Value::String(text), _) if humantime::parse_duration(text).is_ok() => {
            json!({"type": "string", "pattern": DURATION})
        }
        (Value::String(_), _) => json!({"type": "string"}),
        (Value::Integer(_), _) => json!({"type": "integer", "minimum": 0}),
        (Value::Float(_), _) => json!({"type": "number"}),
        (Value::Boolean(_), _) => json!({"type": "boolean"}),
        (Value::Array(_), _) => json!({"type": "array", "items": {"type": "string"}}),
        // Names of hosts, each with a list.
        (Value::Table(_), _) => {
            let texts = json!({"type": "array", "items": {"type": "string"}});
            json!({"type": "object", "additionalProperties": texts})
        }
        (value, _) => panic!("{}: {value:?}", key.path),
    };
    schema["description"] = key.description.as_str().into();
    if key.has_default {
        schema["default"] = serde_json::to_value(&key.value).unwrap();
    }
    schema
}

fn is_size(name: &str) -> bool {
    name.ends_with("_bytes")
}

/// A secret, or where it is.
fn secret() -> Json {
    let source = |kind: &str| {
        let mut source = table("");
        source["properties"][kind] = json!({"type": "string"});
        require(&mut source, &[kind]);
        source
    };
    json!({"anyOf": [{"type": "string"}, source("file"), source("env")]})
}

fn keys_of(schema: &Json, path: &str, found: &mut Vec<String>) {
    let properties: &Map<String, Json> = schema["properties"].as_object().unwrap();
    for (name, property) in properties {
        let at = below(path, name);
        if property.get("properties").is_some() {
            keys_of(property, &at, found);
        } else if property["items"].get("properties").is_some() {
            keys_of(&property["items"], &at, found);
        } else {
            found.push(at);
        }
    }
}

#[test]
fn schema_of_editors_is_current_and_has_every_key() {
    let schema = schema();
    let mut keys = Vec::new();
    keys_of(&schema, "", &mut keys);
    let mut known = raw::leaves();
    keys.sort();
    known.sort();
    assert_eq!(keys, known);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config.schema.json");
    let text = serde_json::to_string_pretty(&schema).unwrap() + "\n";
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert!(
        std::fs::read_to_string(&path).unwrap_or_default() == text,
        "config.schema.json is outdated; run UPDATE_DOCS=1 cargo test --lib schema"
    );
}

/// Validates a value as far as the schema uses JSON Schema.
fn is_valid(schema: &Json, value: &Json) -> bool {
    if let Some(any) = schema.get("anyOf").and_then(Json::as_array) {
        return any.iter().any(|schema| is_valid(schema, value));
    }
    if let Some(values) = schema.get("enum").and_then(Json::as_array) {
        return values.contains(value);
    }
    match (schema["type"].as_str().unwrap(), value) {
        ("object", Json::Object(object)) => {
            let known = |(key, value): (&String, &Json)| {
                let property = schema.get("properties").and_then(|known| known.get(key));
                let other = schema
                    .get("additionalProperties")
                    .filter(|it| it.is_object());
                property
                    .or(other)
                    .is_some_and(|schema| is_valid(schema, value))
            };
            let required = schema.get("required").and_then(Json::as_array);
            let mut required = required.into_iter().flatten();
            object.iter().all(known)
                && required.all(|key| object.contains_key(key.as_str().unwrap()))
        }
        ("array", Json::Array(list)) => list.iter().all(|item| is_valid(&schema["items"], item)),
        ("string", Json::String(_)) | ("boolean", Json::Bool(_)) => true,
        ("integer", Json::Number(number)) => number.is_u64(),
        ("number", Json::Number(_)) => true,
        _ => false,
    }
}

#[test]
fn example_and_full_configuration_match_the_schema() {
    let schema = schema();
    let full = include_str!("../../../../tests/fixtures/config/full.toml");
    let example = include_str!("../../../../config.toml.example");
    let uncommented = super::example::uncommented();
    for text in [example, full, &uncommented] {
        let value: Json = toml::from_str(text).unwrap();
        assert!(is_valid(&schema, &value), "{text}");
    }
    for wrong in [
        "[limits]\nmax_queued = '5'",
        "[limits]\nmax_queud = 5",
        "[citrix]\ncloud = 'mars'",
        "[citrix]\nclient_secret = { path = 'x' }",
        "[[route]]\nprefix = '/a'",
        "[upstream]\nresolve = { 'api.cloud.com' = '192.0.2.1' }",
        "[intercept]\naddress = '127.0.0.1:8081'",
    ] {
        let value: Json = toml::from_str(wrong).unwrap();
        assert!(!is_valid(&schema, &value), "{wrong}");
    }
}
