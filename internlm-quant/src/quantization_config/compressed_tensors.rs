//! The configuration of compressed-tensors, of which one format is read: `int-quantized` with 8-bit
//! weights, a symmetric scale per output, and activations rounded per token while the network runs.

use serde_json::{Map, Value, json};

use super::{Keys, QuantizationConfig, QuantizationMethod, is_empty, unsupported, wrong};
use crate::error::Result;

/// What all groups of `config_groups` must say, for weights and for activations.
const WEIGHTS: Scheme = Scheme {
    of: "weights",
    strategy: "channel",
    dynamic: false,
};
const ACTIVATIONS: Scheme = Scheme {
    of: "input_activations",
    strategy: "token",
    dynamic: true,
};

struct Scheme {
    of: &'static str,
    strategy: &'static str,
    dynamic: bool,
}

/// Reads the object. `targets` are not read: a module is of 8 bits where it has a `weight_scale`.
///
/// # Errors
/// Other formats and schemes, by name.
pub(super) fn read(keys: &Keys<'_>) -> Result<QuantizationConfig> {
    match keys.text("format")?.as_deref() {
        Some("int-quantized") => {}
        Some(other) => return Err(unsupported("format", other, "int-quantized")),
        None => return Err(wrong("format", "is missing")),
    }
    for key in ["sparsity_config", "transform_config"] {
        if let Some(value) = keys.value(key).filter(|value| !is_empty(value)) {
            return Err(unsupported(key, value.to_string(), "an empty one"));
        }
    }
    let groups = match keys.value("config_groups") {
        Some(Value::Object(groups)) if !groups.is_empty() => groups,
        Some(_) => return Err(wrong("config_groups", "is no object of groups")),
        None => return Err(wrong("config_groups", "is missing")),
    };
    for group in groups.values() {
        let group = object("config_groups", group)?;
        match group.get(WEIGHTS.of).filter(|value| !value.is_null()) {
            Some(weights) => WEIGHTS.check(object(WEIGHTS.of, weights)?)?,
            None => return Err(wrong(WEIGHTS.of, "is missing")),
        }
        // Without it activations are not rounded; how they are is chosen by who runs the network.
        if let Some(activations) = group.get(ACTIVATIONS.of).filter(|value| !value.is_null()) {
            ACTIVATIONS.check(object(ACTIVATIONS.of, activations)?)?;
        }
    }
    Ok(QuantizationConfig {
        method: QuantizationMethod::Int8,
        group_size: None,
        modules_to_not_convert: keys.texts("ignore")?,
    })
}

/// The object that vLLM and transformers read.
pub(super) fn write(ignore: &[String]) -> Value {
    json!({
        "quant_method": "compressed-tensors",
        "format": "int-quantized",
        "quantization_status": "compressed",
        "config_groups": {"group_0": {
            "targets": ["Linear"],
            "weights": WEIGHTS.write(),
            "input_activations": ACTIVATIONS.write(),
            "output_activations": null,
        }},
        "ignore": ignore,
        "kv_cache_scheme": null,
    })
}

impl Scheme {
    fn check(&self, object: &Map<String, Value>) -> Result<()> {
        let keys = Keys(object);
        match keys.typed("num_bits", "a whole number", Value::as_i64)? {
            Some(8) => {}
            Some(bits) => return Err(unsupported("num_bits", bits.to_string(), "8")),
            None => return Err(wrong("num_bits", "is missing")),
        }
        for (key, known) in [("type", "int"), ("strategy", self.strategy)] {
            match keys.text(key)?.as_deref() {
                Some(text) if text == known => {}
                Some(text) => return Err(unsupported(key, text, known)),
                None => return Err(wrong(key, format!("of {} is missing", self.of))),
            }
        }
        let known = |flag: bool| if flag { "true" } else { "false" };
        for (key, default, want) in [("symmetric", true, true), ("dynamic", false, self.dynamic)] {
            let flag = keys.flag(key)?.unwrap_or(default);
            if flag != want {
                return Err(unsupported(key, known(flag), known(want)));
            }
        }
        Ok(())
    }

    fn write(&self) -> Value {
        json!({
            "num_bits": 8,
            "type": "int",
            "symmetric": true,
            "strategy": self.strategy,
            "dynamic": self.dynamic,
        })
    }
}

fn object<'a>(key: &'static str, value: &'a Value) -> Result<&'a Map<String, Value>> {
    value.as_object().ok_or_else(|| wrong(key, "is no object"))
}
