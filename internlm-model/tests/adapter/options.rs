//! `adapter_config.json`: what is read, what is written, what is refused by name.

use std::path::Path;

use internlm_model::adapter::TargetModules;
use internlm_model::{Error, LoraAdapter, LoraConfig};
use serde_json::{Value, json};

use crate::family;

/// What PEFT 0.21 writes, all of it.
pub(crate) fn peft() -> Value {
    json!({
        "alora_invocation_tokens": null, "alpha_pattern": {}, "arrow_config": null,
        "auto_mapping": null, "base_model_name_or_path": "model_init", "bias": "none",
        "corda_config": null, "ensure_weight_tying": false, "eva_config": null,
        "exclude_modules": null, "fan_in_fan_out": false, "inference_mode": true,
        "init_lora_weights": true, "kasa_config": null, "layer_replication": null,
        "layers_pattern": null, "layers_to_transform": null, "loftq_config": {}, "lora_alpha": 16,
        "lora_bias": false, "lora_dropout": 0.05, "lora_ga_config": null, "megatron_config": null,
        "megatron_core": "megatron.core", "modules_to_save": null, "monteclora_config": null,
        "peft_type": "LORA", "peft_version": "0.21.2", "qalora_group_size": 16, "r": 4,
        "rank_pattern": {}, "revision": null, "target_modules": ["w1", "wqkv"],
        "target_parameters": null, "task_type": "CAUSAL_LM", "trainable_token_indices": null,
        "use_bdlora": null, "use_dora": false, "use_qalora": false, "use_rslora": false,
        "velora_config": null,
    })
}

fn with(key: &str, value: Value) -> Value {
    let mut config = peft();
    config[key] = value;
    config
}

fn read(config: &Value) -> Result<LoraConfig, Error> {
    LoraConfig::from_json(Path::new("here.json"), config.to_string().as_bytes())
}

#[test]
fn what_peft_writes_is_read_and_written_again() {
    let config = read(&peft()).unwrap();
    let want = LoraConfig::default()
        .with_rank(4)
        .with_alpha(16.0)
        .with_dropout(0.05)
        .with_base_model("model_init")
        .with_target_modules(["w1", "wqkv"]);
    assert_eq!(config, want);
    assert_eq!(config.scale(), 4.0);
    let rslora = read(&with("use_rslora", json!(true))).unwrap();
    assert_eq!(rslora.scale(), 8.0);
    // Every key that is written is one that PEFT has, and what it says is the same.
    let written = config.to_json();
    for (key, value) in written.as_object().unwrap() {
        assert_eq!(Some(value), peft().get(key), "{key}");
    }
    for config in [
        rslora,
        read(&with("lora_alpha", json!(2.5))).unwrap(),
        read(&with("target_modules", json!("all-linear"))).unwrap(),
        read(&with("target_modules", json!(r".*\.w[13]"))).unwrap(),
        read(&with("layers_to_transform", json!([1]))).unwrap(),
        read(&with("task_type", json!(null))).unwrap(),
    ] {
        assert_eq!(read(&config.to_json()).unwrap(), config);
    }
    // Old releases lack most keys, new ones have more.
    let few = json!({"peft_type": "LORA", "r": 2, "target_modules": "all-linear"});
    let few = read(&few).unwrap();
    assert_eq!((few.r, few.lora_alpha), (2, 8.0));
    assert_eq!(few.target_modules, TargetModules::AllLinear);
    assert!(read(&with("an_option_of_tomorrow", json!({"a": 1}))).is_ok());
    assert_eq!(
        read(&with("layers_to_transform", json!(1))).unwrap(),
        want.with_layers_to_transform([1])
    );
}

