//! Adapters over what only files bring: rows in llama.cpp's order, neighbours packed in different forms,
//! and adapters as old PEFT wrote them.

use candle_core::Tensor;
use internlm_kernels::Activation;
use internlm_model::batch::Logits;
use internlm_model::{AdapterSet, Batch, CausalLm, Context, Error, LoraAdapter, LoraConfig};
use internlm_quant::ggml::GgmlType;
use safetensors::tensor::Dtype;
use serde_json::json;

use crate::blocks::{wide, write};
use crate::checkpoint::*;
use crate::torch_writer::torch;

/// An adapter whose B is A turned over, in the wrong place or not, but not zero.
fn adapter(model: &CausalLm) -> LoraAdapter {
    let lora = LoraConfig::default().with_rank(4);
    let mut adapter = LoraAdapter::new(model.config(), lora, 1).unwrap();
    for (index, (_, var)) in adapter.vars().unwrap().into_iter().enumerate() {
        let count = var.elem_count();
        let values = (0..count).map(|i| ((i * 7 + index * 13) % 31) as f32 / 150.0 - 0.1);
        let values: Vec<f32> = values.collect();
        let values = Tensor::from_vec(values, var.dims(), var.device()).unwrap();
        var.set(&values).unwrap();
    }
    adapter
}

fn logits(model: &CausalLm, adapter: Option<&LoraAdapter>) -> Vec<f32> {
    let ids = [1, 5, 9, 30, 2, 17, 8];
    let set: AdapterSet = adapter.cloned().into_iter().collect();
    let (mut cache, mut batch) = (model.new_cache().unwrap(), Batch::new());
    batch.push(0, &ids, 0, ids.len(), Logits::All).unwrap();
    batch.set_adapter(0, adapter.map(|_| 0)).unwrap();
    let mut context = Context::new(&mut cache).with_adapters(&set);
    let out = model.forward(&batch, &mut context).unwrap();
    out.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn neighbours_of_different_forms_each_have_their_adapter() {
    for class in ["llama", "qwen2", "internlm2"] {
        let at = tempfile::tempdir().unwrap();
        let file = at.path().join("model.gguf");
        write(&file, &wide(class, json!({})), |name| match name {
            name if name.contains("attn_k") => GgmlType::Q8_0,
            name if name.contains("ffn_up") => GgmlType::Q5_1,
            _ => GgmlType::Q4_0,
        });
        let options = || options().with_packed_activation(Activation::F32);
        let mut packed = load_with(&file, options()).unwrap();
        assert!(packed.is_packed());
        let mut dense = load_with(&file, options().with_packed(false)).unwrap();
        let adapter = adapter(&packed);
        let plain = logits(&packed, None);
        let live = logits(&packed, Some(&adapter));
        let refused = packed.merge(&adapter);
        assert!(matches!(refused, Err(Error::PackedMerge { .. })));
        dense.merge(&adapter).unwrap();
        let merged = logits(&dense, None);
        let scale = merged.iter().fold(0f32, |most, v| most.max(v.abs()));
        let diff = crate::common::max_abs_diff(&live, &merged);
        // Rows of wqkv that alternate between types are held in f16.
        let tolerance = if class == "internlm2" { 5e-3 } else { 1e-4 };
        assert!(diff <= tolerance * scale, "{class}: {diff} of {scale}");
        assert!(crate::common::max_abs_diff(&live, &plain) > 0.05 * scale);
    }
}

#[test]
fn adapters_of_old_peft_are_read() {
    let model = random(&config("internlm2", json!({})));
    let saved = adapter(&model);
    let at = tempfile::tempdir().unwrap();
    let folder = at.path().join("old");
    saved.save(&folder).unwrap();
    let new = folder.join("adapter_model.safetensors");
    std::fs::remove_file(&new).unwrap();
    let old = folder.join("adapter_model.bin");
    std::fs::write(&old, torch(&saved.tensors(), Dtype::F32)).unwrap();
    let loaded = LoraAdapter::load(&folder, model.config()).unwrap();
    for ((name, got), (_, want)) in loaded.tensors().iter().zip(&saved.tensors()) {
        assert!(bits_of(got) == bits_of(want), "{name}");
    }
    std::fs::write(&old, b"not a zip file").unwrap();
    let result = LoraAdapter::load(&folder, model.config());
    assert!(matches!(&result, Err(Error::Corrupt { file, .. }) if *file == old));
    // Where both are there, it is not looked at.
    saved.save(at.path().join("new")).unwrap();
    std::fs::rename(
        at.path().join("new").join("adapter_model.safetensors"),
        &new,
    )
    .unwrap();
    assert!(LoraAdapter::load(&folder, model.config()).is_ok());
}
