//! `quantization_config` of a checkpoint's `config.json`.

mod compressed_tensors;

use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::gptq::GptqZeros;
use crate::nibbles;

/// How a checkpoint's matrices are packed: 4 bits, by AWQ in its layout GEMM or by GPTQ; or 8 bits with a
/// scale per output, by compressed-tensors.
///
/// ```
/// use internlm_quant::QuantizationConfig;
/// use serde_json::json;
///
/// let config = QuantizationConfig::from_json(&json!({
///     "quant_method": "awq", "version": "gemm", "bits": 4, "group_size": 128, "zero_point": true,
/// }))?;
/// assert_eq!(config.group_size_of(4096)?, 128);
/// assert_eq!(QuantizationConfig::from_json(&config.to_json())?, config);
/// # Ok::<(), internlm_quant::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QuantizationConfig {
    /// By which method, with what only that method has.
    pub method: QuantizationMethod,
    /// Inputs that share a scale; `None` (-1 in the file) for all of a row.
    pub group_size: Option<usize>,
    /// Modules that are not packed; see [`converts`](QuantizationConfig::converts).
    pub modules_to_not_convert: Vec<String>,
}

/// The methods whose tensors can be read.
///
/// The enum is closed on purpose, as [`Weight`](crate::Weight) is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QuantizationMethod {
    /// See [`awq`](crate::awq).
    Awq {
        /// Whether zero points are stored; otherwise they are 8.
        zero_point: bool,
    },
    /// See [`gptq`](crate::gptq).
    Gptq {
        /// Whether inputs were quantized in the order of their activations, so that `g_idx` matters.
        desc_act: bool,
        /// Whether zero points may be absent, and are 8 then.
        sym: bool,
        /// How zero points are stored.
        zeros: GptqZeros,
    },
    /// See [`int8`](crate::int8).
    Int8,
}

impl QuantizationConfig {
    /// The configuration of an AWQ checkpoint with zero points.
    pub fn awq(group_size: usize) -> Self {
        Self {
            method: QuantizationMethod::Awq { zero_point: true },
            group_size: Some(group_size),
            modules_to_not_convert: Vec::new(),
        }
    }

    /// The configuration of a checkpoint of 8 bits (W8A8).
    pub fn int8() -> Self {
        Self {
            method: QuantizationMethod::Int8,
            group_size: None,
            modules_to_not_convert: Vec::new(),
        }
    }

    /// Sets the modules that are not packed.
    #[must_use]
    pub fn with_modules_to_not_convert(mut self, modules: Vec<String>) -> Self {
        self.modules_to_not_convert = modules;
        self
    }

    /// Reads the value of `quantization_config`, in the spelling of AutoAWQ and LMDeploy (`bits`,
    /// `group_size`) or that of llm-awq (`w_bit`, `q_group_size`, no `quant_method`).
    ///
    /// Keys that steer a run-time (`do_fuse`, `exllama_config`, ...) are not read.
    ///
    /// # Errors
    /// [`Error::QuantizationUnsupported`] for other methods, layouts and bits, by name;
    /// [`Error::QuantizationConfig`] for values that are missing, of another type, or contradict each
    /// other.
    pub fn from_json(value: &Value) -> Result<Self> {
        let Some(object) = value.as_object() else {
            return Err(wrong("quantization_config", "is not an object"));
        };
        let keys = Keys(object);
        let method = keys.text("quant_method")?;
        let config = match method.as_deref() {
            Some("awq") => keys.awq()?,
            Some("gptq") => keys.gptq()?,
            Some("compressed-tensors") => return compressed_tensors::read(&keys),
            Some(other) => return Err(keys.unknown_method(other)),
            None if keys.flag("load_in_4bit")? == Some(true)
                || keys.flag("load_in_8bit")? == Some(true) =>
            {
                return Err(keys.unknown_method("bitsandbytes"));
            }
            None if keys.value("w_bit").is_some() => keys.awq()?,
            None => return Err(wrong("quant_method", "is missing")),
        };
        match keys.one_of("bits", "w_bit")? {
            Some(4) => Ok(config),
            Some(bits) => Err(unsupported("bits", bits.to_string(), "4")),
            None => Err(wrong("bits", "is missing")),
        }
    }

    /// The value of `quantization_config`, as AutoAWQ, LMDeploy, transformers and vLLM read it.
    pub fn to_json(&self) -> Value {
        let mut value = match &self.method {
            QuantizationMethod::Awq { zero_point } => json!({
                "quant_method": "awq",
                "version": "gemm",
                "zero_point": zero_point,
            }),
            QuantizationMethod::Gptq {
                desc_act,
                sym,
                zeros,
            } => json!({
                "quant_method": "gptq",
                "desc_act": desc_act,
                "sym": sym,
                "checkpoint_format": match zeros {
                    GptqZeros::LessOne => "gptq",
                    GptqZeros::Plain => "gptq_v2",
                },
            }),
            QuantizationMethod::Int8 => {
                return compressed_tensors::write(&self.modules_to_not_convert);
            }
        };
        value["bits"] = json!(4);
        value["group_size"] = self.group_size.map_or(json!(-1), |size| json!(size));
        // Left out where there is none, as LMDeploy does: not every reader takes null.
        if !self.modules_to_not_convert.is_empty() {
            value["modules_to_not_convert"] = json!(self.modules_to_not_convert);
        }
        value
    }

