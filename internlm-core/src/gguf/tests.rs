use std::io::Cursor;
use std::path::Path;

use super::*;

/// Every kind of value, and tensors of several types.
fn sample() -> Vec<u8> {
    let mut bytes = Vec::new();
    GgufWriter::new()
        .with_metadata("general.architecture", Value::String("internlm2".into()))
        .with_metadata("general.alignment", Value::U32(32))
        .with_metadata("a.u8", Value::U8(7))
        .with_metadata("a.i8", Value::I8(-7))
        .with_metadata("a.u16", Value::U16(700))
        .with_metadata("a.i16", Value::I16(-700))
        .with_metadata("a.i32", Value::I32(-70_000))
        .with_metadata("a.f32", Value::F32(1e-5))
        .with_metadata("a.u64", Value::U64(u64::MAX))
        .with_metadata("a.i64", Value::I64(5))
        .with_metadata("a.f64", Value::F64(0.5))
        .with_metadata("a.bool", Value::Bool(true))
        .with_metadata("a.string", Value::String("\0 书 \u{2581}".into()))
        .with_metadata("b.u8", Value::Array(Array::U8(vec![1, 2])))
        .with_metadata("b.i8", Value::Array(Array::I8(vec![-1, 2])))
        .with_metadata("b.u16", Value::Array(Array::U16(vec![1, 2])))
        .with_metadata("b.i16", Value::Array(Array::I16(vec![1, 2])))
        .with_metadata("b.u32", Value::Array(Array::U32(vec![1, 2])))
        .with_metadata("b.i32", Value::Array(Array::I32(vec![1, 2])))
        .with_metadata("b.f32", Value::Array(Array::F32(vec![-1.5, 2.0])))
        .with_metadata("b.bool", Value::Array(Array::Bool(vec![false, true])))
        .with_metadata(
            "b.string",
            Value::Array(Array::String(vec![
                "<s>".into(),
                String::new(),
                "\0".into(),
            ])),
        )
        .with_metadata("b.u64", Value::Array(Array::U64(vec![1, 2])))
        .with_metadata("b.i64", Value::Array(Array::I64(vec![1, 2])))
        .with_metadata("b.f64", Value::Array(Array::F64(vec![1.0, 2.0])))
        .with_metadata("b.none", Value::Array(Array::F32(vec![])))
        .with_tensor("scalar", [], 0)
        .with_tensor("norm", [5], 0)
        .with_tensor("w", [3, 64], 3)
        .with_tensor("last", [2, 8], 30)
        .write(&mut bytes, Path::new("sample.gguf"), |name, data| {
            let (len, fill) = match name {
                "scalar" => (4, 1),
                "norm" => (20, 2),
                "w" => (3 * 2 * 20, 3),
                _ => (32, 4),
            };
            data.write_all(&vec![fill; len])
        })
        .unwrap();
    bytes
}

fn parse(bytes: &[u8]) -> Result<Gguf> {
    let (file, len) = (Path::new("sample.gguf"), bytes.len() as u64);
    Gguf::read(Cursor::new(bytes), file, len, &Limits::default())
}

/// A header with these counts and nothing else.
fn header(version: u32, tensors: u64, metadata: u64) -> Vec<u8> {
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(version.to_le_bytes());
    bytes.extend(tensors.to_le_bytes());
    bytes.extend(metadata.to_le_bytes());
    bytes
}

fn string(text: &[u8]) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text].concat()
}

/// An entry of the tensor table; dimensions as the file has them, innermost first.
fn entry(name: &str, dimensions: &[u64], ggml_type: u32, offset: u64) -> Vec<u8> {
    let mut bytes = string(name.as_bytes());
    bytes.extend((dimensions.len() as u32).to_le_bytes());
    bytes.extend(dimensions.iter().flat_map(|d| d.to_le_bytes()));
    bytes.extend(ggml_type.to_le_bytes());
    bytes.extend(offset.to_le_bytes());
    bytes
}

/// A file of these tensors and `data` bytes.
fn tensors(entries: &[Vec<u8>], data: usize) -> Vec<u8> {
    let mut bytes = header(3, entries.len() as u64, 0);
    bytes.extend(entries.concat());
    bytes.resize(bytes.len().next_multiple_of(32) + data, 0);
    bytes
}

