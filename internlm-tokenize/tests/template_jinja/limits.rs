//! Bad and hostile templates end, with an error, soon.

use internlm_core::{Message, Role, ToolCall, ToolSpec, message};
use internlm_tokenize::{ChatTemplate, Error};

use super::{fixture, special, support, template};

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

/// Just inside of the limits nothing overflows a test's stack.
#[test]
fn chains_at_the_limit() {
    let messages = [Message::user("Hi")];
    for (open, close, times, compiles) in [
        ("1 + ", "", 490, true),
        ("'a' ~ ", "", 490, true),
        ("a and ", "", 490, true),
        ("a ~ ", "", 490, true),
        ("a if a else ", "", 240, true),
        ("", ".a", 490, true),
        ("", "|string", 490, true),
        ("", "[0]", 320, true),
        ("((", "))", 40, false),
        ("[[", "]]", 40, false),
        ("not (", ")", 100, false),
        ("{'a':", "}", 100, false),
        ("- 1 * ", "", 320, true),
    ] {
        let source = format!("{{{{ {}''{} }}}}", open.repeat(times), close.repeat(times));
        let result = ChatTemplate::jinja(&source, special())
            .map(|template| template.render(&messages, &[], true));
        assert_eq!(result.is_ok(), compiles, "{open}{close}");
    }
    for (open, close) in [
        ("{% if 1 %}", "{% endif %}"),
        ("{% for a in [messages] %}", "{% endfor %}"),
        ("{% macro f() %}", "{% endmacro %}{{ f() }}"),
    ] {
        let source = open.repeat(25) + "x" + &close.repeat(25);
        let template = ChatTemplate::jinja(&source, special()).unwrap();
        let parts = template.render(&messages, &[], true).unwrap();
        assert_eq!(message::join(&parts), "x");
    }
    let source = "{% if a %}".to_owned() + &"{% elif b %}".repeat(200) + "{% else %}x{% endif %}";
    let parts = template(&source).render(&messages, &[], true).unwrap();
    assert_eq!(message::join(&parts), "x");
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
