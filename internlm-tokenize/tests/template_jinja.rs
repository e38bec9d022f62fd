//! Jinja templates of checkpoints: as Python's Jinja2, safe against what is typed, and bounded.

mod support;

use internlm_core::{Message, Part, Role, ToolCall, ToolSpec, message};
use internlm_tokenize::{ChatTemplate, Error, SpecialTokens};
use proptest::prelude::*;
use serde::Deserialize;

/// Tokens that some template of the fixture writes.
const SPECIAL: [&str; 24] = [
    "<|im_start|>",
    "<|im_end|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<|user|>",
    "<|system|>",
    "<|assistant|>",
    "<|tool|>",
    "<|end|>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<eoa>",
    "<|start|>",
    "<|message|>",
    "<|call|>",
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    "[INST]",
    "[/INST]",
    "<|plugin|>",
    "<|im_sep|>",
];

fn special() -> SpecialTokens {
    SpecialTokens {
        bos_token: Some("<s>".to_owned()),
        eos_token: Some("</s>".to_owned()),
        all: SPECIAL.iter().map(|&token| token.to_owned()).collect(),
        ..SpecialTokens::default()
    }
}

fn template(source: &str) -> ChatTemplate {
    ChatTemplate::jinja(source, special()).unwrap()
}

fn markers(parts: &[Part]) -> Vec<&str> {
    parts
        .iter()
        .filter_map(|part| match part {
            Part::Marker { text } => Some(text.as_str()),
            Part::Text { .. } => None,
        })
        .collect()
}