    /// The group size for a matrix of this many inputs.
    ///
    /// # Errors
    /// [`Error::GroupSize`] if it does not divide them, with those of 128, 64 and 32 that do.
    pub fn group_size_of(&self, in_features: usize) -> Result<usize> {
        let group_size = self.group_size.unwrap_or(in_features);
        nibbles::groups(in_features, group_size)?;
        Ok(group_size)
    }

    /// Whether a module (`model.layers.0.mlp.up_proj`) is packed as far as
    /// `modules_to_not_convert` says. Of AWQ and GPTQ a text anywhere in the path is enough to leave it
    /// dense, as in AutoAWQ and transformers. Of [`int8`](crate::int8) it is the whole path; patterns
    /// (`re:…`) are kept but say nothing here, for stored tensors tell what they are.
    pub fn converts(&self, module: &str) -> bool {
        let excluded = |text: &String| match self.method {
            QuantizationMethod::Int8 => module == text,
            _ => module.contains(text.as_str()),
        };
        !self.modules_to_not_convert.iter().any(excluded)
    }
}

fn wrong(key: &'static str, message: impl Into<String>) -> Error {
    Error::QuantizationConfig {
        key,
        message: message.into(),
    }
}

fn unsupported(key: &'static str, got: impl Into<String>, known: &'static str) -> Error {
    Error::QuantizationUnsupported {
        key,
        got: got.into(),
        known,
    }
}

/// The object, with typed look-ups. A null is an absent value, as in Python.
struct Keys<'a>(&'a Map<String, Value>);

impl Keys<'_> {
    fn awq(&self) -> Result<QuantizationConfig> {
        let version = self.text("version")?;
        if let Some(version) = version.filter(|version| version != "gemm") {
            return Err(unsupported("version", version, "gemm"));
        }
        // llm-awq's own packing interleaves rows; transformers calls it a backend.
        if let Some(backend) = self.text("backend")?.filter(|b| b == "llm-awq") {
            return Err(unsupported("backend", backend, "autoawq"));
        }
        self.config(QuantizationMethod::Awq {
            zero_point: self.flag("zero_point")?.unwrap_or(true),
        })
    }

    fn gptq(&self) -> Result<QuantizationConfig> {
        let zeros = match self.text("checkpoint_format")?.as_deref() {
            None | Some("gptq") => GptqZeros::LessOne,
            Some("gptq_v2") => GptqZeros::Plain,
            Some(other) => return Err(unsupported("checkpoint_format", other, "gptq and gptq_v2")),
        };
        if self.flag("is_marlin_format")? == Some(true) {
            return Err(unsupported("is_marlin_format", "true", "false"));
        }
        // GPTQModel: other bits and group sizes for some modules.
        if let Some(dynamic) = self.value("dynamic").filter(|d| !is_empty(d)) {
            return Err(unsupported("dynamic", dynamic.to_string(), "an empty one"));
        }
        self.config(QuantizationMethod::Gptq {
            desc_act: self.flag("desc_act")?.unwrap_or(false),
            sym: self.flag("sym")?.unwrap_or(true),
            zeros,
        })
    }

    fn config(&self, method: QuantizationMethod) -> Result<QuantizationConfig> {
        let group_size = match self.one_of("group_size", "q_group_size")? {
            None => return Err(wrong("group_size", "is missing")),
            Some(-1) => None,
            Some(size) => match usize::try_from(size) {
                Ok(size) if size > 0 => Some(size),
                _ => return Err(wrong("group_size", format!("is {size}"))),
            },
        };
        Ok(QuantizationConfig {
            method,
            group_size,
            modules_to_not_convert: self.texts("modules_to_not_convert")?,
        })
    }

    fn unknown_method(&self, method: &str) -> Error {
        unsupported("quant_method", method, "awq, gptq and compressed-tensors")
    }

    fn value(&self, key: &str) -> Option<&Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    fn typed<T>(
        &self,
        key: &'static str,
        kind: &str,
        as_kind: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.value(key) else {
            return Ok(None);
        };
        match as_kind(value) {
            Some(typed) => Ok(Some(typed)),
            None => Err(wrong(key, format!("is {value}, expected {kind}"))),
        }
    }

    /// In lower case: llm-awq writes `GEMM`.
    fn text(&self, key: &'static str) -> Result<Option<String>> {
        self.typed(key, "a text", |v| v.as_str().map(str::to_lowercase))
    }

    fn flag(&self, key: &'static str) -> Result<Option<bool>> {
        self.typed(key, "true or false", Value::as_bool)
    }

    fn texts(&self, key: &'static str) -> Result<Vec<String>> {
        let as_texts = |value: &Value| -> Option<Vec<String>> {
            let texts = value.as_array()?.iter();
            texts.map(|v| v.as_str().map(str::to_owned)).collect()
        };
        let texts = self.typed(key, "a list of texts", as_texts)?;
        Ok(texts.unwrap_or_default())
    }

    /// A number under either of its names.
    fn one_of(&self, key: &'static str, other: &'static str) -> Result<Option<i64>> {
        let number = |key| self.typed(key, "a whole number", Value::as_i64);
        match (number(key)?, number(other)?) {
            (Some(one), Some(two)) if one != two => {
                Err(wrong(key, format!("is {one}, but `{other}` is {two}")))
            }
            (one, two) => Ok(one.or(two)),
        }
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Object(object) => object.is_empty(),
        Value::Array(array) => array.is_empty(),
        value => *value == Value::Bool(false),
    }
}
