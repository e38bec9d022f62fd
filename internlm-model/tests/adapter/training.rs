//! Gradients of adapters in `Mode::Train`.

use std::collections::BTreeMap;

use candle_core::backprop::GradStore;
use candle_core::{D, Device, Tensor, Var};
use internlm_kernels::Activation;
use internlm_model::batch::Logits;
use internlm_model::context::Mode;
use internlm_model::kv_cache::NoCache;
use internlm_model::{
    AdapterSet, Batch, CausalLm, Context, LoraAdapter, LoraConfig, ModelDir, Result,
};
use serde::Deserialize;
use serde_json::json;

use crate::checkpoint::{options, random};
use crate::common::shared;
use crate::{FAMILIES, adapter, family, floats};

/// Mean negative log-likelihood of each next token, of all sequences.
fn loss(
    model: &CausalLm,
    set: &AdapterSet,
    sequences: &[(Vec<u32>, Option<usize>)],
) -> Result<Tensor> {
    let (mut batch, mut rows, mut targets) = (Batch::new(), Vec::new(), Vec::new());
    for (slot, (ids, adapter)) in sequences.iter().enumerate() {
        let first = batch.num_tokens() as u32;
        batch.push(slot, ids, 0, ids.len(), Logits::All)?;
        batch.set_adapter(slot, *adapter)?;
        rows.extend(first..first + ids.len() as u32 - 1);
        targets.extend_from_slice(&ids[1..]);
    }
    let mut cache = NoCache;
    let mut context = Context::new(&mut cache)
        .with_mode(Mode::Train)
        .with_adapters(set);
    let logits = model.forward(&batch, &mut context)?;
    let logits = logits.index_select(&Tensor::new(rows, &Device::Cpu)?, 0)?;
    let most = logits.max_keepdim(D::Minus1)?.detach();
    let shifted = logits.broadcast_sub(&most)?;
    let sum = shifted.exp()?.sum_keepdim(D::Minus1)?.log()?;
    let targets = Tensor::new(targets, &Device::Cpu)?.unsqueeze(1)?;
    let logprobs = shifted.gather(&targets, 1)?.sub(&sum)?;
    Ok(logprobs.mean_all()?.neg()?)
}

/// Central differences of the loss for the largest entries of each matrix's gradient.
#[track_caller]
fn gradients_are_slopes(
    model: &CausalLm,
    vars: &[(String, Var)],
    grads: &GradStore,
    loss: impl Fn() -> f32,
) {
    for (name, var) in vars {
        let grad = grads.get(var).unwrap_or_else(|| panic!("{name} has none"));
        let grad = floats(grad);
        let largest = (0..grad.len())
            .max_by(|&i, &j| grad[i].abs().total_cmp(&grad[j].abs()))
            .unwrap();
        assert!(grad[largest].abs() > 1e-5, "{name}: {}", grad[largest]);
        let values = floats(var.as_tensor());
        let at = |shift: f32| {
            let mut values = values.clone();
            values[largest] += shift;
            let values = Tensor::from_vec(values, var.dims(), &Device::Cpu).unwrap();
            var.set(&values).unwrap();
            loss()
        };
        let step = 2e-2;
        let slope = (at(step) - at(-step)) / (2.0 * step);
        at(0.0);
        let diff = (slope - grad[largest]).abs();
        assert!(
            diff <= 0.05 * grad[largest].abs() + 2e-4,
            "{} {name}: {slope}, {}",
            model.config().architecture.as_str(),
            grad[largest]
        );
    }
}

