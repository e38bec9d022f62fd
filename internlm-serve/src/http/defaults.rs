//! Sampling where a request does not say.

use internlm_core::SamplingParams;
use internlm_model::CausalLm;
use internlm_model::config::Architecture;

/// What the checkpoint's `generation_config.json` recommends, else what the official code does. A request
/// that names some values keeps the others.
pub fn default_sampling(model: &CausalLm) -> SamplingParams {
    let generation = model.generation_config();
    if generation.do_sample == Some(true) || generation.temperature.is_some() {
        let mut generation = generation.clone();
        generation.do_sample = Some(true);
        return generation.sampling_params();
    }
    let params = SamplingParams::default();
    match model.config().architecture {
        // `chat()` of modeling_internlm.py and modeling_internlm2.py; top-k is Hugging Face's default.
        Architecture::InternLm | Architecture::InternLm2 => {
            params.with_temperature(0.8).with_top_p(0.8).with_top_k(50)
        }
        // README of InternLM/InternLM.
        Architecture::InternLm3 => params
            .with_temperature(1.0)
            .with_top_p(0.8)
            .with_top_k(40)
            .with_repetition_penalty(1.005),
        // Model card of SmolLM2-Instruct. A small model needs its unlikely tokens cut off.
        _ => params.with_temperature(0.2).with_top_p(0.9),
    }
}