/// A file of one key with this type and these bytes of value.
fn metadata(key: &[u8], kind: u32, value: &[u8]) -> Vec<u8> {
    [
        &header(3, 0, 1),
        &string(key),
        &kind.to_le_bytes()[..],
        value,
    ]
    .concat()
}

#[track_caller]
fn refused(bytes: &[u8], at: u64, word: &str) {
    match parse(bytes) {
        Err(Error::Gguf { offset, what, .. }) => {
            assert!(what.contains(word), "`{what}` does not mention `{word}`");
            assert_eq!(offset, at, "{what}");
        }
        other => panic!("expected an error about `{word}`, got {other:?}"),
    }
}

#[test]
fn what_is_written_is_read() {
    let bytes = sample();
    let gguf = parse(&bytes).unwrap();
    assert_eq!((gguf.version, gguf.alignment), (3, 32));
    assert_eq!(gguf.file_len, bytes.len() as u64);
    assert_eq!(gguf.metadata.len(), 26);
    assert_eq!(gguf.string("a.string").unwrap(), Some("\0 书 \u{2581}"));
    assert_eq!(gguf.u32("a.u8").unwrap(), Some(7));
    assert_eq!(gguf.u32("a.u16").unwrap(), Some(700));
    assert_eq!(gguf.u64("a.u64").unwrap(), Some(u64::MAX));
    assert_eq!(gguf.u64("a.i64").unwrap(), Some(5));
    assert_eq!(gguf.f32("a.f32").unwrap(), Some(1e-5));
    assert_eq!(gguf.f32("a.f64").unwrap(), Some(0.5));
    assert_eq!(gguf.bool("a.bool").unwrap(), Some(true));
    assert_eq!(gguf.metadata["a.i8"], Value::I8(-7));
    assert_eq!(gguf.metadata["a.i16"], Value::I16(-700));
    assert_eq!(gguf.metadata["a.i32"], Value::I32(-70_000));
    for key in ["u8", "u16", "i16", "u32", "i32", "u64", "i64"] {
        assert_eq!(
            gguf.u32s(&format!("b.{key}")).unwrap(),
            Some(vec![1, 2]),
            "{key}"
        );
    }
    assert_eq!(gguf.metadata["b.i8"], Value::Array(Array::I8(vec![-1, 2])));
    assert_eq!(
        gguf.metadata["b.bool"],
        Value::Array(Array::Bool(vec![false, true]))
    );
    assert_eq!(
        gguf.metadata["b.f64"],
        Value::Array(Array::F64(vec![1.0, 2.0]))
    );
    assert_eq!(gguf.f32s("b.f32").unwrap(), Some(&[-1.5, 2.0][..]));
    assert_eq!(gguf.f32s("b.none").unwrap(), Some(&[][..]));
    let strings = gguf.strings("b.string").unwrap().unwrap();
    assert_eq!(strings, ["<s>", "", "\0"]);

    assert_eq!(gguf.tensors["scalar"].shape, [] as [u64; 0]);
    assert_eq!(gguf.tensors["w"].shape, [3, 64]);
    assert_eq!(gguf.tensors["w"].ggml_type, 3);
    for (name, fill) in [("scalar", 1), ("norm", 2), ("w", 3), ("last", 4)] {
        let info = &gguf.tensors[name];
        let start = info.offset as usize;
        let end = start + info.bytes().unwrap() as usize;
        assert!(bytes[start..end].iter().all(|&b| b == fill), "{name}");
        assert!(
            start >= gguf.data_offset as usize && start.is_multiple_of(32),
            "{name}"
        );
    }
}

