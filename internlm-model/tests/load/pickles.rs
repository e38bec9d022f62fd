//! Pickles that are not dictionaries of tensors. Nothing is called, whatever they say.

use std::path::Path;
use std::time::{Duration, Instant};

use internlm_model::Error;
use safetensors::tensor::Dtype;

use crate::checkpoint::*;
use crate::fuzz;
use crate::torch_writer::{archive, torch, zip};

/// A folder with `pytorch_model.bin` of these bytes.
fn write(at: &Path, bytes: &[u8]) {
    std::fs::write(at.join("config.json"), minimal().to_json().to_string()).unwrap();
    std::fs::write(at.join("pytorch_model.bin"), bytes).unwrap();
}

#[track_caller]
fn refused(at: &Path, pickle: &[u8]) {
    write(at, &archive(pickle, Vec::new()));
    let start = Instant::now();
    let result = load(at);
    assert!(
        matches!(
            result,
            Err(Error::Corrupt { .. } | Error::MissingTensors { .. })
        ),
        "{result:?}"
    );
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[test]
fn calls_are_refused() {
    let at = tempfile::tempdir().unwrap();
    let canary = at.path().join("canary");
    let command = format!("touch {}", canary.display());
    let mut call = b"\x80\x02cos\nsystem\nX".to_vec();
    call.extend((command.len() as u32).to_le_bytes());
    call.extend(command.bytes());
    call.extend(b"\x85R.");
    refused(at.path(), &call);
    for pickle in [
        &b"\x80\x02cbuiltins\neval\nX\x01\x00\x00\x001\x85R."[..],
        b"cposix\nsystem\n(S'true'\ntR.",
        b"(S'true'\nios\nsystem\n.",
        b"\x80\x04\x8c\x05posix\x8c\x06system\x93.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v3\n)R.",
        b"\x80\x02ctorch\nFloatStorage\n)R.",
        b"\x80\x02ctorch\nFloatStorage\n)\x81.",
        b"\x80\x02}X\x01\0\0\0aK\x01s}b)R.",
    ] {
        refused(at.path(), pickle);
    }
    assert!(!canary.exists());
}

#[test]
fn short_deep_and_doubling_pickles_are_refused() {
    let at = tempfile::tempdir().unwrap();
    refused(at.path(), b"");
    refused(at.path(), b".");
    refused(at.path(), b"\x80\x02).");
    for arguments in ["", "K\x01", "K\x01K\x01K\x01K\x01"] {
        let call = format!("ctorch._utils\n_rebuild_tensor_v2\n({arguments}tR.");
        refused(at.path(), call.as_bytes());
        let call = format!("ctorch._utils\n_rebuild_parameter\n({arguments}tR.");
        refused(at.path(), call.as_bytes());
        refused(at.path(), format!("({arguments}tQ.").as_bytes());
    }
    refused(at.path(), b"X\xff\xff\xff\xffabc.");
    refused(at.path(), b"\x8a\xff\0\0.");
    // A million tuples inside of each other.
    let mut deep = b")".to_vec();
    deep.extend(std::iter::repeat_n(b'\x85', 1_000_000));
    deep.push(b'.');
    refused(at.path(), &deep);
    // Each tuple holds the last one twice.
    let mut doubling = b")".to_vec();
    for _ in 0..200 {
        doubling.extend(b"q\x00h\x00\x86");
    }
    doubling.push(b'.');
    refused(at.path(), &doubling);
    // More values than are kept.
    let mut many = Vec::new();
    many.extend(std::iter::repeat_n(b'N', 8 << 20));
    refused(at.path(), &many);
}

#[test]
fn tensors_stay_inside_of_their_storages() {
    let at = tempfile::tempdir().unwrap();
    let tensors = random(&minimal()).tensors().unwrap();
    let whole = torch(&tensors, Dtype::F32);
    write(at.path(), &whole);
    assert!(load(at.path()).is_ok());
    let find = |needle: &[u8]| {
        whole
            .windows(needle.len())
            .position(|w| w == needle)
            .unwrap()
    };
    // Offset of the first tensor: `K 0` behind the persistent id.
    let mut moved = whole.clone();
    moved[find(b"tQK\x00") + 3] = 1;
    write(at.path(), &moved);
    assert!(matches!(load(at.path()), Err(Error::Corrupt { .. })));
    // A negative, a huge and a transposed stride.
    let strides = find(b"tQK\x00(") + 5 + 2 * 5 + 2;
    assert_eq!(whole[strides], b'J');
    for stride in [-1i32, i32::MAX, 2] {
        let mut wrong = whole.clone();
        wrong[strides + 1..strides + 5].copy_from_slice(&stride.to_le_bytes());
        write(at.path(), &wrong);
        assert!(
            matches!(load(at.path()), Err(Error::Corrupt { .. })),
            "{stride}"
        );
    }
    for bytes in [
        zip(&[]),
        zip(&[
            ("data.pkl".into(), b"}.".to_vec()),
            ("a/data.pkl".into(), b"}.".to_vec()),
        ]),
    ] {
        write(at.path(), &bytes);
        assert!(matches!(load(at.path()), Err(Error::Corrupt { .. })));
    }
    let big = zip(&[
        ("data.pkl".into(), b"}.".to_vec()),
        ("byteorder".into(), b"big".to_vec()),
    ]);
    write(at.path(), &big);
    assert!(matches!(load(at.path()), Err(Error::Corrupt { .. })));
}

#[test]
fn every_cut_and_mutation_is_survived() {
    let at = tempfile::tempdir().unwrap();
    let model = random(&minimal());
    let whole = torch(&model.tensors().unwrap(), Dtype::F32);
    for cut in 0..whole.len() {
        write(at.path(), &whole[..cut]);
        assert!(load(at.path()).is_err(), "cut at {cut}");
    }
    let mut random = fuzz::Random(3);
    let pickle_len = whole
        .windows(4)
        .skip(1)
        .position(|w| w == b"PK\x03\x04")
        .unwrap()
        + 1;
    for case in 0..fuzz::cases() {
        // The pickle alone in its place, or anything.
        let bytes = if case % 2 == 0 {
            let mut bytes = whole.clone();
            for _ in 0..=random.below(3) {
                bytes[44 + random.below(pickle_len - 44)] = random.below(256) as u8;
            }
            bytes
        } else {
            random.mutate(&whole)
        };
        write(at.path(), &bytes);
        if let Ok(loaded) = load(at.path()) {
            assert_eq!(loaded.config().vocab_size, 3);
        }
    }
}
