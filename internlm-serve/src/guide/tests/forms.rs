//! What a walk under each form ends as.

use internlm_core::chat_model::ResponseFormat;
use serde_json::{Value, json};

use super::tokenizers::each;
use super::{request, walks};

/// Walks on every tokenizer; `valid` looks at the JSON.
#[track_caller]
fn check(schema: Value, valid: fn(&Value) -> bool) {
    each(|subject| {
        let request = request(ResponseFormat::JsonSchema(schema.clone()));
        walks(subject, &request, subject.walks, |ids, text| {
            let value = serde_json::from_str(text);
            let name = subject.name;
            let value = value.unwrap_or_else(|error| panic!("{name}: {text:?} {ids:?}: {error}"));
            assert!(valid(&value), "{name}: {value}");
        });
    });
}

#[test]
fn objects_of_a_schema() {
    let schema = json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "minLength": 1, "maxLength": 10},
            "age": {"type": "integer", "minimum": 0, "maximum": 150},
            "tags": {"type": "array", "items": {"enum": ["a", "b c", "你好"]}, "maxItems": 3},
        },
        "required": ["name", "age"],
        "additionalProperties": false,
    });
    check(schema, |value| {
        let object = value.as_object().unwrap();
        let name = object["name"].as_str().unwrap().chars().count();
        let tags = object.get("tags").map(|tags| tags.as_array().unwrap());
        let known = |tag: &Value| ["a", "b c", "你好"].contains(&tag.as_str().unwrap());
        (1..=10).contains(&name)
            && (0..=150).contains(&object["age"].as_i64().unwrap())
            && tags.is_none_or(|tags| tags.len() <= 3 && tags.iter().all(known))
            && object
                .keys()
                .all(|key| ["name", "age", "tags"].contains(&key.as_str()))
    });
}

#[test]
fn values_of_an_enum() {
    let options = json!(["yes", "no\n", 1, null, {"k": [true]}, "<|im_end|>"]);
    check(json!({"enum": options}), |value| {
        json!(["yes", "no\n", 1, null, {"k": [true]}, "<|im_end|>"])
            .as_array()
            .unwrap()
            .contains(value)
    });
}

#[test]
fn strings_of_a_pattern() {
    check(
        json!({"type": "string", "pattern": "^[A-Z]{2}[0-9]{3}$"}),
        |value| {
            let text = value.as_str().unwrap().as_bytes();
            text.len() == 5
                && text[..2].iter().all(u8::is_ascii_uppercase)
                && text[2..].iter().all(u8::is_ascii_digit)
        },
    );
}

#[test]
fn a_schema_that_refers_to_itself() {
    let schema = json!({
        "$defs": {"list": {
            "type": "object",
            "properties": {
                "head": {"type": "boolean"},
                "tail": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/list"}]},
            },
            "required": ["head", "tail"],
            "additionalProperties": false,
        }},
        "$ref": "#/$defs/list",
    });
    check(schema, |mut value| {
        while !value.is_null() {
            if !value["head"].is_boolean() || value.as_object().unwrap().len() != 2 {
                return false;
            }
            value = &value["tail"];
        }
        true
    });
}

#[test]
fn any_object() {
    each(|subject| {
        let request = request(ResponseFormat::JsonObject);
        walks(subject, &request, subject.walks, |_, text| {
            match serde_json::from_str::<Value>(text) {
                Ok(value) => assert!(value.is_object(), "{text}"),
                // JSON, but `serde_json` reads no number as large as 1e999.
                Err(error) => assert!(error.to_string().contains("number out of range")),
            }
        });
    });
}

#[test]
fn regular_expressions() {
    each(|subject| {
        let regex = ResponseFormat::Regex("^(foo|bar)-[0-9]{2,3}( 你好)?$".into());
        walks(subject, &request(regex), subject.walks, |_, text| {
            let rest = text
                .strip_prefix("foo-")
                .or(text.strip_prefix("bar-"))
                .unwrap();
            let digits = rest.strip_suffix(" 你好").unwrap_or(rest);
            assert!((2..=3).contains(&digits.len()), "{text:?}");
            assert!(digits.bytes().all(|byte| byte.is_ascii_digit()), "{text:?}");
        });
        // Slashes and line breaks have a meaning in Lark, which it is translated to.
        let regex = ResponseFormat::Regex("a/b\nc\\d\"|\\\\/".into());
        walks(subject, &request(regex), 30, |_, text| {
            match text.strip_prefix("a/b\nc") {
                Some(rest) => assert!(rest.len() > 1 && rest.ends_with('"'), "{text:?}"),
                None => assert_eq!(text, "\\/"),
            }
        });
    });
}

#[test]
fn lark_grammars() {
    let lark = r#"
        start: sum
        sum: product ("+" product){0,3}
        product: NUMBER | "(" sum ")"
        NUMBER: /[0-9]{1,4}/
    "#;
    each(|subject| {
        let request = request(ResponseFormat::Lark(lark.into()));
        walks(subject, &request, subject.walks, |_, text| {
            let mut depth = 0;
            for c in text.chars() {
                depth += i32::from(c == '(') - i32::from(c == ')');
                assert!(
                    depth >= 0 && (c.is_ascii_digit() || "+()".contains(c)),
                    "{text:?}"
                );
            }
            assert!(depth == 0 && !text.is_empty(), "{text:?}");
        });
    });
}
