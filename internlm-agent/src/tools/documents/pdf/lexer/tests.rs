use super::*;

#[track_caller]
fn check(text: &str, want: Object) {
    assert_eq!(
        Lexer::new(text.as_bytes(), 0).object(),
        Some(want),
        "{text}"
    );
}

#[test]
fn objects_are_read() {
    check(" 12 ", Object::Number(12.0));
    check("-.5", Object::Number(-0.5));
    check("12 0 R", Object::Reference(12));
    check("12 0 RG", Object::Number(12.0));
    check("% a\n/A#20b ", Object::Name("A b".to_owned()));
    check("(a(b)\\)\\101\\\nc)", Object::Text(b"a(b))Ac".to_vec()));
    check("<48 656>", Object::Text(b"He`".to_vec()));
    check(
        "[1 0 R 2]",
        Object::Array(vec![Object::Reference(1), Object::Number(2.0)]),
    );
    let dict = Dict::from([
        ("A".to_owned(), Object::Dict(Dict::new())),
        ("B".to_owned(), Object::Bool),
    ]);
    check("<</A<<>>/B true>>", Object::Dict(dict));
    check("--5", Object::Number(-5.0));
    check("1.2.3", Object::Number(1.2));
}

#[test]
fn nothing_hangs_or_overflows() {
    for text in [
        "[", "<<", "(", "<", "/", ">>", "[[[[", "<</A", "<</A>>", ")", "1 2", "-", "{",
    ] {
        let mut lexer = Lexer::new(text.as_bytes(), 0);
        for _ in 0..10 {
            lexer.object();
        }
    }
    let deep = "[".repeat(1_000_000);
    assert_eq!(Lexer::new(deep.as_bytes(), 0).object(), None);
}