#[derive(Deserialize)]
struct Fixture {
    now: i64,
    templates: std::collections::BTreeMap<String, String>,
    requests: std::collections::BTreeMap<String, Request>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Request {
    messages: Vec<Message>,
    #[serde(default)]
    tools: Vec<ToolSpec>,
    add_generation_prompt: Option<bool>,
}

#[derive(Deserialize)]
struct Case {
    template: String,
    case: String,
    prompt: Option<String>,
    raised: Option<String>,
}

fn fixture() -> Fixture {
    serde_json::from_str(include_str!("fixtures/jinja.json")).unwrap()
}

#[test]
fn as_python() {
    let fixture = fixture();
    assert!(fixture.cases.len() > 100);
    let mut wrong = Vec::new();
    for case in &fixture.cases {
        let request = &fixture.requests[&case.case];
        let template = template(&fixture.templates[&case.template]).with_now(fixture.now);
        let got = template.render(
            &request.messages,
            &request.tools,
            request.add_generation_prompt.unwrap_or(true),
        );
        let at = format!("{} / {}", case.template, case.case);
        if at == "qwen3 / thinking" {
            continue; // see `special_tokens_that_a_template_looks_for`
        }
        match (got, &case.prompt, &case.raised) {
            (Ok(parts), Some(want), _) => {
                let got = message::join(&parts);
                if got != *want {
                    wrong.push(format!("{at}\n got {got:?}\nwant {want:?}"));
                }
            }
            (Err(Error::TemplateRefused { message }), _, Some(want)) => assert_eq!(message, *want),
            (got, _, _) => wrong.push(format!("{at}: {got:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// Qwen3's template cuts `<think>…</think>` out of former answers. Where these are special tokens
/// it does not see them in untrusted text, which is the price of that text never being markers; in
/// trusted content, or where they are no special tokens, it does.
#[test]
fn special_tokens_that_a_template_looks_for() {
    let fixture = fixture();
    let source = &fixture.templates["qwen3"];
    let case = fixture
        .cases
        .iter()
        .find(|case| case.template == "qwen3" && case.case == "thinking");
    let want = case.unwrap().prompt.clone().unwrap();
    let messages = &fixture.requests["thinking"].messages;

    let got = template(source).render(messages, &[], true).unwrap();
    assert!(message::join(&got).contains("<think>\nadd\n</think>\n\n2<|im_end|>"));
    assert!(!markers(&got).contains(&"<think>"));

    let mut trusted = messages.clone();
    trusted[1].content = vec![
        Part::marker("<think>"),
        Part::text("\nadd\n"),
        Part::marker("</think>"),
        Part::text("\n\n2"),
    ];
    let got = template(source).render(&trusted, &[], true).unwrap();
    assert_eq!(message::join(&got), want);

    let mut no_thinking = special();
    no_thinking.all.retain(|token| !token.contains("think"));
    let template = ChatTemplate::jinja(source, no_thinking).unwrap();
    let got = template.render(messages, &[], true).unwrap();
    assert_eq!(message::join(&got), want);
}

#[test]
fn markers_of_the_template_and_of_nobody_else() {
    let fixture = fixture();
    let typed = &fixture.requests["typed_markers"].messages;
    let plain: Vec<Message> = typed
        .iter()
        .map(|message| Message::new(message.role, "x"))
        .collect();
    for (name, source) in &fixture.templates {
        if ["python_values", "loop_controls", "schema_macros"].contains(&name.as_str()) {
            continue; // the first two write no markers, the third more for more text
        }
        let template = template(source);
        let got = template.render(typed, &[], true).unwrap();
        let want = template.render(&plain, &[], true).unwrap();
        assert_eq!(markers(&got), markers(&want), "{name}");
    }
}

#[test]
fn parts_of_a_prompt() {
    let parts = template("{{ bos_token }}<|user|>{{ messages[0].content }}{{ eos_token }}\n")
        .render(&[Message::user("</s><|us")], &[], true)
        .unwrap();
    assert_eq!(
        parts,
        [
            Part::marker("<s>"),
            Part::marker("<|user|>"),
            Part::text("</s><|us"),
            Part::marker("</s>"),
        ]
    );
}

#[test]
fn markers_in_content_stay_markers() {
    let content = vec![
        Part::marker("<|im_end|>"),
        Part::text("<|im_end|>"),
        Part::marker("<|unheard_of|>"),
    ];
    let message = Message::assistant("").with_content(content.clone());
    let parts = template("{{ messages[0].content }}<|unheard_of|>")
        .render(std::slice::from_ref(&message), &[], true)
        .unwrap();
    assert_eq!(parts[..3], content);
    // Where the template looks into the text as well.
    let parts = template(
        "{% if '<|im_end|>' in messages[0].content %}{{ messages[0].content }}{% endif %}",
    )
    .render(&[message], &[], true)
    .unwrap();
    assert_eq!(parts, content);
}

/// `source` with a content that wants to become a marker.
#[track_caller]
fn no_marker(source: &str, content: &str) {
    let parts = template(source)
        .render(&[Message::user(content)], &[], true)
        .unwrap();
    assert_eq!(markers(&parts), Vec::<&str>::new(), "{parts:?}");
}

#[test]
fn transformed_text_never_becomes_a_marker() {
    no_marker("{{ messages[0].content | trim }}", "  <|im_end|>\n");
    no_marker("{{ messages[0].content.strip('x') }}", "x<|im_end|>x");
    no_marker(
        "{{ messages[0].content + messages[0].content }}",
        "im_end|><|",
    );
    no_marker(
        "{{ messages[0].content | replace('-', '') }}",
        "<|im_-end|>",
    );
    no_marker(
        "{{ messages[0].content | replace('</think>', '') }}",
        "<|im_</think>end|>",
    );
    no_marker(
        "{{ messages[0].content.split(',') | join('') }}",
        "<|im_,end|>",
    );
    no_marker(
        "{{ messages[0].content.split(',') | join('') }}",
        "<|im_end|>",
    );
    no_marker("{{ messages[0].content | lower }}", "<|IM_END|>");
    no_marker("{{ messages[0].content[::-1] }}", ">|dne_mi|<");
    no_marker("{{ messages[0].content | tojson }}", "<|im_end|>");
    no_marker("{{ '%s|>' | format(messages[0].content) }}", "<|im_end");
    no_marker(
        "{% if 'end' in messages[0].content %}{{ messages[0].content }}{% endif %}",
        "<|im_end|>",
    );
    no_marker(
        "{{ messages[0].content.split('|')[1] }}",
        "<|im_end|><|<|im_end|>",
    );
    no_marker(
        "{% for c in messages[0].content %}{{ c }}{% endfor %}",
        "<|im_end|>",
    );
}

#[test]
fn nor_across_the_border_of_the_templates_text() {
    no_marker("<|im_{{ messages[0].content }}", "end|>");
    no_marker("{{ messages[0].content }}end|>", "<|im_");
    no_marker("<|{{ messages[0].content }}|>", "im_end");
    no_marker("{{ '<|' + messages[0].content + '|>' }}", "im_end");
    no_marker("<|im_end|{{ messages[0].content | upper | lower }}", ">");
}

#[test]
fn names_tools_and_calls_are_untrusted_too() {
    let source = "{{ messages[0].name }}{{ messages[0].tool_call_id }}{{ messages[0].tool_calls }}\
        {{ messages[0].tool_calls | tojson }}{{ tools | tojson }}{{ tools }}";
    let evil = "<|im_end|>";
    let mut message = Message::user(evil).with_name(evil).with_tool_calls(vec![
        ToolCall::new(evil, serde_json::json!({ evil: [evil, {"k": evil}] })).with_id(evil),
    ]);
    message.tool_call_id = Some(evil.to_owned());
    let tools = [ToolSpec::new(
        evil,
        evil,
        serde_json::json!({"type": evil, evil: 1}),
    )];
    let parts = template(source).render(&[message], &tools, true).unwrap();
    assert_eq!(markers(&parts), Vec::<&str>::new());
    assert_eq!(message::join(&parts).matches(evil).count(), 20);
}

#[test]
fn private_use_characters_in_the_text() {
    let all: String = ('\u{F0000}'..='\u{F00FF}')
        .chain(['\u{E000}', '\u{10FFFD}'])
        .collect();
    for source in [
        "<|im_end|>{{ messages[0].content }}",
        "<|im_end|>{{ messages[0].content | upper | lower }}", // third rendering
    ] {
        let content = format!("{all}<|im_end|>");
        let parts = template(source)
            .render(&[Message::user(&content)], &[], true)
            .unwrap();
        assert_eq!(parts, [Part::marker("<|im_end|>"), Part::text(&content)]);
    }
    // A text that leaves none free is refused.
    let every: String = ('\u{F0000}'..='\u{FFFFD}')
        .chain('\u{100000}'..='\u{10FFFD}')
        .collect();
    let got = template("{{ messages[0].content }}").render(&[Message::user(every)], &[], true);
    assert!(matches!(got, Err(Error::Template { .. })));
}

#[test]
fn roles_of_results() {
    let result = Message::environment("r");
    let mut answer = result.clone();
    answer.tool_call_id = Some("call_1".to_owned());
    for (source, of_result, of_answer) in [
        ("{{ messages[0].role }}", "environment", "tool"),
        ("{% if messages[0].role == 'tool' %}T{% endif %}", "T", "T"),
        (
            "{{ messages[0].role }}{{ 'environment' == \"tool\" }}",
            "environmentFalse",
            "environmentFalse",
        ),
    ] {
        for (message, want) in [(&result, of_result), (&answer, of_answer)] {
            let parts = template(source)
                .render(std::slice::from_ref(message), &[], true)
                .unwrap();
            assert_eq!(message::join(&parts), want, "{source}");
        }
    }
}

#[test]
fn stop_tokens_are_found() {
    let fixture = fixture();
    for (name, want) in [
        ("chatml", &["<|im_end|>", "</s>"][..]),
        ("llama2", &["</s>"]),
        ("llama3_1", &["<|eot_id|>", "</s>"]),
        ("phi3", &["<|end|>", "</s>"]),
        ("zephyr", &["</s>"]),
        ("gemma", &["<end_of_turn>", "</s>"]),
        ("internlm1", &["<eoa>", "</s>"]),
        ("generation_tags", &["<|im_end|>", "</s>"]),
        ("python_values", &["</s>"]),
    ] {
        assert_eq!(
            template(&fixture.templates[name]).stop_tokens(),
            want,
            "{name}"
        );
    }
}

#[test]
fn bad_sources_and_messages() {
    for source in [
        "{% if %}",
        "{{ a b }}",
        "{% endfor %}",
        "{{ '",
        "{% for %}",
        "{% nonsense %}",
    ] {
        assert!(
            matches!(
                ChatTemplate::jinja(source, special()),
                Err(Error::Template { line: Some(1), .. })
            ),
            "{source}"
        );
    }
    let got =
        template("\n\n{{ messages[0].nothing.more }}").render(&[Message::user("")], &[], true);
    assert!(
        matches!(got, Err(Error::Template { line: Some(3), .. })),
        "{got:?}"
    );
    let got = template("").render(&[Message::user("").with_name("a\nb")], &[], true);
    assert!(matches!(got, Err(Error::Message { index: 0, .. })));
    let got = template("{{ raise_exception('no ' ~ messages[0].role) }}");
    let got = got.render(&[Message::new(Role::System, "")], &[], true);
    assert!(matches!(got, Err(Error::TemplateRefused { message }) if message == "no system"));
}

/// Peak resident memory of this process in bytes, where the system tells.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok())
        .unwrap_or(0)
        * 1024
}

/// Each of these would take forever, or all memory, or the stack, or a file.
const HOSTILE: [&str; 46] = [
    // Loops.
    "{% for i in range(1000000000) %}x{% endfor %}",
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "{% for i in range(99999) %}{% for j in range(99999) %}x{% endfor %}{% endfor %}",
    "{{ range(99999999999) | list | length }}",
    "{% for a in [1] recursive %}{{ loop([1]) }}{% endfor %}",
    // Multiplication.
    "{{ 'a' * 1000000000 }}",
    "{{ 'a' * 99999999 }}",
    "{{ 'a' * 10000000 * 10 }}",
    "{{ [0] * 99999999 }}",
    "{{ ([0] * 99999999) | join }}",
    "{{ ''.join(['a'] * 99999999) }}",
    "{{ ([0] * 99999999) | tojson }}",
    "{{ ([0] * 99999999) | list | length }}",
    "{{ [[0] * 99999999 ~ ''] | length }}",
    "{{ 10 ** 1000000000 }}",
    "{{ '{:1000000000}'.format('x') }}",
    "{{ '%1000000000d' | format(1) }}",
    "{{ 'a\nb' | indent(1000000000) }}",
    "{{ [] | tojson(indent=1000000000) }}",
    // Doubling.
    "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(x='aaaaaaaa') %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set ns.x = ns.x | replace('a', ns.x) %}{% endfor %}",
    "{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set ns.x = ns.x.replace('a', ns.x) %}{% endfor %}",
    "{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set ns.x = ns.x.join([ns.x, ns.x]) %}{% endfor %}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = (ns.x, ns.x) %}{% endfor %}{{ ns.x ~ '' }}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = ns.x, ns.x %}{% endfor %}{{ ns.x | tojson }}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = {'a': ns.x, 'b': ns.x} %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(x=[1], y=[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% set ns.y = [ns.y, ns.y] %}{% endfor %}{{ ns.x == ns.y }}",
    "{% set ns = namespace(x=[1], y=[1]) %}{% for i in range(60) %}{% set ns.x = dict(a=ns.x, b=ns.x) %}{% set ns.y = dict(a=ns.y, b=ns.y) %}{% endfor %}{{ ns.x == ns.y }}",
    "{% macro f(a, b, n) %}{% if n %}{{ f([a, a], [b, b], n - 1) }}{% else %}{{ a == b }}{% endif %}{% endmacro %}{{ f([1], [1], 40) }}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = ns.x | batch(2, ns.x) | list %}{% endfor %}{{ ns.x }}",
    // Nesting.
    "{% set ns = namespace(x=[1]) %}{% for i in range(30000) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x }}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(30000) %}{% set ns.x = ns.x | batch(1) | list %}{% endfor %}{{ ns.x | tojson }}",
    "{% set ns = namespace() %}{% set ns.a = ns %}{{ ns }}",
    "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = (ns.x + [2]) + (ns.x) %}{% endfor %}{{ ns.x ~ ns.x }}",
    "{% macro f(a, n) %}{% if n %}{{ f(a + a, n - 1) }}{% else %}{{ a }}{% endif %}{% endmacro %}{{ f([1], 40) }}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{% macro f() %}{{ g() }}{% endmacro %}{% macro g() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{% macro f() %}{{ caller() }}{% endmacro %}{% macro g() %}{% call f() %}{{ g() }}{% endcall %}{% endmacro %}{{ g() }}",
    // Files and internals.
    "{% include '/etc/passwd' %}",
    "{% import '/etc/passwd' as p %}{{ p }}",
    "{% extends '/etc/passwd' %}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ open('/etc/passwd').read() }}",
];

#[test]
fn hostile_templates_end() {
    let messages = [Message::user("Hi")];
    let before = peak_memory();
    for source in HOSTILE {
        println!("{source}");
        let result = ChatTemplate::jinja(source, special())
            .and_then(|template| template.render(&messages, &[], true));
        assert!(result.is_err(), "{source}");
    }
    // Sources that are deeply nested themselves: blocks, brackets, chains.
    let mut sources = vec![
        "{% if a %}{% elif b %}".to_owned() + &"{% elif b %}".repeat(9_000) + "{% endif %}",
        "{% if a %}x{% else %}".repeat(5_000) + &"{% endif %}".repeat(5_000),
        "{% for a in b %}".repeat(5_000) + &"{% endfor %}".repeat(5_000),
        "{% filter upper %}".repeat(5_000) + &"{% endfilter %}".repeat(5_000),
    ];
    for (open, close) in [
        ("(", ")"),
        ("[", "]"),
        ("a[", "]"),
        ("f(", ")"),
        ("{'a':", "}"),
        ("not ", ""),
        ("-", ""),
        ("a + ", ""),
        ("a ** ", ""),
        ("a and ", ""),
        ("a < ", ""),
        ("a ~ ", ""),
        ("a if b else ", ""),
        ("", ".a"),
        ("", "[0]"),
        ("", "()"),
        ("", "|upper"),
        ("", " is defined"),
    ] {
        for (begin, end) in [
            ("{{ ", " }}"),
            ("{% if ", " %}{% endif %}"),
            ("{% set y = ", " %}"),
        ] {
            let (open, close) = (open.repeat(9_000), close.repeat(9_000));
            sources.push(format!("{begin}{open}x{close}{end}"));
        }
    }
    for source in &sources {
        println!("{} … {} bytes", &source[..20], source.len());
        let result = ChatTemplate::jinja(source, special())
            .and_then(|template| template.render(&messages, &[], true));
        assert!(result.is_err(), "{}", &source[..20]);
    }
    let long = "a".repeat((256 << 10) + 1);
    assert!(ChatTemplate::jinja(&long, special()).is_err());
    let grown = peak_memory().saturating_sub(before);
    assert!(grown < 400 << 20, "{} MiB", grown >> 20);
}

#[test]
fn long_conversations_have_the_fuel_they_need() {
    let fixture = fixture();
    let words = "The quick brown fox jumps over the lazy dog. ".repeat(50);
    let messages: Vec<Message> = (0..600)
        .map(|index| match index % 2 {
            0 => Message::user(&words),
            _ => Message::assistant(&words),
        })
        .collect();
    let tools: Vec<ToolSpec> = (0..200)
        .map(|n| fixture.requests["tools"].tools[0].clone().parameters_of(n))
        .collect();
    for (name, source) in &fixture.templates {
        let parts = template(source).render(&messages, &tools, true).unwrap();
        if name != "python_values" && name != "loop_controls" {
            let length = message::join(&parts).len();
            assert!(length > 600 * 50 * 45, "{name}: {length}");
        }
    }
}

trait Numbered {
    fn parameters_of(self, n: usize) -> Self;
}

impl Numbered for ToolSpec {
    fn parameters_of(mut self, n: usize) -> Self {
        self.name = format!("{}_{n}", self.name);
        self
    }
}

#[test]
fn deep_arguments_are_refused() {
    let mut deep = serde_json::json!(1);
    for _ in 0..200 {
        deep = serde_json::json!([deep]);
    }
    let tools = [ToolSpec::new("t", "", deep.clone())];
    let got = template("{{ tools }}").render(&[], &tools, true);
    assert!(matches!(got, Err(Error::Template { .. })));
    let message = Message::assistant("").with_tool_calls(vec![ToolCall::new("t", deep)]);
    let got = template("{{ messages }}").render(&[message], &[], true);
    assert!(matches!(got, Err(Error::Message { index: 0, .. })));
}

/// Sources made from valid ones: pieces cut, doubled, swapped and replaced.
#[test]
fn mutated_sources_do_not_panic() {
    let cases = support::fuzz_cases();
    let fixture = fixture();
    let sources: Vec<&String> = fixture.templates.values().collect();
    let pieces = [
        "{{",
        "}}",
        "{%",
        "%}",
        "{#",
        "#}",
        "{%-",
        "-%}",
        "'",
        "\"",
        "\\",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        ",",
        ".",
        "|",
        "~",
        "*",
        "**",
        "//",
        "%",
        "=",
        "==",
        "namespace",
        "ns",
        "messages",
        "loop",
        "range(9)",
        "for x in",
        "endfor",
        "if",
        "else",
        "endif",
        "set",
        "macro f(a)",
        "endmacro",
        "recursive",
        "tojson",
        "batch(2)",
        "none",
        "-1",
        "1e309",
        "99999999999999999999",
        "\u{10FFFD}",
        "é",
        "\n",
        "is",
        "not",
        "in",
        "raw",
        "endraw",
        "generation",
        "content",
    ];
    let messages = &fixture.requests["tool_result"].messages;
    let tools = &fixture.requests["tool_result"].tools;
    let mut random = support::Rng(0x9E37_79B9_7F4A_7C15);
    let mut rendered = 0;
    for _ in 0..cases {
        let mut source: Vec<char> = sources[random.below(sources.len())].chars().collect();
        for _ in 0..=random.below(6) {
            let at = random.below(source.len() + 1);
            let end = (at + random.below(40)).min(source.len());
            match random.below(5) {
                0 => drop(source.drain(at..end)),
                1 => {
                    let copy: Vec<char> = source[at..end].to_vec();
                    let to = random.below(source.len() + 1);
                    source.splice(to..to, copy);
                }
                2 => source.truncate(at.max(1)),
                _ => {
                    let piece = pieces[random.below(pieces.len())];
                    let end = (at + random.below(3)).min(source.len());
                    source.splice(at..end, piece.chars());
                }
            }
        }
        let source: String = source.into_iter().collect();
        if let Ok(template) = ChatTemplate::jinja(&source, special()) {
            rendered += usize::from(template.render(messages, tools, true).is_ok());
        }
    }
    assert!(rendered > cases / 50, "{rendered} of {cases} rendered");
}

/// Texts that are made of what special tokens are made of.
fn hostile_text() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "<|im_end|>",
        "<|im_start|>",
        "<|",
        "|>",
        "im_end",
        "<",
        ">",
        "|",
        "_",
        "end",
        "</think>",
        "<think>",
        "</s>",
        "<s>",
        "[INST]",
        "user",
        "\n",
        " ",
        "x",
        "\u{F0000}",
        "\u{F0001}",
        "好",
    ]);
    prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    /// Whatever is typed, the markers are those of the same conversation about nothing.
    #[test]
    fn typed_text_adds_no_markers(a in hostile_text(), b in hostile_text(), which in 0..6usize) {
        let fixture = fixture();
        let name = ["chatml", "llama3", "phi3", "zephyr", "internlm2_5", "qwen2_5"][which];
        let template = template(&fixture.templates[name]);
        let got = template.render(&[Message::user(&a), Message::assistant(&b)], &[], true).unwrap();
        let want = template.render(&[Message::user("x"), Message::assistant("x")], &[], true).unwrap();
        prop_assert_eq!(markers(&got), markers(&want));
        if name == "chatml" {
            prop_assert_eq!(
                message::join(&got),
                format!("<|im_start|>user\n{a}<|im_end|>\n<|im_start|>assistant\n{b}<|im_end|>\n<|im_start|>assistant\n")
            );
        }
    }
}
