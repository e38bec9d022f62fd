//! The tools for files.

use std::fs;
use std::sync::Arc;

use internlm_agent::tool::{CancelToken, Tool, ToolContext, ToolError};
use internlm_agent::tools::Root;
use internlm_agent::tools::files::{
    FileLimits, edit_file, list_files, read_file, search_files, tools, write_file,
};
use serde_json::json;
use tempfile::TempDir;

use super::support::{call, failure, limit, misfit, text};

fn limits() -> FileLimits {
    FileLimits::default()
}

/// A folder with some files.
fn place() -> (TempDir, Root) {
    let place = tempfile::tempdir().unwrap();
    for (path, content) in [
        ("a.txt", "one\ntwo\nthree"),
        ("data/b.csv", "name,age\n小明,12\n"),
        ("data/deep/c.CSV", "x\n"),
        (".hidden/d.txt", "two\n"),
        ("empty", ""),
    ] {
        let path = place.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    fs::write(
        place.path().join("picture.png"),
        b"\x89PNG\r\n\x1a\n\0\0two\n",
    )
    .unwrap();
    fs::write(place.path().join("latin"), b"caf\xe9 two\n").unwrap();
    let root = Root::open(place.path()).unwrap();
    (place, root)
}

#[test]
fn text_is_read_whole_and_by_lines() {
    let (_place, root) = place();
    let tool = read_file(&root, limits());
    for (arguments, want) in [
        (json!({"path": "a.txt"}), "one\ntwo\nthree"),
        (json!({"path": "./data/b.csv"}), "name,age\n小明,12\n"),
        (json!({"path": "empty"}), "[the file is empty]"),
        (json!({"path": "a.txt", "first_line": 2}), "two\nthree"),
        (
            json!({"path": "a.txt", "first_line": 3, "lines": 5}),
            "three",
        ),
        (
            json!({"path": "a.txt", "lines": 1}),
            "one\n[more follows, from line 2]",
        ),
        (
            json!({"path": "a.txt", "first_line": 2, "lines": 1}),
            "two\n[more follows, from line 3]",
        ),
    ] {
        assert_eq!(text(&tool, arguments), want);
    }
    assert_eq!(
        failure(&tool, json!({"path": "a.txt", "first_line": 4})),
        "`a.txt` has only 3 lines"
    );
    assert_eq!(
        failure(&tool, json!({"path": "data/b.csv", "first_line": 9})),
        "`data/b.csv` has only 2 lines"
    );
}

#[test]
fn what_can_not_be_read_is_said() {
    let (_place, root) = place();
    let tool = read_file(&root, limits());
    assert_eq!(
        failure(&tool, json!({"path": "b.txt"})),
        "there is no `b.txt`"
    );
    assert_eq!(
        failure(&tool, json!({"path": "data"})),
        "`data` is no regular file"
    );
    assert_eq!(
        failure(&tool, json!({"path": "picture.png"})),
        "`picture.png` is no text in UTF-8"
    );
    assert_eq!(
        failure(&tool, json!({"path": "latin"})),
        "`latin` is no text in UTF-8"
    );
    root.write("zero", b"a\0b").unwrap();
    assert_eq!(
        failure(&tool, json!({"path": "zero"})),
        "`zero` is no text: it has zero bytes"
    );
    assert_eq!(
        misfit(&tool, json!({"path": "a.txt", "first_line": 0})),
        "`first_line`: invalid value: integer `0`, expected a nonzero usize"
    );
    assert_eq!(
        misfit(&tool, json!({"path": "a.txt", "lines": "two"})),
        "`lines` must be integer or null, not a string"
    );
    for path in ["../a.txt", "/etc/passwd", "data/../../x"] {
        let denied = call(&tool, json!({"path": path}));
        assert!(
            matches!(denied, Err(ToolError::Denied { .. })),
            "{path}: {denied:?}"
        );
    }
}

#[test]
fn a_long_text_comes_in_pieces() {
    let (_place, root) = place();
    let lines: Vec<String> = (1..=1000)
        .map(|number| format!("line {number}\n"))
        .collect();
    root.write("long", lines.concat().as_bytes()).unwrap();
    let tool = read_file(&root, limits().with_read_bytes(1000));
    let (mut whole, mut first) = (String::new(), 1);
    loop {
        let piece = text(&tool, json!({"path": "long", "first_line": first}));
        let Some((lines, note)) = piece.split_once("[more follows, from line ") else {
            whole.push_str(&piece);
            break;
        };
        assert!(lines.len() <= 1000 && lines.ends_with('\n'));
        whole.push_str(lines);
        first = note.trim_end_matches(']').parse().unwrap();
    }
    assert_eq!(whole, lines.concat());

    root.write("wide", "数".repeat(1000).as_bytes()).unwrap();
    let want = format!(
        "{}\n[line 1 is longer than 1000 bytes and was cut; more follows, from line 2]",
        "数".repeat(333)
    );
    assert_eq!(text(&tool, json!({"path": "wide"})), want);

    let tool = read_file(&root, limits().with_file_bytes(5000));
    assert_eq!(
        limit(&tool, json!({"path": "long", "first_line": 900})),
        "`long` has more than 5000 bytes"
    );
    assert_eq!(
        text(&tool, json!({"path": "long", "lines": 1})),
        "line 1\n[more follows, from line 2]"
    );
}

#[test]
fn folders_are_listed() {
    let (_place, root) = place();
    let tool = list_files(&root, limits());
    assert_eq!(
        text(&tool, json!({})),
        "a.txt (13 bytes)\ndata/\nempty (0 bytes)\nlatin (9 bytes)\npicture.png (14 bytes)"
    );
    assert_eq!(
        text(&tool, json!({"folder": "./data/", "depth": 2})),
        "data/b.csv (19 bytes)\ndata/deep/\ndata/deep/c.CSV (2 bytes)"
    );
    assert_eq!(
        text(&tool, json!({"pattern": "*.{csv,CSV}"})),
        "data/b.csv (19 bytes)\ndata/deep/c.CSV (2 bytes)"
    );
    assert_eq!(
        text(&tool, json!({"pattern": "deep/*", "folder": "data"})),
        "data/deep/c.CSV (2 bytes)"
    );
    assert_eq!(
        text(&tool, json!({"pattern": "*.txt", "hidden": true})),
        ".hidden/d.txt (4 bytes)\na.txt (13 bytes)"
    );
    assert_eq!(
        text(&tool, json!({"pattern": "*.rs"})),
        "[no file has such a name]"
    );
    assert_eq!(
        failure(&tool, json!({"folder": "none"})),
        "there is no `none`"
    );
    assert_eq!(
        misfit(&tool, json!({"pattern": "{a"})),
        "`pattern`: a `{` is not closed"
    );
    let denied = call(&tool, json!({"folder": ".."}));
    assert!(
        matches!(denied, Err(ToolError::Denied { .. })),
        "{denied:?}"
    );
}

#[test]
fn a_list_has_an_end() {
    let (_place, root) = place();
    assert_eq!(
        text(&list_files(&root, limits().with_listed(2)), json!({})),
        "a.txt (13 bytes)\ndata/\n[there are more than 2; a pattern or a folder narrows them]"
    );
    let few = text(&list_files(&root, limits().with_visits(3)), json!({}));
    assert!(
        few.ends_with("\n[only the first 3 files and folders were looked at]"),
        "{few}"
    );
    assert_eq!(few.lines().count(), 4);
}

#[test]
#[cfg(unix)]
fn links_are_named_and_not_followed() {
    use std::os::unix::fs::symlink;

    let (place, root) = place();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "two").unwrap();
    symlink(outside.path(), place.path().join("data/out")).unwrap();
    symlink("..", place.path().join("data/up")).unwrap();
    let list = list_files(&root, limits());
    assert_eq!(
        text(&list, json!({"folder": "data", "depth": 60})),
        "data/b.csv (19 bytes)\ndata/deep/\ndata/deep/c.CSV (2 bytes)\ndata/out (a link)\ndata/up (a link)"
    );
    let search = search_files(&root, limits());
    assert_eq!(
        text(&search, json!({"text": "two"})),
        "a.txt:2: two\nlatin:1: caf\u{fffd} two"
    );
    let denied = call(&search, json!({"text": "two", "folder": "data/out"}));
    assert!(
        matches!(denied, Err(ToolError::Denied { .. })),
        "{denied:?}"
    );
}

