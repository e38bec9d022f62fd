//! Folders of AutoAWQ and LMDeploy beside what their makers' code makes of them (`goldens/awq/README.md`).

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use internlm_model::batch::Logits;
use internlm_model::context::Mode;
use internlm_model::{Batch, CausalLm, Context, LoadConfig};

use crate::checkpoint::load_with;
use crate::common::{max_abs_diff, shared};

pub(crate) fn logits(model: &CausalLm, ids: &[u32], mode: Mode) -> Vec<f32> {
    let mut cache = model.new_cache().unwrap();
    let mut batch = Batch::new();
    batch.push(0, ids, 0, ids.len(), Logits::All).unwrap();
    let mut context = Context::new(&mut cache).with_mode(mode);
    let out = model.forward(&batch, &mut context);
    out.unwrap().to_vec2::<f32>().unwrap().concat()
}

pub(crate) fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// Loads each folder, and compares weights as dequantized by the makers' code and, in each mode, the logits of
/// those. `more` sees the folder, the model and the ids that were read.
pub(crate) fn check(
    options: &LoadConfig,
    modes: &[Mode],
    more: impl Fn(&Path, &CausalLm, &[Vec<u32>]),
) {
    let Some(goldens) = shared("goldens/awq") else {
        return;
    };
    let mut folders = 0;
    for entry in std::fs::read_dir(goldens).unwrap() {
        let golden = entry.unwrap().path();
        let folder = golden.join("awq");
        if !folder.exists() {
            continue;
        }
        folders += 1;
        let at = golden.display();
        let model = load_with(&folder, options.clone()).unwrap();
        assert!(model.is_packed());
        let read =
            |name: &str| candle_core::safetensors::load(golden.join(name), &Device::Cpu).unwrap();
        let ours: BTreeMap<_, _> = model.tensors().unwrap().into_iter().collect();
        for (name, want) in read("dequantized_f32.safetensors") {
            let diff = max_abs_diff(&values(&ours[&name]), &values(&want));
            assert!(diff <= 1e-6, "{at} {name}: {diff}");
        }
        let ids: Vec<Vec<u32>> =
            serde_json::from_slice(&std::fs::read(golden.join("eval_ids.json")).unwrap()).unwrap();
        let want = values(&read("logits.safetensors")["logits_awq_dequant_f32"]);
        for &mode in modes {
            let all = ids.iter().flat_map(|ids| logits(&model, ids, mode));
            let diff = max_abs_diff(&all.collect::<Vec<_>>(), &want);
            assert!(diff <= 1e-3, "{at} {mode:?}: {diff}");
        }
        more(&folder, &model, &ids);
    }
    assert!(folders >= 5, "{folders}");
}
