//! What is malformed, unsupported or hostile is an error of the request.

use internlm_core::chat_model::ResponseFormat;
use serde_json::{Value, json};

use super::tokenizers::{self, Subject};
use super::{GuideFactory, allowed, guide, refusal, request};
use crate::error::Error;

fn subject() -> Subject {
    tokenizers::byte_level()
}

#[track_caller]
fn check(subject: &Subject, name: &str, format: ResponseFormat) {
    let begin = std::time::Instant::now();
    let (field, what) = refusal(subject, &request(format));
    println!("{name}: {:?}: {what}", begin.elapsed());
    assert_eq!(field, "response_format");
    assert!(!what.is_empty() && what.len() < 2000, "{what}");
}

fn nested(depth: usize) -> Value {
    (0..depth).fold(
        json!({"type": "null"}),
        |inner, _| json!({"type": "object", "properties": {"a": inner}}),
    )
}

#[test]
fn schemas() {
    let subject = subject();
    let words: Vec<String> = (0..200_000).map(|n| format!("option {n}")).collect();
    let doubling: Value = (0..40)
        .map(|n| {
            let next = json!({"$ref": format!("#/$defs/d{}", n + 1)});
            (format!("d{n}"), json!({"allOf": [next, next]}))
        })
        .chain([("d40".to_owned(), json!({"type": "object"}))])
        .collect::<serde_json::Map<_, _>>()
        .into();
    for (name, schema) in [
        ("deep", nested(2000)),
        ("no schema", json!("string")),
        ("a number", json!(1)),
        ("false", json!(false)),
        ("unknown type", json!({"type": "text"})),
        (
            "unsupported",
            json!({"type": "object", "unevaluatedProperties": false}),
        ),
        ("not", json!({"not": {"type": "string"}})),
        (
            "options",
            json!({"type": "object", "x-guidance": {"lenient": true}}),
        ),
        ("huge enum", json!({"enum": words})),
        (
            "external ref",
            json!({"$ref": "https://example.com/schema.json"}),
        ),
        (
            "file ref",
            json!({"properties": {"a": {"$ref": "other.json#/a"}}}),
        ),
        ("missing ref", json!({"$ref": "#/$defs/nobody"})),
        (
            "circle",
            json!({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}),
        ),
        (
            "circle with siblings",
            json!({"$ref": "#", "type": "object"}),
        ),
        (
            "endless",
            json!({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}),
        ),
        (
            "unsatisfiable",
            json!({"type": "integer", "minimum": 3, "maximum": 2}),
        ),
        (
            "huge array",
            json!({"type": "array", "minItems": 1_000_000_000u64}),
        ),
        (
            "huge string",
            json!({"type": "string", "minLength": 1_000_000_000u64}),
        ),
        (
            "pattern",
            json!({"type": "string", "pattern": "(((a{1,100}){1,100}){1,100}b){1,100}"}),
        ),
        ("broken pattern", json!({"type": "string", "pattern": "("})),
        ("look-ahead", json!({"type": "string", "pattern": "(?=a)b"})),
        (
            "unknown format",
            json!({"type": "string", "format": "nobody-knows"}),
        ),
        (
            "one of",
            json!({"oneOf": [{"type": "integer"}, {"type": "number"}]}),
        ),
        ("doubling", json!({"$ref": "#/$defs/d0", "$defs": doubling})),
    ] {
        check(&subject, name, ResponseFormat::JsonSchema(schema));
    }
}

#[test]
fn regular_expressions() {
    let subject = subject();
    for (name, regex) in [
        ("empty", String::new()),
        ("broken", "(a".into()),
        ("escape", "a\\".into()),
        ("back reference", "(a)\\1".into()),
        ("look-ahead", "(?!a)b".into()),
        ("long", "a".repeat(100_000)),
        ("nested", "(".repeat(5000) + "a" + &")".repeat(5000)),
        ("repeated", "((a{1,1000}){1,1000}){1,1000}".into()),
        (
            "exponential",
            "(.*a){20}(.{20}b){20}(a|b){1000}.{1000}a.{1000}".into(),
        ),
        ("nothing", "[^\\s\\S]".into()),
    ] {
        check(&subject, name, ResponseFormat::Regex(regex));
    }
}

