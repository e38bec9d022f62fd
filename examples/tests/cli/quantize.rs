//! `quantize`: the folder it writes, the objects it prints, and its errors.

use std::path::{Path, PathBuf};

use internlm_model::candle::DType;
use internlm_model::save::SaveConfig;
use internlm_model::{CausalLm, Config, LoadConfig};
use serde_json::{Value, json};

use super::support::{Program, floats, goldens, program};

pub(crate) fn quantize(model: &Path, out: &Path) -> Option<Program> {
    Some(program("quantize")?.model(model).arg("--out").arg(out))
}

/// A random model of InternLM2's shape with its tokenizer.
pub(crate) fn internlm2(scratch: &Path) -> Option<PathBuf> {
    internlm2_of("InternLM2ForCausalLM", scratch)
}

/// The same of another class.
pub(crate) fn internlm2_of(class: &str, scratch: &Path) -> Option<PathBuf> {
    let tokenizer = goldens("tokenizers/internlm2")?;
    let json = json!({
        "architectures": [class], "model_type": "internlm2", "vocab_size": 92544,
        "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 8, "num_attention_heads": 4,
        "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "max_position_embeddings": 2048, "bias": false,
        "rope_theta": 10000.0, "tie_word_embeddings": class == "InternLM2ForCausalLM", "eos_token_id": 2,
        "bos_token_id": 1,
    });
    let config = Config::from_json(Path::new("config.json"), json.to_string().as_bytes());
    let load = LoadConfig::default().with_dtype(DType::BF16);
    let model = CausalLm::random(config.expect("is valid"), 7, load).expect("a random model");
    let folder = scratch.join("model");
    let save = SaveConfig::default().with_files_from(tokenizer);
    model.save(&folder, &save).expect("can be written");
    Some(folder)
}

/// A text of a few thousand tokens.
pub(crate) fn text(scratch: &Path) -> PathBuf {
    let line = |i: usize| {
        format!(
            "Line {i} of {}: the quick brown fox, 敏捷的棕色狐狸.\n",
            i * i
        )
    };
    let path = scratch.join("text.txt");
    std::fs::write(&path, (0..200).map(line).collect::<String>()).expect("can be written");
    path
}

/// 4 and 8 bits of a model of InternLM2's shape: the objects, and what `logits` and `generate` make of
/// the folder.
#[test]
fn quantized_folders_are_loaded_again() {
    let scratch = tempfile::tempdir().expect("a folder");
    let Some(model) = internlm2(scratch.path()) else {
        return;
    };
    let text = text(scratch.path());
    let logits = |model: &Path, act: &str| -> Vec<f32> {
        let run = program("logits").expect("is built").model(model);
        let line = json!({"ids": [1, 918, 4131, 777, 60]});
        let objects = run.args(["--last", "--act", act]).objects([&line]);
        floats(&objects[0]["logits"][0])
    };
    for (method, group_size, tolerance) in
        [("awq-gptq", Some("64"), 0.7), ("smoothquant", None, 0.06)]
    {
        let out = scratch.path().join(method);
        let Some(mut run) = quantize(&model, &out) else {
            return;
        };
        if let Some(group_size) = group_size {
            run = run.args(["--group-size", group_size]);
        }
        let run = run.args(["--method", method, "--samples", "4", "--seq-len", "128"]);
        let run = run.arg("--calib").arg(&text).arg("--eval").arg(&text);
        let objects = run.args(["--eval-windows", "1"]).objects([]);
        let (last, layers) = objects.split_last().expect("there are some");
        assert_eq!(layers.len(), 8 * 5);
        let mut worse: Vec<&Value> = Vec::new();
        for layer in layers {
            let (mse, rtn) = (layer["output_mse"].as_f64(), layer["rtn_mse"].as_f64());
            let is_worse = mse.zip(rtn).is_some_and(|(mse, rtn)| mse > rtn);
            assert_eq!(layer["worse"], is_worse, "{layer}");
            worse.extend(is_worse.then_some(&layer["layer"]));
        }
        assert_eq!(last["worse"], json!(worse));
        let number = |key: &str| last[key].as_f64().expect("it was asked for");
        assert!(
            number("ppl_before") > 1.0 && number("ppl_after") > 1.0,
            "{last}"
        );
        assert!(number("kl_divergence") > 0.0, "{last}");
        let float = logits(&model, "f32");
        let most = float.iter().fold(0f32, |m, v| m.max(v.abs()));
        for act in ["f32", "bf16", "int8"] {
            let got = logits(&out, act);
            let differences = got.iter().zip(&float).map(|(a, b)| (a - b).abs());
            let diff = differences.fold(0f32, f32::max);
            assert!(
                diff > 0.0 && diff <= tolerance * most,
                "{method} {act}: {diff} of {most}"
            );
        }
        let run = program("generate").expect("is built").model(&out);
        let run = run.args(["--prompt", "The fox", "--greedy", "--max-new-tokens", "4"]);
        let objects = run.args(["--act", "int8", "--ignore-eos"]).objects([]);
        assert_eq!(
            objects[0]["ids"].as_array().map(Vec::len),
            Some(4),
            "{method}"
        );
    }
}

