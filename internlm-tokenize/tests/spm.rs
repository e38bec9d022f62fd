//! The SentencePiece encoder against a plain, slow statement of SentencePiece's rules.

#![allow(clippy::unwrap_used)] // helpers of tests

mod support;

use std::collections::HashMap;

use internlm_core::Part;
use internlm_tokenize::{EncodeOptions, Error, Tokenizer};
use proptest::prelude::*;
use support::{BYTE, CONTROL, Model, NORMAL, UNKNOWN, UNUSED, USER_DEFINED, shared};

const PLAIN: EncodeOptions = EncodeOptions {
    add_bos: false,
    special: false,
};

/// One symbol of the reference: its text, and whether it may merge.
type Symbol = (String, bool);

/// SentencePiece's BPE as `bpe_model.cc` and `normalizer.cc` state it, quadratic.
fn reference(model: &Model, text: &str) -> Vec<u32> {
    let pieces: HashMap<&str, (u32, f32, u8)> = model
        .pieces
        .iter()
        .zip(0..)
        .map(|((text, score, kind), id)| (text.as_str(), (id, *score, *kind)))
        .collect();
    let mergeable = |text: &str| {
        let &(id, score, kind) = pieces.get(text)?;
        (kind == NORMAL || kind == UNUSED).then_some((id, score, kind))
    };
    let text = normalize(model, text);
    let mut symbols: Vec<Symbol> = Vec::new();
    let mut rest = text.as_str();
    while let Some(c) = rest.chars().next() {
        let frozen = model
            .pieces
            .iter()
            .filter(|(piece, _, kind)| *kind == USER_DEFINED && rest.starts_with(piece.as_str()))
            .map(|(piece, ..)| piece.len())
            .max();
        let len = frozen.unwrap_or(c.len_utf8());
        symbols.push((rest[..len].to_owned(), frozen.is_none()));
        rest = &rest[len..];
    }
    // Which merge of an unused piece was tried last. Pairs are tried when they first appear.
    let mut parts: HashMap<String, (String, String)> = HashMap::new();
    let mut tried = |a: &Symbol, b: &Symbol| {
        let joined = format!("{}{}", a.0, b.0);
        if a.1 && b.1 && mergeable(&joined).is_some_and(|piece| piece.2 == UNUSED) {
            parts.insert(joined, (a.0.clone(), b.0.clone()));
        }
    };
    for pair in symbols.windows(2) {
        tried(&pair[0], &pair[1]);
    }
    loop {
        let mut best: Option<(f32, usize)> = None;
        for (i, pair) in symbols.windows(2).enumerate() {
            if !(pair[0].1 && pair[1].1) {
                continue;
            }
            if let Some((_, score, _)) = mergeable(&format!("{}{}", pair[0].0, pair[1].0))
                && best.is_none_or(|(highest, _)| score > highest)
            {
                best = Some((score, i));
            }
        }
        let Some((_, i)) = best else { break };
        let right = symbols.remove(i + 1).0;
        symbols[i].0.push_str(&right);
        if i > 0 {
            tried(&symbols[i - 1], &symbols[i]);
        }
        if i + 1 < symbols.len() {
            tried(&symbols[i], &symbols[i + 1]);
        }
    }
    let mut ids = Vec::new();
    let mut after_unknown = false;
    let mut stack: Vec<Symbol> = symbols.into_iter().rev().collect();
    while let Some((text, free)) = stack.pop() {
        let piece = if free {
            mergeable(&text)
        } else {
            pieces.get(text.as_str()).copied()
        };
        if let (Some((_, _, UNUSED)), Some((left, right))) = (piece, parts.get(&text)) {
            stack.push((right.clone(), true));
            stack.push((left.clone(), true));
            continue;
        }
        match piece {
            Some((id, ..)) => ids.push(id),
            None if model.byte_fallback => {
                ids.extend(
                    text.bytes()
                        .map(|b| pieces[format!("<0x{b:02X}>").as_str()].0),
                );
            }
            None if after_unknown => {}
            None => ids.push(pieces["<unk>"].0),
        }
        after_unknown = piece.is_none() && !model.byte_fallback;
    }
    ids
}

fn normalize(model: &Model, text: &str) -> String {
    let space = if model.escape_whitespaces {
        "\u{2581}"
    } else {
        " "
    };
    let mut text = text.to_owned();
    if model.remove_extra_whitespaces {
        while text.contains("  ") {
            text = text.replace("  ", " ");
        }
        text = text.strip_prefix(' ').unwrap_or(&text).to_owned();
    }
    if text.is_empty() {
        return text;
    }
    let prefix = if model.add_dummy_prefix { space } else { "" };
    let mut text = format!("{prefix}{}", text.replace(' ', space));
    if model.remove_extra_whitespaces {
        while let Some(shorter) = text.strip_suffix(space) {
            text = shorter.to_owned();
        }
    }
    text
}