#[test]
fn text_is_found() {
    let (_place, root) = place();
    let tool = search_files(&root, limits());
    assert_eq!(
        text(
            &tool,
            json!({"text": "T", "ignore_case": true, "pattern": "*.txt"})
        ),
        "a.txt:2: two\na.txt:3: three"
    );
    assert_eq!(
        text(
            &tool,
            json!({"text": "^.+,\\d+$", "regex": true, "folder": "data"})
        ),
        "data/b.csv:2: 小明,12"
    );
    assert_eq!(text(&tool, json!({"text": "t.o"})), "[no line has it]");
    assert_eq!(misfit(&tool, json!({"text": ""})), "`text`: it is empty");
    let fault = misfit(&tool, json!({"text": "(", "regex": true}));
    assert!(fault.contains("unclosed group"), "{fault}");
    let fault = misfit(&tool, json!({"text": "(a{1000}){1000}", "regex": true}));
    assert!(fault.contains("size limit"), "{fault}");
}

#[test]
fn a_search_has_an_end() {
    let (_place, root) = place();
    root.write("many", "needle\n".repeat(100).as_bytes())
        .unwrap();
    let tool = search_files(&root, limits().with_matches(2));
    assert_eq!(
        text(&tool, json!({"text": "needle"})),
        "many:1: needle\nmany:2: needle\n[there are more than 2 such lines]"
    );
    let wide = format!("{}needle{}", "数".repeat(1000), "字".repeat(1000));
    root.write("wide", wide.as_bytes()).unwrap();
    let tool = search_files(&root, limits().with_line_bytes(24));
    assert_eq!(
        text(&tool, json!({"text": "needle", "pattern": "wide"})),
        "wide:1: …数数needle字字字字…"
    );
    let tool = search_files(&root, limits().with_file_bytes(100).with_matches(1));
    assert_eq!(
        text(&tool, json!({"text": "two", "pattern": "{a.txt,many}"})),
        "a.txt:2: two\n[not searched, for they have more than 100 bytes: 1 files]"
    );
    let tool = search_files(&root, limits().with_searched_bytes(20));
    assert_eq!(
        text(&tool, json!({"text": "two", "pattern": "{a.txt,many}"})),
        "a.txt:2: two\n[there is more than could be searched: a folder or a pattern narrows it]"
    );
    // An expression that would take for ever elsewhere.
    root.write("a", &[b'a'; 100_000]).unwrap();
    let tool = search_files(&root, limits());
    let arguments = json!({"text": "(a+)+$b", "regex": true, "pattern": "a"});
    assert_eq!(text(&tool, arguments), "[no line has it]");
}