#[test]
fn missing_keys_and_wrong_kinds() {
    let gguf = parse(&sample()).unwrap();
    assert_eq!(gguf.u32("no.such.key").unwrap(), None);
    assert!(matches!(
        gguf.missing("no.such.key"),
        Error::Gguf { offset: 0, .. }
    ));
    let wrong = [
        gguf.u32("a.string").unwrap_err(),
        gguf.u32("a.i8").unwrap_err(),
        gguf.u32("a.u64").unwrap_err(),
        gguf.u32("a.f32").unwrap_err(),
        gguf.f32("a.u8").unwrap_err(),
        gguf.string("a.u8").unwrap_err(),
        gguf.bool("a.u8").unwrap_err(),
        gguf.strings("b.u8").unwrap_err(),
        gguf.f32s("b.f64").unwrap_err(),
        gguf.u32s("b.i8").unwrap_err(),
        gguf.u32s("b.string").unwrap_err(),
    ];
    for error in wrong {
        // The error names the place of the key in the file.
        assert!(
            matches!(error, Error::Gguf { offset, .. } if offset >= 24),
            "{error}"
        );
    }
}

#[test]
fn version_2_is_read_and_others_are_refused() {
    let mut bytes = sample();
    bytes[4] = 2;
    assert_eq!(parse(&bytes).unwrap().version, 2);
    refused(&header(1, 0, 0), 4, "version 1");
    refused(&header(4, 0, 0), 4, "version 4");
    refused(&header(3u32.swap_bytes(), 0, 0), 4, "big-endian");
    refused(&header(2u32.swap_bytes(), 0, 0), 4, "big-endian");
    refused(b"GGML\x03\0\0\0", 0, "GGUF");
    refused(b"", 0, "0 left");
}

#[test]
fn a_file_without_tensors_may_end_before_the_data() {
    let gguf = parse(&metadata(b"k", 0, &[1])).unwrap();
    assert!(gguf.tensors.is_empty());
    assert!(gguf.data_offset > gguf.file_len);
}

#[test]
fn huge_claims_are_refused_before_memory_is_taken() {
    refused(&header(3, u64::MAX, 0), 24, "tensors");
    refused(&header(3, 60_000, 0), 24, "tensors");
    refused(&header(3, 0, u64::MAX), 24, "metadata keys");
    refused(&header(3, 0, 60_000), 24, "metadata keys");
    let long = u64::MAX.to_le_bytes();
    refused(
        &[&header(3, 0, 1)[..], &long, &[0; 64]].concat(),
        24,
        "a key",
    );
    refused(&metadata(b"k", 8, &long), 37, "a string");
    let below_limit = (1u64 << 25).to_le_bytes();
    refused(&metadata(b"k", 8, &below_limit), 45, "a string");
    for element in [0u32, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12] {
        let array = |len: u64| {
            let value = [&element.to_le_bytes()[..], &len.to_le_bytes()].concat();
            metadata(b"k", 9, &value)
        };
        refused(&array(u64::MAX), 49, "array elements");
        refused(&array(1 << 24), 49, "array elements");
    }
}

#[test]
fn a_reader_shorter_than_it_was_said_to_be_is_an_error() {
    let bytes = metadata(b"k", 8, &[string(b"text").as_slice()].concat());
    for len in 0..bytes.len() {
        let cut = Cursor::new(&bytes[..len]);
        let read = Gguf::read(cut, Path::new("cut"), 1 << 40, &Limits::default());
        assert!(matches!(read, Err(Error::Gguf { .. })), "{len}: {read:?}");
    }
}

#[test]
fn limits_are_kept() {
    let bytes = sample();
    let check = |change: fn(&mut Limits)| {
        let mut limits = Limits::default();
        change(&mut limits);
        Gguf::read(
            Cursor::new(&bytes),
            Path::new("x"),
            bytes.len() as u64,
            &limits,
        )
    };
    assert!(check(|_| ()).is_ok());
    assert!(check(|l| l.max_metadata = 25).is_err());
    assert!(check(|l| l.max_metadata = 26).is_ok());
    assert!(check(|l| l.max_metadata_bytes = 300).is_err());
    assert!(check(|l| l.max_string_bytes = 8).is_err());
    assert!(check(|l| l.max_array_len = 2).is_err());
    assert!(check(|l| l.max_array_len = 3).is_ok());
    assert!(check(|l| l.max_tensors = 3).is_err());
    assert!(check(|l| l.max_tensors = 4).is_ok());
    assert!(check(|l| l.max_name_bytes = 10).is_err());
}