#[test]
fn options_of_another_method_are_refused() {
    let scratch = tempfile::tempdir().expect("a folder");
    let Some(folder) = goldens("awq/tiny-llama-gqa-autoawq-g64/source") else {
        return;
    };
    let out = scratch.path().join("out");
    let cases: [(&[&str], &str); 5] = [
        (
            &["--method", "smoothquant", "--group-size", "64"],
            "--group-size",
        ),
        (&["--method", "awq", "--alpha", "0.5"], "--alpha 0.5: only"),
        (&["--method", "rtn", "--no-clip"], "--no-clip: only"),
        (
            &["--method", "rtn", "--head", "int8"],
            "--head and --prepared",
        ),
        (&["--method", "rtn", "--prepared"], "--head and --prepared"),
    ];
    for (arguments, want) in cases {
        let Some(run) = quantize(&folder, &out) else {
            return;
        };
        let run = arguments
            .iter()
            .fold(run, |run, argument| run.arg(argument));
        let error = run.error(b"");
        assert!(error.contains(want), "{error}");
    }
    assert_eq!(
        std::fs::read_dir(scratch.path()).expect("a folder").count(),
        0
    );
}

/// Chats through the template, or as plain text, or neither: and an alpha out of range.
#[test]
fn calibration_from_chats() {
    let scratch = tempfile::tempdir().expect("a folder");
    let Some(model) = internlm2(scratch.path()) else {
        return;
    };
    let chat = |i: usize| {
        let messages = json!([
            {"role": "user", "content": format!("What is {i} plus {i}, please?")},
            {"role": "assistant", "content": format!("It is {}, as everybody knows.", 2 * i)},
        ]);
        format!("{}\n", json!({"messages": messages}))
    };
    let chats = scratch.path().join("chats.jsonl");
    std::fs::write(&chats, (0..30).map(chat).collect::<String>()).expect("can be written");
    let run = |out: &str, seq_len: &str| {
        let run = quantize(&model, &scratch.path().join(out))?;
        let run = run.args(["--method", "smoothquant", "--samples", "2"]);
        Some(run.args(["--seq-len", seq_len]).arg("--calib").arg(&chats))
    };
    let (Some(with), Some(without)) = (run("with", "64"), run("without", "64")) else {
        return;
    };
    let with = with.objects([]);
    let without = without.arg("--no-chat-template").objects([]);
    assert_eq!((with.len(), without.len()), (8 * 5 + 1, 8 * 5 + 1));
    assert_ne!(with[0]["output_mse"], without[0]["output_mse"]);

    let refused = |run: Program, want: &str| {
        let error = run.error(b"");
        assert!(error.contains(want), "{error}");
        assert!(
            !scratch.path().join("out").exists() && !scratch.path().join(".out.quantize").exists()
        );
    };
    let long = run("out", "5000").expect("was there");
    refused(long, "calibration data of");
    let alpha = run("out", "64")
        .expect("was there")
        .args(["--alpha", "1.5"]);
    refused(alpha, "expected 0 to 1");
    std::fs::write(&chats, b"\n \n").expect("can be written");
    refused(
        run("out", "64").expect("was there"),
        "calibration data of 0 tokens",
    );
    std::fs::write(&chats, b"{\"messages\": 3}\n").expect("can be written");
    refused(run("out", "64").expect("was there"), "line 1");
}

#[test]
fn a_dense_folder_becomes_an_awq_folder() {
    let Some(folder) = goldens("awq/tiny-llama-gqa-autoawq-g64/source") else {
        return;
    };
    let scratch = tempfile::tempdir().expect("a folder");
    let out = scratch.path().join("out");
    let Some(run) = quantize(&folder, &out) else {
        return;
    };
    let objects = run
        .args(["--method", "rtn", "--group-size", "64"])
        .objects([]);
    assert_eq!(objects.len(), 2 * 7 + 1);
    assert_eq!(objects[0]["layer"], "model.layers.0.self_attn.q_proj");
    let last = objects.last().expect("there are some");
    assert!(last["bytes_after"].as_u64() < last["bytes_before"].as_u64());
    let config = std::fs::read(out.join("config.json")).expect("is there");
    let config: serde_json::Value = serde_json::from_slice(&config).expect("is JSON");
    assert_eq!(config["quantization_config"]["group_size"], 64);
    assert_eq!(
        std::fs::read_dir(scratch.path()).expect("a folder").count(),
        1
    );

    let again = quantize(&folder, &out).expect("it was there");
    let error = again
        .args(["--method", "rtn", "--group-size", "64"])
        .error(b"");
    assert!(error.contains("is there already"), "{error}");
}

#[test]
fn errors_say_what_would_do_and_leave_nothing_behind() {
    let Some(folder) = goldens("awq/tiny-llama-gqa-autoawq-g64/source") else {
        return;
    };
    let scratch = tempfile::tempdir().expect("a folder");
    let out = scratch.path().join("out");
    let Some(run) = quantize(&folder, &out) else {
        return;
    };
    let error = run
        .args(["--method", "rtn", "--group-size", "96"])
        .error(b"");
    assert!(error.contains("128 and 64 and 32 do"), "{error}");
    // There is no tokenizer to read a text with.
    let run = quantize(&folder, &out).expect("it was there");
    let error = run.args(["--group-size", "64"]).error(b"");
    assert!(error.contains("no tokenizer"), "{error}");
    assert_eq!(
        std::fs::read_dir(scratch.path()).expect("a folder").count(),
        0
    );
}

#[test]
fn an_empty_text_is_no_calibration() {
    let Some(model) = super::support::smollm2() else {
        return;
    };
    let scratch = tempfile::tempdir().expect("a folder");
    let text = scratch.path().join("empty.txt");
    std::fs::write(&text, b"").expect("can be written");
    let Some(run) = quantize(&model, &scratch.path().join("out")) else {
        return;
    };
    let run = run.args(["--group-size", "64", "--calib"]).arg(&text);
    let error = run.error(b"");
    assert!(error.contains("calibration data of 0 tokens"), "{error}");
    assert_eq!(
        std::fs::read_dir(scratch.path()).expect("a folder").count(),
        1
    );
}