#[test]
fn who_is_cancelled_stops() {
    let (_place, root) = place();
    let cancel = CancelToken::new();
    cancel.cancel();
    let mut context = ToolContext::default();
    context.cancel = cancel;
    for (tool, arguments) in [
        (list_files(&root, limits()), json!({})),
        (search_files(&root, limits()), json!({"text": "two"})),
        (read_file(&root, limits()), json!({"path": "a.txt"})),
    ] {
        let result = tool.call(&arguments, &context);
        assert!(matches!(result, Err(ToolError::Cancelled)), "{result:?}");
    }
}

#[test]
fn text_is_written() {
    let (place, root) = place();
    let tool = write_file(&root, limits().with_write_bytes(12));
    assert_eq!(
        text(&tool, json!({"path": "new/数.txt", "content": "数据\n"})),
        "`new/数.txt` is written, 7 bytes"
    );
    assert_eq!(
        text(&tool, json!({"path": "a.txt", "content": "over"})),
        "`a.txt` is written, 4 bytes"
    );
    assert_eq!(
        fs::read_to_string(place.path().join("new/数.txt")).unwrap(),
        "数据\n"
    );
    assert_eq!(
        fs::read_to_string(place.path().join("a.txt")).unwrap(),
        "over"
    );
    assert_eq!(
        limit(&tool, json!({"path": "a.txt", "content": "thirteen byte"})),
        "`a.txt` would have 13 bytes, more than 12"
    );
    assert_eq!(
        misfit(&tool, json!({"path": "a.txt"})),
        "`content` is missing"
    );
    let denied = call(&tool, json!({"path": "../out", "content": ""}));
    assert!(
        matches!(denied, Err(ToolError::Denied { .. })),
        "{denied:?}"
    );
    assert_eq!(
        fs::read_to_string(place.path().join("a.txt")).unwrap(),
        "over"
    );
}

