//! What is malformed, unsupported or hostile is an error of the request.

use internlm_core::chat_model::ResponseFormat;
use serde_json::{Value, json};

use super::tokenizers::{self, Rng, Subject};
use super::{GuideFactory, allowed, guide, refusal, request};
use crate::error::Error;

fn subject() -> Subject {
    tokenizers::byte_level()
}

#[track_caller]
fn check(subject: &Subject, name: &str, format: ResponseFormat) {
    println!("{name}");
    let begin = std::time::Instant::now();
    let (field, what) = refusal(subject, &request(format));
    println!("{name}: {:?}: {what}", begin.elapsed());
    assert_eq!(field, "response_format");
    assert!(!what.is_empty() && what.len() < 2000, "{what}");
}

/// Objects in objects; built without the macro, which would copy each level.
fn nested(depth: usize) -> Value {
    let object = |pairs: Vec<(&str, Value)>| {
        let pairs = pairs.into_iter();
        Value::Object(pairs.map(|(key, value)| (key.to_owned(), value)).collect())
    };
    (0..depth).fold(json!({"type": "null"}), |inner, _| {
        let properties = object(vec![("a", inner)]);
        object(vec![("type", json!("object")), ("properties", properties)])
    })
}

#[test]
fn schemas() {
    let subject = subject();
    let words: Vec<String> = (0..200_000).map(|n| format!("option {n}")).collect();
    // Each of these has 8 alternatives, and all must hold at once.
    let crossed: Vec<Value> = (0..30)
        .map(|n| {
            let option = |m| json!({"properties": {format!("p{n}"): {"maxLength": m}}});
            json!({"anyOf": (0..8).map(option).collect::<Vec<_>>()})
        })
        .collect();
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
        ("crossed", json!({"type": "object", "allOf": crossed})),
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
        ("nested", "(".repeat(2000) + "a" + &")".repeat(2000)),
        ("nothing", "[^\\s\\S]".into()),
    ] {
        check(&subject, name, ResponseFormat::Regex(regex));
    }
}

#[test]
fn grammars() {
    let subject = subject();
    let chain: String = (0..5000).map(|n| format!("r{n}: r{}\n", n + 1)).collect();
    let nested = format!("start: {}\"a\"{}", "(".repeat(5000), ")".repeat(5000));
    let bytes = "%llguidance {\"allow_invalid_utf8\": true}\nstart: /a/";
    for (name, lark) in [
        ("empty", String::new()),
        ("no start", "begin: \"a\"".into()),
        ("broken", "start: (".into()),
        ("unknown rule", "start: nobody".into()),
        ("unknown token", "start: <|nobody|>".into()),
        ("token out of range", "start: <[99999999]>".into()),
        ("not UTF-8", bytes.into()),
        ("nested", nested),
        ("chain", format!("start: r0\n{chain}r5000: \"a\"")),
        ("import", "%import common.NOBODY\nstart: NOBODY".into()),
        ("unknown grammar", "start: @nobody".into()),
        ("itself", "start: @answer".into()),
        ("schema", "start: %json {\"not\": {}}".into()),
        ("long", "// a\n".repeat(50_000) + "start: \"a\""),
    ] {
        check(&subject, name, ResponseFormat::Lark(lark));
    }
}

/// What compiles may still grow along the way: it ends with an error of the request, or it does not.
#[test]
fn growth_is_bounded() {
    let subject = subject();
    let pattern = "(((a{1,100}){1,100}){1,100}b){1,100}";
    let both = "start: X\nX: /(.*a.{20})+/ & /(.*b.{21})+/ & ~/(.*c.{22})+/";
    let ambiguous = "start: x x x x\nx: y*\ny: \"a\" | y y | \"aa\"";
    for format in [
        ResponseFormat::Regex("(.*a){20}(.{20}b){20}(a|b){1000}.{1000}a.{1000}".into()),
        ResponseFormat::Regex("(a|b|ab)*(.*a.{30}){30}".into()),
        ResponseFormat::Regex("(\\w+\\s?)*(\\d+[a-z]{3,300}){3,300}".into()),
        ResponseFormat::JsonSchema(json!({"type": "string", "pattern": pattern})),
        ResponseFormat::Lark(both.into()),
        ResponseFormat::Lark(ambiguous.into()),
        ResponseFormat::Lark("start: x{1000}\nx: y{1000}\ny: z{1000}\nz: \"a\" | \"b\"".into()),
    ] {
        let begin = std::time::Instant::now();
        let name = format!("{format:?}");
        let mut guide = match subject.factory.guide(&request(format)) {
            Ok(guide) => guide.unwrap(),
            Err(error) => {
                assert!(matches!(error, Error::Request { .. }), "{error:?}");
                println!("{:?}: {name}: {error}", begin.elapsed());
                continue;
            }
        };
        let mut rng = Rng(1);
        let mut slowest = std::time::Duration::ZERO;
        for step in 0..60 {
            let begin = std::time::Instant::now();
            let mask = guide.mask().map(<[u32]>::to_vec);
            slowest = slowest.max(begin.elapsed());
            let mask = match mask {
                Ok(mask) => mask,
                Err(error) => {
                    assert!(matches!(error, Error::Request { .. }), "{error:?}");
                    println!("step {step}: {error}");
                    break;
                }
            };
            let set: Vec<u32> = (0..mask.len() as u32 * 32)
                .filter(|&id| mask[id as usize / 32] >> (id % 32) & 1 == 1)
                .collect();
            let id = set[rng.below(set.len())];
            if subject.eos.contains(&id) || guide.accept(id).is_err() {
                break;
            }
        }
        println!("{:?}, slowest mask {slowest:?}: {name}", begin.elapsed());
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
        ResponseFormat::Regex("((a{1,1000}){1,1000}){1,1000}".into()),
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

#[test]
fn who_asks_for_the_same_gets_what_was_compiled_before() {
    let subject = &subject();
    let asked = request(ResponseFormat::JsonSchema(json!({
        "type": "object",
        "properties": {"expression": {"type": "string", "maxLength": 256}},
        "required": ["expression"],
        "additionalProperties": false
    })));
    // More at once than are compiled at once.
    let first: Vec<Vec<u32>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..64)
            .map(|_| scope.spawn(|| allowed(&mut guide(subject, &asked))))
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert!(first.iter().all(|tokens| *tokens == first[0]));
    assert_eq!(subject.factory.kept(), 1);
    // A walk leaves no trace in what is kept.
    let mut rng = Rng(7);
    super::walk(subject, guide(subject, &asked), &mut rng, 300);
    assert_eq!(allowed(&mut guide(subject, &asked)), first[0]);
    // Others take its place some time.
    for length in 1..20 {
        let other = json!({"type": "string", "maxLength": length});
        guide(subject, &request(ResponseFormat::JsonSchema(other)));
    }
    assert!(subject.factory.kept() <= 8);
}
