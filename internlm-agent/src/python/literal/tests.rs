use super::*;

#[track_caller]
fn check(text: &str, repr: &str) {
    assert_eq!(literal(text).unwrap().repr(), repr);
}

#[test]
fn constants_and_containers() {
    check(
        "  {'it''s': 1, \"a\" r'\\n': -2.5e3,}",
        "{'its': 1, 'a\\\\n': -2500.0}",
    );
    check(
        "\n[1,\n 0x1f, 1_000, # c\n (1,), (2), (), {1, 1, 2}, set()]",
        "[1, 31, 1000, (1,), 2, (), {1, 2}, set()]",
    );
    check("1, 2", "(1, 2)");
    check("'''a\nb'''", "'a\\nb'");
    check(r"'\x41\u6674\101\q'", "'A晴A\\\\q'");
    check("{1: 2}", "{1: 2}");
    check("- - 1", "1");
}

#[test]
fn names_are_no_literals_and_the_rest_is_no_python() {
    for text in ["true", "{\"a\": null}", "f(1, x[2]).y", "[a.b]"] {
        assert!(
            matches!(literal(text), Err(PythonError::NotLiteral { .. })),
            "{text}"
        );
    }
    for text in [
        "",
        "hello world",
        "[1,2",
        "{'a' 1}",
        "'a",
        "01",
        "1 2",
        "[1 2]",
        "{1: 2, 3}",
        "a b",
        "\n \n ]",
        "\n 1",
    ] {
        assert!(
            matches!(literal(text), Err(PythonError::Syntax { .. })),
            "{text}"
        );
    }
    assert!(literal(&"[".repeat(100_000)).is_err());
    assert!(literal(&"-".repeat(100_000)).is_err());
}

#[test]
fn whole_numbers_have_as_many_digits_as_in_python() {
    let digits = "1".repeat(MAX_DIGITS);
    for text in [
        digits.clone(),
        format!("-{digits}"),
        format!("1_{}", &digits[1..]),
        format!("0x{digits}1"),
        format!("{digits}1.5"),
    ] {
        assert!(literal(&text).is_ok(), "{} characters", text.len());
    }
    assert!(literal(&format!("{digits}1")).is_err());
}

#[test]
fn pairs_of_surrogates_are_joined() {
    let text = |source: &str| literal(source).unwrap().as_str().unwrap().to_owned();
    assert_eq!(text(r"'\ud83d\ude42!'"), "🙂!");
    assert_eq!(text(r"'\ud83d'"), "\u{fffd}");
    assert_eq!(text(r"'\ud83d\u0041'"), "\u{fffd}A");
    assert_eq!(text(r"'\ude42\ud83d'"), "\u{fffd}\u{fffd}");
    assert_eq!(text(r"'\U0001f642'"), "🙂");
}