#[test]
fn grammars() {
    let subject = subject();
    let chain: String = (0..5000).map(|n| format!("r{n}: r{}\n", n + 1)).collect();
    for (name, lark) in [
        ("empty", String::new()),
        ("no start", "begin: \"a\"".into()),
        ("broken", "start: (".into()),
        ("unknown rule", "start: nobody".into()),
        ("unknown token", "start: <|nobody|>".into()),
        ("token out of range", "start: <[99999999]>".into()),
        ("endless", "start: \"a\" start".into()),
        (
            "not UTF-8",
            "%llguidance {\"allow_invalid_utf8\": true}\nstart: /a/".into(),
        ),
        (
            "nested",
            format!("start: {}\"a\"{}", "(".repeat(5000), ")".repeat(5000)),
        ),
        ("chain", format!("start: r0\n{chain}r5000: \"a\"")),
        ("import", "%import common.NOBODY\nstart: NOBODY".into()),
        ("unknown grammar", "start: @nobody".into()),
        ("itself", "start: @answer".into()),
        ("schema", "start: %json {\"not\": {}}".into()),
        (
            "repeated",
            "start: x{1000}\nx: y{1000}\ny: z{1000}\nz: \"a\" | \"b\"".into(),
        ),
        ("long", "// a\n".repeat(50_000) + "start: \"a\""),
    ] {
        check(&subject, name, ResponseFormat::Lark(lark));
    }
}

/// What is large but fair is taken.
#[test]
fn within_the_limits() {
    let subject = subject();
    let words: Vec<String> = (0..1000).map(|n| format!("option {n}")).collect();
    let properties: serde_json::Map<_, _> = (0..200)
        .map(|n| {
            (
                format!("property_{n}"),
                json!({"type": "string", "description": "a"}),
            )
        })
        .collect();
    for format in [
        ResponseFormat::JsonSchema(nested(25)),
        ResponseFormat::JsonSchema(json!({"enum": words})),
        ResponseFormat::JsonSchema(json!({"type": "object", "properties": properties})),
        ResponseFormat::JsonSchema(json!({"type": "array", "maxItems": 1000, "minItems": 1000})),
        ResponseFormat::JsonSchema(json!({"type": "string", "maxLength": 10_000})),
        ResponseFormat::JsonSchema(json!(true)),
        ResponseFormat::Regex("a{1,2000}(b|c)*".into()),
        ResponseFormat::Regex("(.*a){3}".into()),
    ] {
        let begin = std::time::Instant::now();
        assert!(!allowed(&mut guide(&subject, &request(format.clone()))).is_empty());
        println!("{:?}: {:.60}", begin.elapsed(), format!("{format:?}"));
    }
}

#[test]
fn a_token_that_the_grammar_does_not_allow() {
    let subject = subject();
    let mut guide = guide(&subject, &request(ResponseFormat::Regex("ab".into())));
    let [a, b] = ["a", "b"].map(|token| subject.tokenizer.token_to_id(token).unwrap());
    assert!(matches!(
        guide.clone().accept(b),
        Err(Error::Request {
            field: "response_format",
            ..
        })
    ));
    assert!(guide.clone().accept(subject.eos[0]).is_err());
    assert!(guide.clone().accept(1 << 20).is_err());
    guide.accept(a).unwrap();
    assert!(!guide.is_complete());
    let mut failed = guide.clone();
    assert!(failed.accept(a).is_err());
    // It does not recover.
    assert!(failed.mask().is_err() && failed.accept(b).is_err());
    guide.accept(b).unwrap();
    assert!(guide.is_complete());
    assert_eq!(allowed(&mut guide), subject.eos);
    guide.accept(subject.eos[1]).unwrap();
}

#[test]
fn sizes_of_a_factory() {
    let tokenizer = &subject().tokenizer;
    let size = tokenizer.vocab_size();
    for (vocab_size, eos) in [(size - 1, vec![]), (size, vec![size as u32])] {
        let factory = GuideFactory::new(tokenizer, vocab_size, &eos);
        assert!(matches!(factory, Err(Error::Config { .. })));
    }
    // Without an end token, a complete answer leaves nothing to draw.
    let factory = GuideFactory::new(tokenizer, size, &[]).unwrap();
    let a = tokenizer.token_to_id("a").unwrap();
    let request = request(ResponseFormat::Regex("a".into()));
    let mut guide = factory.guide(&request).unwrap().unwrap();
    assert_eq!(allowed(&mut guide), [a]);
    guide.accept(a).unwrap();
    assert!(guide.is_complete() && guide.mask().is_err());
}
