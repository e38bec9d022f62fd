//! Configurations: defaults, both spellings, round trips, and everything that is refused.
#![allow(clippy::unwrap_used, reason = "a test panics")]

mod common;
#[path = "load/fuzz.rs"]
mod fuzz;

use std::path::Path;
use std::time::{Duration, Instant};

use internlm_core::gguf::{Array, Gguf, GgufWriter, Limits, Value as GgufValue};
use internlm_model::config::{
    Architecture, Config, GenerationConfig, Head, QkvLayout, RopeConfig, RopeScaling,
};
use internlm_model::{Error, ModelDir};
use serde_json::{Value, json};

fn parse(value: &Value) -> Result<Config, Error> {
    Config::from_json(Path::new("config.json"), value.to_string().as_bytes())
}

/// A valid configuration of a class with the keys of `more` set; `null` removes a key.
fn with(model_type: &str, more: Value) -> Value {
    let mut config = json!({
        "model_type": model_type, "hidden_size": 64, "intermediate_size": 160,
        "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 512,
    });
    let Value::Object(more) = more else {
        panic!("an object")
    };
    for (key, value) in more {
        config[key] = value;
    }
    config
}

/// The value of a key that is refused.
#[track_caller]
fn refused(model_type: &str, more: Value, want: &str) {
    let start = Instant::now();
    match parse(&with(model_type, more)) {
        Err(Error::Config { field, .. }) => assert_eq!(field, want),
        other => panic!("expected an error about {want}, got {other:?}"),
    }
    assert!(
        start.elapsed() < Duration::from_secs(20),
        "must not do work"
    );
}

#[test]
fn class_defaults_stand_for_absent_keys() {
    let config = parse(&with("internlm", json!({}))).unwrap();
    assert!(config.qkv_bias && config.o_bias && !config.mlp_bias);
    let dynamic = RopeScaling::Dynamic { factor: 1.0 };
    assert_eq!(
        config.rope,
        RopeConfig {
            theta: 10_000.0,
            scaling: dynamic
        }
    );
    assert!(config.keeps_raw_keys());
    assert_eq!(
        (config.num_key_value_heads, config.max_position_embeddings),
        (4, 2048)
    );
    assert_eq!(
        (config.rms_norm_eps, config.tie_word_embeddings),
        (1e-6, false)
    );
    assert_eq!(
        (config.bos_token_id, config.pad_token_id),
        (Some(1), Some(0))
    );
    assert_eq!(config.eos_token_ids, [2]);

    let config = parse(&with("internlm2", json!({}))).unwrap();
    assert!(config.qkv_bias && config.o_bias && !config.mlp_bias && !config.keeps_raw_keys());
    assert_eq!(
        config.rope,
        RopeConfig {
            theta: 10_000.0,
            scaling: RopeScaling::None
        }
    );
    assert_eq!(config.qkv_layout(), QkvLayout::Interleaved);
    assert_eq!(config.weight_names().qkv, ["attention.wqkv"]);

    let config = parse(&with("internlm3", json!({"qkv_bias": true}))).unwrap();
    assert!(config.qkv_bias && !config.o_bias && !config.mlp_bias);
    let config = parse(&with("internlm3", json!({"bias": true}))).unwrap();
    assert!(!config.qkv_bias && config.o_bias && config.mlp_bias);
    assert_eq!(
        (config.qkv_layout(), config.max_position_embeddings),
        (QkvLayout::Separate, 32_768)
    );

    let config = parse(&with(
        "llama",
        json!({"attention_bias": true, "head_dim": 24}),
    ))
    .unwrap();
    assert!(config.qkv_bias && config.o_bias && !config.mlp_bias);
    assert_eq!(config.head_dim, 24);
    let config = parse(&with("qwen2", json!({}))).unwrap();
    assert!(config.qkv_bias && !config.o_bias && !config.mlp_bias);
    assert_eq!((config.bos_token_id, config.eos_token_ids.len()), (None, 0));
}