#[test]
fn bad_metadata_is_refused() {
    refused(&metadata(b"k\xff", 0, &[1]), 33, "UTF-8");
    refused(&metadata(b"k", 8, &string(b"ab\xff")), 47, "UTF-8");
    refused(&metadata(b"k", 13, &[1; 8]), 33, "value type 13");
    refused(&metadata(b"k", 7, &[2]), 37, "boolean");
    let nested = [9u32.to_le_bytes(), [1, 0, 0, 0], [0; 4]].concat();
    refused(&metadata(b"k", 9, &nested), 37, "arrays of arrays");
    let unknown = [13u32.to_le_bytes(), [1, 0, 0, 0], [0; 4]].concat();
    refused(&metadata(b"k", 9, &unknown), 37, "element type 13");
    let mut twice = header(3, 0, 2);
    for value in 0..2 {
        twice.extend(string(b"k"));
        twice.extend([0, 0, 0, 0, value]);
    }
    refused(&twice, 38, "twice");
    let alignment = |kind: u32, value: &[u8]| metadata(b"general.alignment", kind, value);
    refused(&alignment(4, &0u32.to_le_bytes()), 24, "power of two");
    refused(&alignment(4, &48u32.to_le_bytes()), 24, "power of two");
    refused(&alignment(10, &32u64.to_le_bytes()), 24, "power of two");
    assert_eq!(
        parse(&alignment(4, &64u32.to_le_bytes()))
            .unwrap()
            .alignment,
        64
    );
}

#[test]
fn bad_tensors_are_refused() {
    assert!(parse(&tensors(&[entry("t", &[8], 0, 0)], 32)).is_ok());
    refused(
        &tensors(&[entry("t", &[8], 0, 0)], 31),
        24,
        "leave the file",
    );
    refused(
        &tensors(&[entry("t", &[8], 0, 64)], 32),
        24,
        "leave the file",
    );
    refused(&tensors(&[entry("t", &[8], 0, 4)], 64), 24, "alignment");
    refused(
        &tensors(&[entry("t", &[8], 0, 1 << 63)], 32),
        24,
        "leave the file",
    );
    refused(
        &tensors(&[entry("t", &[8], 0, u64::MAX - 31)], 32),
        24,
        "leave the file",
    );
    refused(&tensors(&[entry("t", &[0], 0, 0)], 32), 24, "zero");
    refused(
        &tensors(&[entry("t", &[0, u64::MAX], 0, 0)], 32),
        24,
        "zero",
    );
    refused(
        &tensors(&[entry("t", &[1 << 32, 1 << 32], 0, 0)], 32),
        24,
        "too large",
    );
    refused(
        &tensors(&[entry("t", &[1 << 62], 0, 0)], 32),
        24,
        "too large",
    );
    refused(&tensors(&[entry("t", &[1; 5], 0, 0)], 32), 24, "dimensions");
    refused(
        &tensors(&[entry("t", &[u64::MAX; 3], 0, 0)], 32),
        24,
        "too large",
    );
    refused(&tensors(&[entry("t", &[33], 3, 0)], 64), 24, "whole blocks");
    // 48 rows of one element are 48 elements, yet no row is a block.
    refused(
        &tensors(&[entry("t", &[1, 64], 3, 0)], 64),
        24,
        "whole blocks",
    );
    let twice = [entry("t", &[8], 0, 0), entry("t", &[8], 0, 32)];
    refused(&tensors(&twice, 64), 57, "twice");
    let overlap = [entry("s", &[9], 0, 0), entry("t", &[8], 0, 32)];
    refused(&tensors(&overlap, 64), 57, "overlaps");
    let same = [entry("s", &[8], 0, 0), entry("t", &[8], 0, 0)];
    refused(&tensors(&same, 64), 57, "overlaps");
}

#[test]
fn of_unknown_types_only_the_start_is_checked() {
    let file = tensors(&[entry("t", &[1 << 40], 77, 32)], 64);
    let info = &parse(&file).unwrap().tensors["t"];
    assert_eq!((info.bytes(), info.elements()), (None, 1 << 40));
    refused(
        &tensors(&[entry("t", &[8], 77, 64)], 64),
        24,
        "leave the file",
    );
}

#[test]
fn every_cut_is_an_error() {
    let bytes = sample();
    for len in 0..bytes.len() {
        let read = parse(&bytes[..len]);
        assert!(
            matches!(read, Err(Error::Gguf { .. })),
            "cut at {len}: {read:?}"
        );
    }
}