#[test]
fn what_is_not_implemented_is_refused_by_name() {
    for (key, value) in [
        ("peft_type", json!("LOHA")),
        ("peft_type", json!(null)),
        ("bias", json!("all")),
        ("bias", json!("lora_only")),
        ("use_dora", json!(true)),
        ("use_qalora", json!(true)),
        ("use_bdlora", json!({"nblocks": 2})),
        ("lora_bias", json!(true)),
        ("fan_in_fan_out", json!(true)),
        ("modules_to_save", json!(["lm_head"])),
        ("rank_pattern", json!({"w1": 8})),
        ("alpha_pattern", json!({"w1": 8})),
        ("exclude_modules", json!("w1")),
        ("layers_pattern", json!("layers")),
        ("layer_replication", json!([[0, 2]])),
        ("target_parameters", json!(["w1.weight"])),
        ("trainable_token_indices", json!([1])),
        ("alora_invocation_tokens", json!([1])),
        ("arrow_config", json!({"top_k": 3})),
        ("kasa_config", json!({"beta": 1})),
        ("megatron_config", json!({"a": 1})),
        ("init_lora_weights", json!("pissa")),
        ("init_lora_weights", json!("olora")),
        ("init_lora_weights", json!("loftq")),
        ("init_lora_weights", json!("corda")),
        ("r", json!(0)),
        ("r", json!(-8)),
        ("r", json!(1u64 << 40)),
        ("r", json!("8")),
        ("lora_alpha", json!("16")),
        ("lora_dropout", json!(1.0)),
        ("lora_dropout", json!(-0.1)),
        ("target_modules", json!(null)),
        ("target_modules", json!([])),
        ("target_modules", json!([1])),
        ("target_modules", json!(7)),
        ("layers_to_transform", json!("1")),
        ("layers_to_transform", json!([-1])),
    ] {
        let result = read(&with(key, value.clone()));
        let named = matches!(&result, Err(Error::Config { file, field, .. })
            if file == Path::new("here.json") && field == key);
        assert!(named, "{key}: {value}: {result:?}");
    }
    let mut both = with("layers_to_transform", json!([1]));
    both["target_modules"] = json!("all-linear");
    assert!(matches!(read(&both), Err(Error::Config { .. })));
    for neutral in ["gaussian", "eva", "orthogonal"] {
        assert!(read(&with("init_lora_weights", json!(neutral))).is_ok());
    }
    for bytes in [&b""[..], b"{", b"[]", b"null"] {
        let result = LoraConfig::from_json(Path::new("here.json"), bytes);
        assert!(matches!(result, Err(Error::Json { .. })), "{result:?}");
    }
}

/// Which paths of InternLM2 a configuration is for.
fn paths(config: LoraConfig) -> Result<Vec<String>, Error> {
    let adapter = LoraAdapter::new(&family("internlm2", json!({})), config, 1)?;
    Ok(adapter.paths().into_iter().map(str::to_owned).collect())
}

#[test]
fn target_modules_are_ends_of_paths_at_a_dot() {
    let named = |names: &[&str]| LoraConfig::default().with_target_modules(names.to_vec());
    let two = |module: &str| -> Vec<String> {
        (0..2)
            .map(|layer| format!("model.layers.{layer}.{module}"))
            .collect()
    };
    assert_eq!(paths(named(&["wqkv"])).unwrap(), two("attention.wqkv"));
    let full = "model.layers.1.feed_forward.w2";
    assert_eq!(paths(named(&[full, "no_such"])).unwrap(), [full]);
    let end = named(&["feed_forward.w1"]);
    assert_eq!(paths(end).unwrap(), two("feed_forward.w1"));
    assert_eq!(paths(named(&["output"])).unwrap(), ["output"]);
    let second = named(&["wo", "output", "model.layers.0.attention.wqkv"]);
    let got = paths(second.with_layers_to_transform([1])).unwrap();
    // What is named in full, as the head is, is meant in whatever layer it is.
    assert_eq!(
        got,
        [
            "model.layers.0.attention.wqkv",
            "model.layers.1.attention.wo",
            "output"
        ]
    );
    let all = paths(LoraConfig::default()).unwrap();
    assert_eq!(all.len(), 10);
    assert!(!all.iter().any(|path| path == "output"));
    let mut pattern = LoraConfig::default();
    pattern.target_modules = TargetModules::Pattern(".*".to_owned());
    for config in [
        // Not at a dot, no linear modules, another family's.
        named(&["qkv"]),
        named(&["tok_embeddings", "attention_norm", "norm"]),
        named(&["q_proj"]),
        named(&["wo"]).with_layers_to_transform([2]),
        pattern,
    ] {
        let result = paths(config);
        let named =
            matches!(&result, Err(Error::Config { field, .. }) if field == "target_modules");
        assert!(named, "{result:?}");
    }
    for (field, config) in [
        ("r", LoraConfig::default().with_rank(0)),
        ("lora_alpha", LoraConfig::default().with_alpha(f64::NAN)),
        ("lora_dropout", LoraConfig::default().with_dropout(2.0)),
    ] {
        let result = paths(config);
        let named = matches!(&result, Err(Error::Config { field: f, .. }) if f == field);
        assert!(named, "{result:?}");
    }
}

#[test]
fn a_tied_head_has_no_adapter_of_its_own() {
    let tied = family("llama", json!({"tie_word_embeddings": true}));
    let head = LoraConfig::default().with_target_modules(["lm_head"]);
    let result = LoraAdapter::new(&tied, head, 1);
    assert!(matches!(result, Err(Error::Config { .. })), "{result:?}");
}
