//! Adapters that PEFT 0.21 wrote, and what PyTorch computed with them (`goldens/training/README.md`).

use candle_core::{DType, Tensor, safetensors};
use internlm_model::context::Mode;
use internlm_model::{CausalLm, LoraAdapter, ModelDir};

use crate::checkpoint::options;
use crate::common::{max_abs_diff, shared};
use crate::{floats, logits};

/// The README's tolerance of logits.
const LOGITS: f32 = 1e-5;

#[test]
fn peft_adapters_live_and_merged() {
    let Some(at) = shared("goldens/training") else {
        return;
    };
    let dir = ModelDir::open(at.join("model_init")).unwrap();
    let mut base = CausalLm::load(&dir, options()).unwrap();
    let adapter = LoraAdapter::load(at.join("lora_adapter_final"), base.config()).unwrap();
    assert_eq!(adapter.name(), "lora_adapter_final");
    assert_eq!(adapter.num_parameters(), 15_872);
    assert_eq!(adapter.config().scale(), 2.0);
    let device = &candle_core::Device::Cpu;
    let want = safetensors::load(at.join("lora_merge.safetensors"), device).unwrap();
    let ids = want["probe_ids"].to_dtype(DType::U32).unwrap();
    let ids: Vec<u32> = ids.flatten_all().unwrap().to_vec1().unwrap();
    let check = |got: &[f32], name: &str| {
        let diff = max_abs_diff(got, &floats(&want[name]));
        assert!(diff <= LOGITS, "{name}: {diff}");
    };
    for mode in [Mode::Infer, Mode::Train] {
        check(&logits(&base, None, &ids, mode), "probe_logits_base");
        let live = logits(&base, Some(&adapter), &ids, mode);
        check(&live, "probe_logits_adapter");
    }
    base.merge(&adapter).unwrap();
    check(
        &logits(&base, None, &ids, Mode::Infer),
        "probe_logits_merged",
    );
    let merged: Vec<(String, Tensor)> = base.tensors().unwrap();
    let mut compared = 0;
    for (name, tensor) in &merged {
        if let Some(want) = want.get(name) {
            let diff = max_abs_diff(&floats(tensor), &floats(want));
            assert!(diff <= 1e-6, "{name}: {diff}");
            compared += 1;
        }
    }
    assert_eq!(compared, 2);
}
