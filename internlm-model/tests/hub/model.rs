//! A model that was fetched opens as any folder does.

use std::path::Path;

use internlm_model::save::SaveConfig;
use internlm_model::{CausalLm, Config, LoadConfig, ModelDir};

use super::server::Hub;
use super::{Cache, fetch};

/// The files of a folder, as a hub holds them.
fn hub_of(folder: &Path) -> Hub {
    let files: Vec<(String, Vec<u8>)> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            (name, std::fs::read(entry.path()).unwrap())
        })
        .collect();
    let files: Vec<_> = files
        .iter()
        .map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
        .collect();
    Hub::start(&files)
}

fn random() -> CausalLm {
    let config = serde_json::json!({
        "model_type": "internlm2", "hidden_size": 32, "intermediate_size": 48, "bias": false,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 40,
    });
    let config = config.to_string();
    let config = Config::from_json(Path::new("config.json"), config.as_bytes()).unwrap();
    CausalLm::random(config, 3, LoadConfig::default().with_threads(1)).unwrap()
}

/// Weights as text, in the order of names.
fn weights(model: &CausalLm) -> Vec<(String, String)> {
    let mut tensors = model.tensors().unwrap();
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    let values = |tensor: &internlm_model::candle::Tensor| {
        let flat = tensor.flatten_all().unwrap();
        format!("{:?} {:?}", tensor.dims(), flat.to_vec1::<f32>().unwrap())
    };
    tensors
        .iter()
        .map(|(name, tensor)| (name.clone(), values(tensor)))
        .collect()
}

/// Where the file system has links, all files of a snapshot are links out of its folder, those that
/// an index names too.
#[test]
fn a_fetched_folder_opens_in_one_file_and_in_shards() {
    let model = random();
    let want = weights(&model);
    for max_shard_bytes in [u64::MAX, 4000] {
        let source = tempfile::tempdir().unwrap();
        let folder = source.path().join("source");
        let options = SaveConfig::default().with_max_shard_bytes(max_shard_bytes);
        model.save(&folder, &options).unwrap();
        let sharded = folder.join("model.safetensors.index.json").exists();
        assert_eq!(sharded, max_shard_bytes == 4000);

        let (hub, cache) = (hub_of(&folder), Cache::new());
        let snapshot = fetch("org/name", &hub, &cache).run().unwrap();
        let dir = ModelDir::open(&snapshot).unwrap();
        assert_eq!(dir.name(), "org/name");
        let fetched = CausalLm::load(&dir, LoadConfig::default().with_threads(1)).unwrap();
        assert_eq!(fetched.name(), "org/name");
        assert_eq!(weights(&fetched), want);
    }
}