/// Texts and pieces over few characters, so that merges overlap.
fn text(max: usize) -> impl Strategy<Value = String> {
    let chars = prop::sample::select(vec![
        'a', 'b', 'c', ' ', ' ', '\u{2581}', '\n', '中', '文', 'é', '😀', '<', '>', 'z',
    ]);
    prop::collection::vec(chars, 0..max).prop_map(String::from_iter)
}

fn model() -> impl Strategy<Value = Model> {
    let singles = prop::collection::vec(any::<bool>(), 10);
    let piece = (text(5), -4i32..0, 0u8..20);
    (
        singles,
        prop::collection::vec(piece, 0..40),
        any::<[bool; 4]>(),
        any::<bool>(),
    )
        .prop_map(
            |(singles, pieces, [byte_fallback, prefix, trim, escape], unused)| {
                let mut model = Model::new(byte_fallback);
                model.add_dummy_prefix = prefix;
                model.remove_extra_whitespaces = trim;
                model.escape_whitespaces = escape;
                let mut add = |text: String, score: f32, kind| {
                    if !text.is_empty() && model.pieces.iter().all(|(known, ..)| *known != text) {
                        model.pieces.push((text, score, kind));
                    }
                };
                for (c, there) in "ab\u{2581}中文é<>c ".chars().zip(singles) {
                    if there {
                        add(c.into(), -9.0, NORMAL);
                    }
                }
                for (text, score, kind) in pieces {
                    let text = if escape {
                        text.replace(' ', "\u{2581}")
                    } else {
                        text
                    };
                    // Markup is matched in another mode only; see the test on it.
                    let markup = text.starts_with('<') && text.ends_with('>');
                    let kind = match kind {
                        0 | 1 if !markup => USER_DEFINED,
                        2..5 if unused => UNUSED,
                        _ => NORMAL,
                    };
                    add(text, score as f32, kind);
                }
                model
            },
        )
}

proptest! {
    #![proptest_config(support::proptest_config())]

    #[test]
    fn any_vocabulary_encodes_as_the_reference_does(
        model in model(),
        texts in prop::collection::vec(text(60), 1..4),
    ) {
        let tokenizer = model.load();
        for text in &texts {
            let want = reference(&model, text);
            // Twice: the second time runs come from the cache.
            for _ in 0..2 {
                prop_assert_eq!(tokenizer.encode(text, PLAIN).unwrap(), want.clone(), "{:?}", text);
            }
        }
    }

    #[test]
    fn long_runs_encode_as_the_reference_does(
        pieces in prop::collection::btree_set("[ab]{2,5}", 1..12),
        scores in prop::collection::vec(-4i32..0, 12),
        text in "[ab]{33,200}",
    ) {
        let mut model = Model::new(false).with(NORMAL, &[("a", -9.0), ("b", -9.0)]);
        for (piece, score) in pieces.iter().zip(scores) {
            model = model.with(NORMAL, &[(piece, score as f32)]);
        }
        prop_assert_eq!(model.load().encode(&text, PLAIN).unwrap(), reference(&model, &text));
    }

    #[test]
    fn with_byte_fallback_every_text_comes_back(text in any::<String>()) {
        let tokenizer = internlm3_like().load();
        let ids = tokenizer.encode(&text, PLAIN).unwrap();
        prop_assert_eq!(tokenizer.decode(&ids, false).unwrap(), text.replace('\u{2581}', " "));
        for id in ids {
            prop_assert!(!tokenizer.is_special(id));
        }
    }

    #[test]
    fn streamed_text_is_the_whole_text_at_every_split(
        ids in prop::collection::vec(0u32..280, 0..40),
        skip: bool,
        prefix: bool,
    ) {
        let mut model = internlm3_like();
        model.add_dummy_prefix = prefix;
        let tokenizer = model.load();
        let ids: Vec<_> = ids.into_iter().filter(|&id| (id as usize) < tokenizer.vocab_size()).collect();
        for split in 0..=ids.len() {
            let mut detokenizer = tokenizer.detokenizer(skip);
            let mut streamed = String::new();
            for &id in &ids[..split] {
                streamed.push_str(&detokenizer.push(id).unwrap());
            }
            streamed.push_str(&detokenizer.flush());
            prop_assert_eq!(streamed, tokenizer.decode(&ids[..split], skip).unwrap());
        }
    }
}

