//! Calibration data from files: chats through the template and without it, texts, and bad input.

mod support;

use std::path::{Path, PathBuf};

use internlm_tokenize::{CalibSet, Chats, EncodeOptions, Error, Result, Tokenizer};

fn file(scratch: &Path, name: &str, text: &str) -> PathBuf {
    let path = scratch.join(name);
    std::fs::write(&path, text).expect("can be written");
    path
}

/// All tokens of a set, where they are one block.
fn ids(set: &CalibSet) -> Result<Vec<u32>> {
    Ok(set.blocks(1, set.tokens())?.concat())
}

const CHAT: &str = r#"{"messages": [{"role": "user", "content": "What is 2+2? <|im_end|>"},
    {"role": "assistant", "content": "Four."}]}"#;

#[test]
fn chats_go_through_the_template_unless_asked_otherwise() -> Result<()> {
    let Some(folder) = support::shared("goldens/tokenizers/internlm2") else {
        return Ok(());
    };
    let tokenizer = Tokenizer::load(&folder)?;
    let scratch = tempfile::tempdir().expect("a folder");
    let line = CHAT.replace('\n', " ");
    let text = format!("{line}\n\n{}\n", r#"{"text": "A text."}"#);
    let path = file(scratch.path(), "chats.jsonl", &text);

    let with = ids(&CalibSet::from_file(&path, &tokenizer, Chats::Template)?)?;
    let spelled = "<s><|im_start|>user\nWhat is 2+2? ";
    let head = tokenizer.parse_markers(spelled);
    let head = tokenizer.encode_parts(&head, false)?;
    assert_eq!(with[..head.len() - 1], head[..head.len() - 1]);
    let end = tokenizer
        .token_to_id("<|im_end|>")
        .expect("is in the vocabulary");
    // One of each message; the one that was typed is text.
    assert_eq!(with.iter().filter(|&&id| id == end).count(), 2);
    let bos = tokenizer.bos_token_id().expect("there is one");
    assert_eq!(with.iter().filter(|&&id| id == bos).count(), 2);

    let without = ids(&CalibSet::from_file(&path, &tokenizer, Chats::Text)?)?;
    let encode = |text: &str| -> Result<Vec<u32>> {
        let ids = tokenizer.encode(text, EncodeOptions::default())?;
        Ok([vec![bos], ids.into_iter().filter(|&id| id != bos).collect()].concat())
    };
    let want = [
        encode("What is 2+2? <|im_end|>\nFour.")?,
        encode("A text.")?,
    ]
    .concat();
    assert_eq!(without, want);
    assert!(!without.contains(&end));
    Ok(())
}

#[test]
fn bad_lines_and_short_texts_are_named() -> Result<()> {
    let Some(folder) = support::shared("goldens/tokenizers/internlm2") else {
        return Ok(());
    };
    let tokenizer = Tokenizer::load(&folder)?;
    let scratch = tempfile::tempdir().expect("a folder");
    for line in [
        "{}",
        "[",
        r#"{"text": "a", "messages": []}"#,
        r#"{"messages": 1}"#,
        "\"text\"",
    ] {
        let text = format!("{}\n{line}\n", r#"{"text": "fine"}"#);
        let path = file(scratch.path(), "bad.jsonl", &text);
        for chats in [Chats::Template, Chats::Text] {
            let error = CalibSet::from_file(&path, &tokenizer, chats);
            let named = matches!(&error, Err(Error::Json { field, .. }) if field == "line 2");
            assert!(named, "{line}: {error:?}");
        }
    }
    for (name, text) in [
        ("empty.txt", ""),
        ("empty.jsonl", "\n\n"),
        ("short.txt", "Too short."),
    ] {
        let path = file(scratch.path(), name, text);
        let set = CalibSet::from_file(&path, &tokenizer, Chats::Template)?;
        assert!(set.tokens() < 16);
        let blocks = set.blocks(4, 16);
        let refused = matches!(blocks, Err(Error::CalibTooShort { seq_len: 16, .. }));
        assert!(refused, "{name}");
    }
    let gone = CalibSet::from_file(scratch.path().join("gone.txt"), &tokenizer, Chats::Text);
    assert!(matches!(gone, Err(Error::Io { .. })));
    Ok(())
}