#[test]
fn text_is_edited() {
    let (place, root) = place();
    let read = || fs::read_to_string(place.path().join("a.txt")).unwrap();
    let tool = edit_file(&root, limits().with_write_bytes(30));
    let edit = |old: &str, new: &str| json!({"path": "a.txt", "old": old, "new": new});
    assert_eq!(
        text(&tool, edit("one\ntwo", "1\n2")),
        "replaced once in `a.txt`"
    );
    assert_eq!(read(), "1\n2\nthree");
    assert_eq!(
        failure(&tool, edit("e", "E")),
        "`old` occurs 2 times in `a.txt`, in lines 3, 3: give more of the text around it, or set `all`"
    );
    assert_eq!(
        text(
            &tool,
            json!({"path": "a.txt", "old": "e", "new": "E", "all": true})
        ),
        "replaced 2 times in `a.txt`"
    );
    assert_eq!(read(), "1\n2\nthrEE");
    assert_eq!(
        failure(&tool, edit("four", "4")),
        "`old` does not occur in `a.txt`; read it to see what does"
    );
    assert_eq!(
        misfit(&tool, edit("", "4")),
        "`old` is empty; `write_file` writes a whole file"
    );
    assert_eq!(
        misfit(&tool, edit("1", "1")),
        "`old` and `new` are the same"
    );
    assert_eq!(
        limit(
            &tool,
            json!({"path": "a.txt", "old": "E", "new": "long text here", "all": true})
        ),
        "`a.txt` would have 35 bytes, more than 30"
    );
    assert_eq!(
        limit(&tool, edit("1", &"x".repeat(40))),
        "`a.txt` would have 48 bytes, more than 30"
    );
    assert_eq!(read(), "1\n2\nthrEE");
    root.write("a.txt", b"one\r\ntwo\r\n").unwrap();
    assert_eq!(
        failure(&tool, edit("one\ntwo", "1")),
        "`old` does not occur in `a.txt`, whose lines end with \\r\\n"
    );
}

#[test]
fn edits_at_once_lose_nothing() {
    let (place, root) = place();
    let names: Vec<String> = (0..20).map(|number| format!("<{number}>")).collect();
    root.write("list", names.concat().as_bytes()).unwrap();
    let tool = Arc::new(edit_file(&root, limits()));
    std::thread::scope(|scope| {
        for name in &names {
            let tool = Arc::clone(&tool);
            scope.spawn(move || {
                let arguments = json!({"path": "list", "old": name, "new": "."});
                assert_eq!(text(tool.as_ref(), arguments), "replaced once in `list`");
            });
        }
    });
    assert_eq!(
        fs::read_to_string(place.path().join("list")).unwrap(),
        ".".repeat(20)
    );
}

#[test]
fn all_of_them_together() {
    let (_place, root) = place();
    let tools = tools(&root, limits());
    let names: Vec<&str> = tools.iter().map(|tool| tool.spec().name.as_str()).collect();
    assert_eq!(
        names,
        [
            "list_files",
            "read_file",
            "search_files",
            "edit_file",
            "write_file"
        ]
    );
}