#[test]
fn rope_is_read_in_every_spelling() {
    let scaling = |more| parse(&with("internlm3", more)).unwrap().rope;
    let dynamic = RopeScaling::Dynamic { factor: 6.0 };
    for spelled in [
        json!({"rope_scaling": {"rope_type": "dynamic", "factor": 6}, "rope_theta": 5e7}),
        json!({"rope_scaling": {"type": "dynamic", "factor": 6.0}, "rope_theta": 50_000_000}),
        json!({"rope_scaling": {"type": "dynamic", "rope_type": "dynamic", "factor": 6.0}, "rope_theta": 5e7}),
        json!({"rope_parameters": {"rope_type": "dynamic", "factor": 6.0, "rope_theta": 5e7}}),
    ] {
        assert_eq!(
            scaling(spelled),
            RopeConfig {
                theta: 5e7,
                scaling: dynamic
            }
        );
    }
    let none = |more| assert_eq!(scaling(more).scaling, RopeScaling::None);
    none(json!({"rope_scaling": null}));
    none(json!({"rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0}}));

    let rotary = |rotary: Value| {
        parse(&with("internlm", json!({"rotary": rotary})))
            .unwrap()
            .rope
    };
    assert_eq!(
        rotary(json!({"base": 500, "type": "origin"})).scaling,
        RopeScaling::None
    );
    let read = rotary(json!({"base": 500, "type": "dynamic", "scaling_factor": 2.0}));
    let dynamic = RopeScaling::Dynamic { factor: 2.0 };
    assert_eq!(
        read,
        RopeConfig {
            theta: 500.0,
            scaling: dynamic
        }
    );
}

#[test]
fn context_ends_where_positions_do() {
    let length = |scaling: Value| {
        let more = json!({"rope_scaling": scaling, "max_position_embeddings": 128});
        parse(&with("internlm2", more)).unwrap().context_length()
    };
    assert_eq!(length(Value::Null), 128);
    assert_eq!(length(json!({"type": "linear", "factor": 4.0})), 512);
    assert_eq!(
        length(json!({"type": "dynamic", "factor": 2.0})),
        128 * 8 * 2
    );
}

#[test]
fn heads_are_told_by_the_class_name() {
    let head = |class: &str, more: Value| {
        let mut config = with("internlm2", more);
        config["architectures"] = json!([class]);
        parse(&config)
    };
    assert_eq!(
        head("InternLM2ForCausalLM", json!({})).unwrap().head,
        Head::Lm
    );
    let reward = head("InternLM2ForRewardModel", json!({"vocab_size": 92_544})).unwrap();
    assert_eq!(
        reward.head,
        Head::Reward {
            reward_token_id: 92_527
        }
    );
    let reward = head("InternLM2ForRewardModel", json!({"reward_token_id": 500})).unwrap();
    assert_eq!(
        reward.head,
        Head::Reward {
            reward_token_id: 500
        }
    );
    for class in [
        "InternLM3ForCausalLM",
        "BertModel",
        "InternLM2ForSequenceClassification",
    ] {
        assert!(
            matches!(head(class, json!({})), Err(Error::Config { .. })),
            "{class}"
        );
    }
    let field = |e| matches!(e, Err(Error::Config { field, .. }) if field == "reward_token_id");
    assert!(field(head("InternLM2ForRewardModel", json!({}))));
}

#[test]
fn contradictions_and_bombs_name_their_field() {
    for key in [
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
        "vocab_size",
        "max_position_embeddings",
    ] {
        let wanted = if key == "hidden_size" {
            "head_dim"
        } else {
            key
        };
        let zero = json!({key: 0});
        match parse(&with("llama", zero)) {
            Err(Error::Config { field, .. }) => assert!(field == key || field == wanted, "{field}"),
            other => panic!("{key} = 0: {other:?}"),
        }
        for value in [
            json!(1_000_000_000_000u64),
            json!(u64::MAX),
            json!(-1),
            json!(1.5),
            json!("4"),
            json!([4]),
        ] {
            let mut config = with("llama", json!({"head_dim": 16}));
            config[key] = value.clone();
            assert!(
                matches!(parse(&config), Err(Error::Config { .. })),
                "{key} = {value}"
            );
        }
    }
    refused(
        "internlm2",
        json!({"num_hidden_layers": 1_000_000_000}),
        "num_hidden_layers",
    );
    refused(
        "internlm2",
        json!({"num_attention_heads": 5}),
        "num_attention_heads",
    );
    refused(
        "internlm2",
        json!({"num_key_value_heads": 3}),
        "num_key_value_heads",
    );
    refused(
        "internlm",
        json!({"num_key_value_heads": 2}),
        "num_key_value_heads",
    );
    refused("internlm2", json!({"head_dim": 8}), "head_dim");
    refused("llama", json!({"head_dim": 7}), "head_dim");
    refused("llama", json!({"rms_norm_eps": -1.0}), "rms_norm_eps");
    refused("llama", json!({"rms_norm_eps": "NaN"}), "rms_norm_eps");
    refused("llama", json!({"rope_theta": 0}), "rope_theta");
    refused("llama", json!({"rope_theta": -1e4}), "rope_theta");
    refused("llama", json!({"hidden_act": "gelu"}), "hidden_act");
    refused(
        "llama",
        json!({"num_attention_heads": null}),
        "num_attention_heads",
    );
    refused("bert", json!({}), "model_type");
    refused(
        "qwen2",
        json!({"use_sliding_window": true}),
        "use_sliding_window",
    );
    refused(
        "llama",
        json!({"tie_word_embeddings": 1}),
        "tie_word_embeddings",
    );
    refused("llama", json!({"eos_token_id": [1, "x"]}), "eos_token_id");
    refused(
        "llama",
        json!({"quantization_config": {"quant_method": "awq"}}),
        "quantization_config",
    );
    refused(
        "llama",
        json!({"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": true}}),
        "quantization_config",
    );
    let many = json!({"num_hidden_layers": 4096, "intermediate_size": 4_194_304, "hidden_size": 4_194_304,
        "head_dim": 16});
    refused("llama", many, "num_hidden_layers");
    let scaling = |scaling: Value, want| refused("llama", json!({"rope_scaling": scaling}), want);
    scaling(
        json!({"type": "linear", "factor": 0.5}),
        "rope_scaling.factor",
    );
    scaling(
        json!({"type": "dynamic", "factor": 1e300}),
        "rope_scaling.factor",
    );
    scaling(json!({"type": "dynamic"}), "rope_scaling.factor");
    scaling(
        json!({"type": "dynamic", "factor": "NaN"}),
        "rope_scaling.factor",
    );
    scaling(
        json!({"type": "yarn", "factor": 2.0}),
        "rope_scaling.rope_type",
    );
    scaling(
        json!({"rope_type": "llama3", "factor": 8.0}),
        "rope_scaling.rope_type",
    );
    scaling(
        json!({"rope_type": "linear", "type": "dynamic", "factor": 8.0}),
        "rope_scaling.type",
    );
    scaling(json!({"factor": 2.0}), "rope_scaling.rope_type");
    scaling(json!("dynamic"), "rope_scaling");
    let contradiction =
        json!({"rope_theta": 1e4, "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}});
    refused("llama", contradiction, "rope_theta");
    refused(
        "internlm",
        json!({"rotary": {"type": "xpos"}}),
        "rotary.type",
    );
    // Python writes NaN as a bare word, which is not JSON.
    let nan = br#"{"model_type": "llama", "rope_theta": NaN}"#;
    assert!(matches!(
        Config::from_json(Path::new("c"), nan),
        Err(Error::Json { .. })
    ));
    let deep = "[".repeat(100_000);
    assert!(matches!(
        Config::from_json(Path::new("c"), deep.as_bytes()),
        Err(Error::Json { .. })
    ));
}

#[test]
fn json_round_trips_for_every_class() {
    for model_type in ["internlm", "internlm2", "internlm3", "llama", "qwen2"] {
        for scaling in [
            Value::Null,
            json!({"type": "dynamic", "factor": 2.5}),
            json!({"type": "linear", "factor": 4.0}),
        ] {
            let mut more = json!({
                "rope_theta": 1e6, "rope_scaling": scaling, "bias": false, "eos_token_id": [2, 92],
                "rms_norm_eps": 1e-5, "torch_dtype": "bfloat16", "tie_word_embeddings": true,
            });
            if model_type == "internlm" {
                more["rotary"] = json!({"type": "dynamic", "base": 10_000, "scaling_factor": 3.0});
            }
            let config = parse(&with(model_type, more)).unwrap();
            assert_eq!(parse(&config.to_json()).unwrap(), config);
        }
    }
    // InternLM2's class refuses any other form.
    let config = parse(&with(
        "internlm2",
        json!({"rope_scaling": {"type": "dynamic", "factor": 2}}),
    ))
    .unwrap();
    let scaling = &config.to_json()["rope_scaling"];
    assert_eq!(*scaling, json!({"type": "dynamic", "factor": 2.0}));
    assert!(scaling["factor"].is_f64());
}

#[test]
fn generation_config_takes_priority() {
    let config = parse(&with("internlm3", json!({"eos_token_id": 2}))).unwrap();
    let read = |value: Value| {
        GenerationConfig::from_json(Path::new("g.json"), value.to_string().as_bytes(), &config)
    };
    assert_eq!(read(json!({})).unwrap(), GenerationConfig::of(&config));
    let both = read(json!({
        "eos_token_id": [2, 128_131], "temperature": 0.8, "top_k": 40, "top_p": 0.8,
        "repetition_penalty": 1.005, "do_sample": true,
    }))
    .unwrap();
    assert_eq!(both.eos_token_ids, [2, 128_131]);
    let params = both.sampling_params();
    assert_eq!(
        (params.temperature, params.top_k, params.top_p),
        (0.8, 40, 0.8)
    );
    assert_eq!(read(both.to_json()).unwrap(), both);
    assert_eq!(
        read(json!({"temperature": 0.5}))
            .unwrap()
            .sampling_params()
            .temperature,
        0.0
    );
    for wrong in [
        json!({"temperature": "hot"}),
        json!({"eos_token_id": -7}),
        json!({"top_k": 1.5}),
    ] {
        assert!(matches!(read(wrong), Err(Error::Config { .. })));
    }
}

#[test]
fn every_golden_config_is_read() {
    let Some(models) = common::shared("goldens/models") else {
        return;
    };
    let mut count = 0;
    for entry in std::fs::read_dir(models).unwrap() {
        let path = entry.unwrap().path();
        let dir = ModelDir::open(&path).unwrap();
        let config = dir.config().unwrap();
        assert_eq!(parse(&config.to_json()).unwrap(), config, "{}", dir.name());
        let read = |file: &str| -> Value {
            serde_json::from_slice(&std::fs::read(path.join(file)).unwrap()).unwrap()
        };
        let (json, generation) = (read("config.json"), read("generation_config.json"));
        let size = |key: &str| json[key].as_u64().map(|size| size as usize);
        assert_eq!(size("hidden_size"), Some(config.hidden_size));
        assert_eq!(size("vocab_size"), Some(config.vocab_size));
        let heads = config.hidden_size / config.num_attention_heads;
        assert_eq!(size("head_dim").unwrap_or(heads), config.head_dim);
        assert_eq!(json["model_type"], config.architecture.as_str());
        let reward = json["architectures"][0]
            .as_str()
            .unwrap()
            .contains("Reward");
        assert_eq!(config.head != Head::Lm, reward);
        let eos = &dir.generation_config().unwrap().eos_token_ids;
        match &generation["eos_token_id"] {
            Value::Array(ids) => assert_eq!(json!(eos), json!(ids)),
            Value::Null => assert_eq!(eos, &config.eos_token_ids),
            id => assert_eq!(json!(eos), json!([id])),
        }
        count += 1;
    }
    assert!(count >= 10, "{count}");
}

/// A GGUF file of some metadata, with one value replaced or removed.
fn gguf(key: &str, value: Option<GgufValue>, tensors: &[&str]) -> Result<Config, Error> {
    let mut metadata = vec![
        ("general.architecture", GgufValue::String("llama".into())),
        ("llama.embedding_length", GgufValue::U32(64)),
        ("llama.feed_forward_length", GgufValue::U32(160)),
        ("llama.block_count", GgufValue::U32(2)),
        ("llama.attention.head_count", GgufValue::U32(4)),
        ("llama.attention.head_count_kv", GgufValue::U32(2)),
        ("llama.context_length", GgufValue::U32(128)),
        (
            "llama.attention.layer_norm_rms_epsilon",
            GgufValue::F32(1e-5),
        ),
        ("llama.rope.freq_base", GgufValue::F32(1e6)),
        ("tokenizer.ggml.eos_token_id", GgufValue::U32(2)),
        ("tokenizer.ggml.eot_token_id", GgufValue::U32(7)),
    ];
    metadata.retain(|(k, _)| *k != key);
    if let Some(value) = value {
        metadata.push((key, value));
    }
    let mut writer = GgufWriter::new();
    for (key, value) in metadata {
        writer = writer.with_metadata(key, value);
    }
    for name in tensors {
        writer = writer.with_tensor(*name, vec![512, 64], 0);
    }
    let file = Path::new("x.gguf");
    let mut bytes = Vec::new();
    writer
        .write(&mut bytes, file, |_, out| {
            out.write_all(&vec![0; 4 * 512 * 64])
        })
        .unwrap();
    let len = bytes.len() as u64;
    let gguf = Gguf::read(std::io::Cursor::new(bytes), file, len, &Limits::default()).unwrap();
    Config::from_gguf(&gguf)
}

#[test]
fn gguf_metadata_is_read_and_checked() {
    let embedding = ["token_embd.weight"];
    let config = gguf("none", None, &embedding).unwrap();
    assert_eq!(
        (config.architecture, config.vocab_size),
        (Architecture::Llama, 512)
    );
    assert_eq!((config.head_dim, config.num_key_value_heads), (16, 2));
    assert_eq!((config.rms_norm_eps, config.rope.theta), (1e-5, 1e6));
    assert!(config.tie_word_embeddings && !config.qkv_bias);
    assert_eq!(config.eos_token_ids, [2, 7]);
    let untied = gguf(
        "none",
        None,
        &["token_embd.weight", "output.weight", "blk.0.attn_q.bias"],
    )
    .unwrap();
    assert!(!untied.tie_word_embeddings && untied.qkv_bias && !untied.o_bias);

    let key_length = gguf(
        "llama.attention.key_length",
        Some(GgufValue::U32(32)),
        &embedding,
    )
    .unwrap();
    assert_eq!(key_length.head_dim, 32);
    let equal = GgufValue::Array(Array::U32(vec![2, 2]));
    assert!(gguf("llama.attention.head_count_kv", Some(equal), &embedding).is_ok());

    #[track_caller]
    fn refused(key: &str, value: GgufValue) {
        let result = gguf(key, Some(value), &["token_embd.weight"]);
        assert!(
            matches!(result, Err(Error::Config { .. } | Error::Gguf(_))),
            "{key}: {result:?}"
        );
    }
    refused("general.architecture", GgufValue::String("gpt2".into()));
    refused(
        "llama.attention.head_count_kv",
        GgufValue::Array(Array::U32(vec![2, 4])),
    );
    refused("llama.attention.head_count", GgufValue::U32(0));
    refused("llama.attention.head_count", GgufValue::U32(3));
    refused("llama.block_count", GgufValue::U32(1_000_000_000));
    refused("llama.block_count", GgufValue::String("2".into()));
    refused("llama.rope.scaling.type", GgufValue::String("yarn".into()));
    refused(
        "llama.rope.scaling.type",
        GgufValue::String("linear".into()),
    );
    refused("llama.rope.freq_base", GgufValue::F32(f32::NAN));
    refused("llama.rope.dimension_count", GgufValue::U32(8));
    refused("llama.expert_count", GgufValue::U32(8));
    refused("llama.vocab_size", GgufValue::U32(511));
    for key in [
        "llama.block_count",
        "llama.context_length",
        "general.architecture",
    ] {
        assert!(
            matches!(gguf(key, None, &embedding), Err(Error::Gguf(_))),
            "{key}"
        );
    }
}

#[test]
fn every_cut_of_a_config_is_an_error() {
    let more = json!({"rope_scaling": {"type": "dynamic", "factor": 2.0}, "eos_token_id": [1, 2]});
    let whole = with("internlm2", more).to_string().into_bytes();
    let config = Config::from_json(Path::new("c"), &whole).unwrap();
    for cut in 0..whole.len() {
        let read = Config::from_json(Path::new("c"), &whole[..cut]);
        assert!(matches!(read, Err(Error::Json { .. })), "{cut}: {read:?}");
    }
    let whole = generation_seed();
    for cut in 0..whole.len() {
        let read = GenerationConfig::from_json(Path::new("g"), &whole[..cut], &config);
        assert!(matches!(read, Err(Error::Json { .. })), "{cut}: {read:?}");
    }
}

/// A `generation_config.json` with every key.
fn generation_seed() -> Vec<u8> {
    let json = json!({
        "bos_token_id": 1, "eos_token_id": [2, 92_542], "pad_token_id": 2, "do_sample": true,
        "temperature": 0.8, "top_k": 40, "top_p": 0.8, "min_p": 0.1, "repetition_penalty": 1.005,
        "max_new_tokens": 1024,
    });
    json.to_string().into_bytes()
}

#[test]
fn mutated_generation_configs_never_panic() {
    let config = parse(&with("internlm2", json!({}))).unwrap();
    let (seed, cases) = (generation_seed(), fuzz::cases());
    let mut random = fuzz::Random(2);
    let mut accepted = 0;
    for _ in 0..cases {
        let bytes = random.mutate(&seed);
        if let Ok(read) = GenerationConfig::from_json(Path::new("g"), &bytes, &config) {
            accepted += 1;
            // Values out of range are refused when an answer is asked for, by their name.
            let _ = read.sampling_params().validate();
            let written = read.to_json().to_string();
            let again = GenerationConfig::from_json(Path::new("g"), written.as_bytes(), &config);
            assert!(again.is_ok(), "{written}: {again:?}");
        }
    }
    assert!(accepted > 0 && accepted < cases, "{accepted} of {cases}");
}

#[test]
fn mutated_configs_never_panic() {
    let cases = fuzz::cases();
    let seeds: Vec<Vec<u8>> = ["internlm", "internlm2", "internlm3", "llama", "qwen2"]
        .iter()
        .map(|t| {
            let scaling = json!({"type": "dynamic", "factor": 2.0});
            let more = json!({"rope_scaling": scaling, "rotary": {"base": 1e4}, "head_dim": 16,
                "eos_token_id": [1, 2], "architectures": null});
            with(t, more).to_string().into_bytes()
        })
        .collect();
    let mut random = fuzz::Random(1);
    let mut accepted = 0;
    for case in 0..cases {
        let bytes = random.mutate(&seeds[case % seeds.len()]);
        if let Ok(config) = Config::from_json(Path::new("c"), &bytes) {
            accepted += 1;
            assert!(config.validate().is_ok());
            assert!(config.context_length() > 0);
            assert_eq!(parse(&config.to_json()).unwrap().head_dim, config.head_dim);
        }
    }
    assert!(
        accepted > 0 && accepted < cases,
        "{accepted} of {cases} were accepted"
    );
}
