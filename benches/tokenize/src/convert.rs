//! A well-formed BPE `tokenizer.model` as a `tokenizer.json`, the way Llama's converter does it:
//! every split of a piece into two pieces is a merge, ordered by score.

use std::collections::HashMap;
use std::error::Error;

use serde_json::{Value, json};

/// Piece types of SentencePiece.
const NORMAL: u64 = 1;
const USER_DEFINED: u64 = 4;

pub(crate) fn to_json(model: &[u8]) -> Result<String, Box<dyn Error>> {
    let mut pieces: Vec<(String, f32, u64)> = Vec::new();
    for (number, value) in fields(model)? {
        if number != 1 {
            continue;
        }
        let mut piece = (String::new(), 0.0, NORMAL);
        for (number, value) in fields(value.bytes())? {
            match number {
                1 => piece.0 = String::from_utf8(value.bytes().to_vec())?,
                2 => piece.1 = f32::from_bits(value.number() as u32),
                3 => piece.2 = value.number(),
                _ => {}
            }
        }
        pieces.push(piece);
    }
    let vocab: HashMap<&str, usize> = pieces
        .iter()
        .enumerate()
        .map(|(id, piece)| (piece.0.as_str(), id))
        .collect();
    let mut merges = Vec::new();
    for (id, (text, score, kind)) in pieces.iter().enumerate() {
        if !matches!(*kind, NORMAL | USER_DEFINED) {
            continue;
        }
        let mut splits: Vec<_> = text
            .char_indices()
            .skip(1)
            .filter_map(|(at, _)| {
                let (left, right) = text.split_at(at);
                Some((vocab.get(left)?, vocab.get(right)?, left, right))
            })
            .collect();
        splits.sort();
        merges.extend(splits.into_iter().map(|(_, _, left, right)| (*score, id, left, right)));
    }
    merges.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let merges: Vec<Value> = merges.iter().map(|(_, _, l, r)| json!([l, r])).collect();
    let added: Vec<Value> = pieces
        .iter()
        .enumerate()
        .filter(|(id, piece)| *id < 3 || piece.2 == USER_DEFINED)
        .map(|(id, piece)| {
            json!({
                "id": id, "content": piece.0, "special": id < 3, "single_word": false,
                "lstrip": false, "rstrip": false, "normalized": false,
            })
        })
        .collect();
    let json = json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": added,
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"},
        "pre_tokenizer": null, "post_processor": null,
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "\u{2581}"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"},
        ]},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": "<unk>",
            "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": true,
            "byte_fallback": true, "ignore_merges": false, "vocab": vocab, "merges": merges,
        },
    });
    Ok(json.to_string())
}

enum Field<'a> {
    Bytes(&'a [u8]),
    Number(u64),
}

impl<'a> Field<'a> {
    fn bytes(&self) -> &'a [u8] {
        match self {
            Field::Bytes(bytes) => bytes,
            Field::Number(_) => &[],
        }
    }

    fn number(&self) -> u64 {
        match self {
            Field::Number(number) => *number,
            Field::Bytes(_) => 0,
        }
    }
}

/// The fields of a protobuf message.
fn fields(mut bytes: &[u8]) -> Result<Vec<(u64, Field<'_>)>, Box<dyn Error>> {
    fn take<'a>(bytes: &mut &'a [u8], len: usize) -> Result<&'a [u8], Box<dyn Error>> {
        let (taken, rest) = bytes.split_at_checked(len).ok_or("the model is cut")?;
        *bytes = rest;
        Ok(taken)
    }
    fn varint(bytes: &mut &[u8]) -> Result<u64, Box<dyn Error>> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = take(bytes, 1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err("a number of more than 64 bits".into())
    }
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let value = match tag & 7 {
            0 => Field::Number(varint(&mut bytes)?),
            1 => Field::Number(u64::from_le_bytes(take(&mut bytes, 8)?.try_into()?)),
            2 => {
                let len = varint(&mut bytes)?.try_into()?;
                Field::Bytes(take(&mut bytes, len)?)
            }
            _ => Field::Number(u32::from_le_bytes(take(&mut bytes, 4)?.try_into()?).into()),
        };
        fields.push((tag >> 3, value));
    }
    Ok(fields)
}