#[test]
fn every_matrix_gets_its_gradient() {
    let awq = json!({"quant_method": "awq", "bits": 4, "group_size": 32, "version": "gemm", "zero_point": true});
    let sizes = json!({"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1});
    let mut packed = sizes.clone();
    packed["quantization_config"] = awq;
    for name in FAMILIES {
        for more in [&sizes, &packed] {
            let exact = options().with_packed_activation(Activation::F32);
            let model = CausalLm::random(family(name, more.clone()), 7, exact).unwrap();
            assert_eq!(model.is_packed(), more.get("quantization_config").is_some());
            let lora = || LoraConfig::default().with_rank(2);
            let mut first = adapter(model.config(), lora(), 1);
            let mut second = adapter(model.config(), lora(), 2);
            let mut vars = first.vars().unwrap();
            vars.extend(second.vars().unwrap());
            let set = AdapterSet::from_iter([first, second]);
            // One sequence without an adapter between them: rows are gathered and scattered.
            let sequences = [
                (vec![1, 5, 9, 30, 2], Some(0)),
                (vec![17, 3, 4], None),
                (vec![8, 39, 11, 6], Some(1)),
                (vec![20, 21, 22], Some(0)),
            ];
            let of = || loss(&model, &set, &sequences).unwrap();
            let grads = of().backward().unwrap();
            let value = || of().to_scalar::<f32>().unwrap();
            gradients_are_slopes(&model, &vars, &grads, value);
        }
    }
}

#[test]
fn an_adapter_that_no_sequence_goes_through_gets_no_gradient() {
    let model = random(&family("internlm2", json!({})));
    let of = |seed| adapter(model.config(), LoraConfig::default(), seed);
    let (mut used, mut unused) = (of(1), of(2));
    let (vars, others) = (used.vars().unwrap(), unused.vars().unwrap());
    let set = AdapterSet::from_iter([unused, used]);
    let sequences = [(vec![1, 5, 9, 30, 2], Some(1)), (vec![17, 3], Some(1))];
    let grads = loss(&model, &set, &sequences).unwrap().backward().unwrap();
    assert!(vars.iter().all(|(_, var)| grads.get(var).is_some()));
    assert!(others.iter().all(|(_, var)| grads.get(var).is_none()));
}

#[derive(Deserialize)]
struct Trajectory {
    loss: Vec<f32>,
    grad_norm: Vec<f32>,
}

#[derive(Deserialize)]
struct Batches {
    batches: Vec<Vec<Vec<u32>>>,
}

fn json<T: for<'de> Deserialize<'de>>(path: &std::path::Path) -> T {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Twenty steps of AdamW over a PEFT adapter, beside PyTorch's losses, gradient norms and final adapter.
#[test]
fn twenty_steps_of_peft() {
    let Some(at) = shared("goldens/training") else {
        return;
    };
    let dir = ModelDir::open(at.join("model_init")).unwrap();
    let model = CausalLm::load(&dir, options()).unwrap();
    let mut adapter = LoraAdapter::load(at.join("lora_adapter_init"), model.config()).unwrap();
    let vars = adapter.vars().unwrap();
    let set = AdapterSet::from_iter([adapter]);
    let want: Trajectory = json(&at.join("lora.json"));
    let Batches { batches } = json(&at.join("full_adamw.json"));
    assert_eq!(batches.len(), 20);
    let elements: usize = vars.iter().map(|(_, var)| var.elem_count()).sum();
    let mut moments = vec![(0f64, 0f64); elements];
    for (step, sequences) in batches.into_iter().enumerate() {
        let sequences: Vec<_> = sequences.into_iter().map(|ids| (ids, Some(0))).collect();
        let loss = loss(&model, &set, &sequences).unwrap();
        let grads = loss.backward().unwrap();
        let diff = (loss.to_scalar::<f32>().unwrap() - want.loss[step]).abs();
        assert!(diff <= 1e-4, "step {step}: {diff}");
        let grads: Vec<f32> = vars
            .iter()
            .flat_map(|(_, var)| floats(grads.get(var).unwrap()))
            .collect();
        let norm = grads
            .iter()
            .map(|g| f64::from(*g).powi(2))
            .sum::<f64>()
            .sqrt();
        let diff = (norm / f64::from(want.grad_norm[step]) - 1.0).abs();
        assert!(diff <= 1e-3, "step {step}: {diff}");
        // reference/training.md, section 8; clipped to 1, no weight decay.
        let clip = (1.0 / (norm + 1e-6)).min(1.0);
        let (beta1, beta2, t) = (0.9f64, 0.999f64, step as i32 + 1);
        let mut at = 0;
        for (_, var) in &vars {
            let mut values = floats(var.as_tensor());
            for value in &mut values {
                let (grad, (m, v)) = (f64::from(grads[at]) * clip, &mut moments[at]);
                *m = beta1 * *m + (1.0 - beta1) * grad;
                *v = beta2 * *v + (1.0 - beta2) * grad * grad;
                let (m, v) = (*m / (1.0 - beta1.powi(t)), *v / (1.0 - beta2.powi(t)));
                *value -= (0.01 * m / (v.sqrt() + 1e-8)) as f32;
                at += 1;
            }
            let values = Tensor::from_vec(values, var.dims(), &Device::Cpu).unwrap();
            var.set(&values).unwrap();
        }
    }
    let last = LoraAdapter::load(at.join("lora_adapter_final"), model.config()).unwrap();
    let last: BTreeMap<_, _> = last.tensors().into_iter().collect();
    // Within 1e-3, as the README says, but for an entry whose gradient is nothing but rounding in one
    // step: AdamW divides it by its own size, and moves the entry by up to the learning rate.
    let (mut over, mut sum) = (0, 0.0);
    for (name, var) in &vars {
        for (got, want) in floats(var.as_tensor()).iter().zip(floats(&last[name])) {
            let diff = (got - want).abs();
            assert!(diff <= 1e-2, "{name}: {diff}");
            over += usize::from(diff > 1e-3);
            sum += f64::from(diff);
        }
    }
    assert!(over <= 3, "{over} of {elements}");
    assert!(sum / elements as f64 <= 2e-5, "{}", sum / elements as f64);
}