/// The flags that InternLM3's tokenizer is known by: byte fallback, nothing put before the text and
/// nothing trimmed, markers as user-defined pieces. Its file is not public here.
fn internlm3_like() -> Model {
    Model::new(true)
        .with(
            NORMAL,
            &[
                ("\u{2581}", -10.0),
                ("h", -11.0),
                ("i", -12.0),
                ("hi", -1.0),
                ("\u{2581}hi", -2.0),
                ("\u{2581}\u{2581}", -3.0),
                ("你", -20.0),
                ("好", -21.0),
                ("你好", -4.0),
            ],
        )
        .with(
            USER_DEFINED,
            &[("<|im_start|>", 0.0), ("<|im_end|>", 0.0), ("——", 0.0)],
        )
}

#[test]
fn internlm3s_class_drops_one_space_at_the_start_in_decoding_only() {
    let model = internlm3_like();
    let config = r#"{"tokenizer_class": "InternLM3Tokenizer", "eos_token": "</s>"}"#;
    let tokenizer = Tokenizer::load(model.folder(Some(config)).path()).unwrap();
    let ids = tokenizer.encode("  hi hi", PLAIN).unwrap();
    assert_eq!(ids, reference(&model, "  hi hi"));
    assert_eq!(tokenizer.decode(&ids, true).unwrap(), " hi hi");
    let config = r#"{"tokenizer_class": "InternLM3Tokenizer", "add_prefix_space": false}"#;
    let tokenizer = Tokenizer::load(model.folder(Some(config)).path()).unwrap();
    assert_eq!(tokenizer.decode(&ids, true).unwrap(), "  hi hi");
}

#[test]
fn a_dummy_prefix_is_added_and_dropped_again() {
    let mut model = internlm3_like();
    model.add_dummy_prefix = true;
    let tokenizer = model.load();
    let hi = tokenizer.token_to_id("\u{2581}hi").unwrap();
    assert_eq!(tokenizer.encode("hi", PLAIN).unwrap(), [hi]);
    assert!(tokenizer.encode("", PLAIN).unwrap().is_empty());
    assert_eq!(tokenizer.decode(&[hi, hi], false).unwrap(), "hi hi");
    assert_eq!(tokenizer.decode(&[1, hi], true).unwrap(), "hi");
}

#[test]
fn markers_match_when_asked_for_only() {
    let tokenizer = internlm3_like().load();
    let end = tokenizer.token_to_id("<|im_end|>").unwrap();
    let special = EncodeOptions {
        add_bos: true,
        special: true,
    };
    let text = "hi<|im_end|></s><unk>";
    let hi = tokenizer.token_to_id("hi").unwrap();
    assert_eq!(tokenizer.encode(text, special).unwrap(), [1, hi, end, 2, 0]);
    let plain = tokenizer.encode(text, PLAIN).unwrap();
    assert!(
        plain.iter().all(|id| ![end, 2, 0].contains(id)),
        "{plain:?}"
    );
    assert_eq!(tokenizer.decode(&plain, true).unwrap(), text);
    let parts = tokenizer.parse_markers(text);
    assert_eq!(
        parts,
        [
            Part::text("hi"),
            Part::marker("<|im_end|>"),
            Part::marker("</s>"),
            Part::marker("<unk>")
        ]
    );
    assert_eq!(
        tokenizer.encode_parts(&parts, true).unwrap(),
        [1, hi, end, 2, 0]
    );
}

#[test]
fn parts_join_texts_and_keep_one_bos() {
    let tokenizer = internlm3_like().load();
    let hi = tokenizer.token_to_id("\u{2581}hi").unwrap();
    let parts = [
        Part::marker("<s>"),
        Part::text(" h"),
        Part::text("i"),
        Part::marker("i"),
        Part::marker("<s>"),
    ];
    let i = tokenizer.token_to_id("i").unwrap();
    // A marker that is no special token is text like its neighbours.
    assert_eq!(tokenizer.encode_parts(&parts, true).unwrap(), [1, hi, i, 1]);
    assert_eq!(
        tokenizer.encode_parts(&parts, false).unwrap(),
        [1, hi, i, 1]
    );
    assert_eq!(tokenizer.encode_parts(&parts[1..3], true).unwrap(), [1, hi]);
}

#[test]
fn equal_scores_merge_from_the_left_and_pieces_need_no_characters() {
    let model = Model::new(false).with(
        NORMAL,
        &[("a", -9.0), ("ab", -1.0), ("ba", -1.0), ("abab", -2.0)],
    );
    let tokenizer = model.load();
    // `b` is no piece: alone it is unknown, and neighbours that are unknown are one token.
    for text in ["abab", "baba", "bab", "b", "bb", "bbabb", "xbxb"] {
        assert_eq!(
            tokenizer.encode(text, PLAIN).unwrap(),
            reference(&model, text),
            "{text}"
        );
    }
    assert_eq!(tokenizer.encode("bbx", PLAIN).unwrap(), [0]);
    assert_eq!(tokenizer.encode("abab", PLAIN).unwrap(), [6]);
}