#[test]
fn mutations_never_panic() {
    let cases: u64 = std::env::var("INTERNLM_FUZZ_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(2000);
    let sample = sample();
    let head = parse(&sample).unwrap().data_offset;
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = move |below: u64| {
        // xorshift64, Marsaglia 2003.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let mut refused = 0;
    for _ in 0..cases {
        let mut bytes = sample.clone();
        for _ in 0..=random(4) {
            let at = random(head) as usize;
            match random(4) {
                0 => bytes[at] = random(256) as u8,
                1 => bytes[at] ^= 1 << random(8),
                2 => bytes[at..at + 8].copy_from_slice(&u64::MAX.to_le_bytes()),
                _ => {
                    let end = at + random(16) as usize;
                    bytes.drain(at..end);
                }
            }
        }
        if let Ok(gguf) = parse(&bytes) {
            for info in gguf.tensors.values() {
                let end = info.offset + info.bytes().unwrap_or(1);
                assert!(end <= bytes.len() as u64);
            }
        } else {
            refused += 1;
        }
    }
    assert!(refused > cases / 4, "{refused} of {cases} were refused");
}

#[test]
fn the_writer_refuses_what_the_reader_would() {
    let write = |writer: GgufWriter, len: usize| {
        writer.write(Vec::new(), Path::new("x"), |_, data| {
            data.write_all(&vec![0; len])
        })
    };
    let new = GgufWriter::new;
    assert!(write(new().with_tensor("t", [8], 0), 32).is_ok());
    let wrong = [
        write(new().with_tensor("t", [8], 0), 31),
        write(new().with_tensor("t", [8], 0), 33),
        write(new().with_tensor("t", [8], 77), 8),
        write(new().with_tensor("t", [8], 3), 5),
        write(new().with_tensor("t", [0], 0), 0),
        write(new().with_tensor("t", [1; 5], 0), 4),
        write(new().with_tensor("t", [1 << 62], 0), 4),
        write(new().with_tensor("t", [1], 0).with_tensor("t", [1], 0), 4),
        write(
            new()
                .with_metadata("k", Value::U8(1))
                .with_metadata("k", Value::U8(1)),
            0,
        ),
        write(new().with_metadata("general.alignment", Value::U32(33)), 0),
    ];
    for (case, result) in wrong.into_iter().enumerate() {
        assert!(
            matches!(result, Err(Error::Gguf { .. })),
            "case {case}: {result:?}"
        );
    }
    let failed = new()
        .with_tensor("t", [8], 0)
        .write(Vec::new(), Path::new("x"), |_, _| {
            Err(std::io::Error::other("no data"))
        });
    assert!(matches!(failed, Err(Error::Io { .. })));
}

#[test]
fn an_unreadable_file_is_an_io_error() {
    let opened = Gguf::open("no/such/file.gguf");
    assert!(matches!(opened, Err(Error::Io { .. })), "{opened:?}");
}

/// A real file, if `INTERNLM_SMOLLM2_GGUF` names SmolLM2-135M-Instruct in Q4_1.
#[test]
fn smollm2() {
    let Some(path) = std::env::var_os("INTERNLM_SMOLLM2_GGUF") else {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "INTERNLM_SMOLLM2_GGUF is not set"
        );
        println!("skipped: INTERNLM_SMOLLM2_GGUF is not set");
        return;
    };
    let gguf = Gguf::open(path).unwrap();
    assert_eq!(gguf.string("general.architecture").unwrap(), Some("llama"));
    assert_eq!(gguf.u32("llama.block_count").unwrap(), Some(30));
    assert_eq!(gguf.u32("llama.embedding_length").unwrap(), Some(576));
    let tokens = gguf.strings("tokenizer.ggml.tokens").unwrap().unwrap();
    assert_eq!(tokens.len(), 49_152);
    assert_eq!(gguf.tensors["token_embd.weight"].shape, [49_152, 576]);
    assert!(gguf.tensors.values().all(|info| info.bytes().is_some()));
    let bytes: u64 = gguf.tensors.values().filter_map(TensorInfo::bytes).sum();
    assert!(gguf.data_offset + bytes <= gguf.file_len);
}