#[test]
fn batches_are_encoded_like_single_texts() {
    let tokenizer = internlm3_like().load();
    let texts: Vec<_> = (0..200).map(|n| "hi 你好".repeat(n % 7)).collect();
    let texts: Vec<_> = texts.iter().map(String::as_str).collect();
    let options = EncodeOptions {
        add_bos: true,
        special: false,
    };
    let batch = tokenizer.encode_batch(&texts, options).unwrap();
    for (text, ids) in texts.iter().zip(batch) {
        assert_eq!(ids, tokenizer.encode(text, options).unwrap());
    }
}

#[test]
fn ten_megabytes_without_a_border_encode() {
    let tokenizer = Model::new(true)
        .with(NORMAL, &[("a", -9.0), ("aa", -1.0), ("aaaa", -2.0)])
        .with(NORMAL, &[("\u{2581}", -9.0), ("\u{2581}\u{2581}", -3.0)])
        .with(NORMAL, &[("\u{301}\u{301}", -4.0)])
        .load();
    const BYTES: usize = 10_000_000;
    for (text, tokens) in [
        ("a".repeat(BYTES), BYTES / 4),
        (" ".repeat(BYTES), BYTES / 2),
        ("\u{301}".repeat(BYTES / 2), BYTES / 4),
    ] {
        assert_eq!(tokenizer.encode(&text, PLAIN).unwrap().len(), tokens);
    }
}

#[test]
fn real_vocabularies_encode_as_the_reference_does() {
    for family in ["internlm", "internlm2"] {
        let (Some(folder), Some(corpus)) = (
            shared(&format!("goldens/tokenizers/{family}")),
            shared("datasets/corpus"),
        ) else {
            return;
        };
        let tokenizer = Tokenizer::load(&folder).unwrap();
        // The vocabulary, rebuilt from what the tokenizer says of it; scores fall with the order
        // of pieces except for characters, so they are read from the file.
        let model = read_model(&std::fs::read(folder.join("tokenizer.model")).unwrap());
        for file in ["en_alice.txt", "zh_tangshi300.txt", "corpus_sample.jsonl"] {
            let text = std::fs::read_to_string(corpus.join(file)).unwrap();
            for line in text.lines().take(60) {
                let line: String = line.chars().take(300).collect();
                assert_eq!(
                    tokenizer.encode(&line, PLAIN).unwrap(),
                    reference(&model, &line),
                    "{line}"
                );
            }
        }
    }
}

/// Pieces of a model file that is known to be well-formed; user-defined markup is left out, as it
/// does not match in plain text.
fn read_model(bytes: &[u8]) -> Model {
    let mut model = Model::new(true);
    model.pieces.clear();
    let varint = |at: &mut usize| {
        let (mut value, mut shift) = (0, 0);
        loop {
            let byte = bytes[*at];
            *at += 1;
            value |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                return value;
            }
        }
    };
    let mut at = 0;
    while bytes[at] == 0x0a {
        at += 1;
        let len = varint(&mut at);
        let end = at + len;
        let mut piece = (String::new(), 0.0, NORMAL);
        while at < end {
            let tag = varint(&mut at);
            match tag >> 3 {
                1 => {
                    let len = varint(&mut at);
                    piece.0 = String::from_utf8(bytes[at..at + len].to_vec()).unwrap();
                    at += len;
                }
                2 => {
                    piece.1 = f32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
                    at += 4;
                }
                _ => piece.2 = varint(&mut at) as u8,
            }
        }
        let markup = piece.0.len() > 2 && piece.0.starts_with(['<', '[']);
        if piece.2 == USER_DEFINED && markup {
            piece.2 = CONTROL;
        }
        assert!([NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE].contains(&piece.2));
        model.pieces.push(piece);
    }
    model
}

#[test]
fn ids_outside_of_the_vocabulary_are_errors() {
    let tokenizer = internlm3_like().load();
    let id = tokenizer.vocab_size() as u32;
    for error in [
        tokenizer.decode(&[1, id], true).unwrap_err(),
        tokenizer.detokenizer(false).push(id).unwrap_err(),
    ] {
        assert!(matches!(error, Error::UnknownId { id: got, .. } if got == id));
    }
}

#[test]
fn bos_that_does_not_exist_is_an_error() {
    let mut model = internlm3_like();
    model.pieces[1].0 = "<begin>".into();
    let options = EncodeOptions {
        add_bos: true,
        special: false,
    };
    let error = model.load().encode("hi", options).unwrap_err();
    assert!(matches!(error, Error::NoBos), "{error}");
}
