//! AWQ (arXiv 2306.00978) and SmoothQuant ([`smooth_block`]) over any network that can be calibrated.
//!
//! AWQ goes a block at a time: scales of all groups are searched on the dense block, then its layers are
//! clipped and rounded in the order in which they run, each on the inputs that the rounded layers
//! before it give. The next block is calibrated on the output of this one as it will be.
//!
//! Differences from AutoAWQ and LMDeploy, all on purpose:
//! - leaving a group unscaled is a candidate too, so the search never makes a group worse;
//! - a scale is corrected by the rounding of the norm that is divided by it, so that scaling alone
//!   changes nothing, whatever dtype the norm is stored in;
//! - the clip error is exact ([`clip`](crate::search::clip));
//! - rounding can compensate ([`compensate`](crate::search::compensate)); files stay the same.

mod round;
mod scales;
mod smooth;

use internlm_kernels::Compute;

use crate::calibrate::{Calibrate, Consumer, Group, WeightSink};
use crate::error::Error;
use crate::report::{LayerReport, Report};
use crate::rtn::{Grouping, ScaleType};
use crate::stream::Stream;

pub use scales::Scaled;
pub use smooth::{SmoothConfig, smooth_block};

/// How layers are quantized to 4 bits.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct AwqConfig {
    /// Inputs that share a scale and a zero.
    pub group_size: usize,
    /// How the groups' scales are stored.
    pub scales: ScaleType,
    /// Exponents that are tried for the scales of channels, in steps of one over this; 0 for none.
    pub scale_steps: usize,
    /// Whether ranges are clipped.
    pub clip: bool,
    /// The damping of error-compensating rounding; `None` rounds to nearest.
    pub compensate: Option<f64>,
    /// Tokens on which a scale is judged and errors are measured; statistics use all.
    pub inspect_tokens: usize,
}

impl Default for AwqConfig {
    fn default() -> Self {
        Self {
            group_size: 128,
            scales: ScaleType::F16,
            scale_steps: 20,
            clip: true,
            compensate: None,
            inspect_tokens: 2048,
        }
    }
}

impl AwqConfig {
    /// Rounding to nearest, without scales and clipping. Needs no data.
    pub fn rtn() -> Self {
        Self {
            scale_steps: 0,
            clip: false,
            ..Self::default()
        }
    }

    /// Sets the group size.
    #[must_use]
    pub fn with_group_size(mut self, group_size: usize) -> Self {
        self.group_size = group_size;
        self
    }

    /// Sets how scales are stored.
    #[must_use]
    pub fn with_scales(mut self, scales: ScaleType) -> Self {
        self.scales = scales;
        self
    }

    /// Sets the number of exponents.
    #[must_use]
    pub fn with_scale_steps(mut self, scale_steps: usize) -> Self {
        self.scale_steps = scale_steps;
        self
    }

    /// Sets whether ranges are clipped.
    #[must_use]
    pub fn with_clip(mut self, clip: bool) -> Self {
        self.clip = clip;
        self
    }

    /// Sets the damping of compensating rounding.
    #[must_use]
    pub fn with_compensate(mut self, damping: Option<f64>) -> Self {
        self.compensate = damping;
        self
    }

    /// Sets how many tokens errors are measured on.
    #[must_use]
    pub fn with_inspect_tokens(mut self, inspect_tokens: usize) -> Self {
        self.inspect_tokens = inspect_tokens;
        self
    }

    /// Whether it can't be done without data.
    pub fn needs_data(&self) -> bool {
        self.scale_steps > 0 || self.clip || self.compensate.is_some()
    }

    fn grouping(&self) -> Grouping {
        Grouping {
            bits: 4,
            group_size: self.group_size,
            scales: self.scales,
        }
    }
}

/// A method with its options.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Method {
    /// 4 bits in groups: rounding to nearest, AWQ, and what is built on it.
    Awq(AwqConfig),
    /// 8 bits a row, for activations of 8 bits.
    SmoothQuant(SmoothConfig),
}

impl From<AwqConfig> for Method {
    fn from(config: AwqConfig) -> Self {
        Method::Awq(config)
    }
}

impl From<&AwqConfig> for Method {
    fn from(config: &AwqConfig) -> Self {
        Method::Awq(config.clone())
    }
}

impl From<SmoothConfig> for Method {
    fn from(config: SmoothConfig) -> Self {
        Method::SmoothQuant(config)
    }
}

impl Method {
    /// Whether it can't be done without data.
    pub fn needs_data(&self) -> bool {
        match self {
            Method::Awq(config) => config.needs_data(),
            Method::SmoothQuant(_) => true,
        }
    }

    /// Quantizes the loaded block in place. `stream` stands before the block and stays there.
    ///
    /// # Errors
    /// As [`quantize_block`] and [`smooth_block`]; [`Error::NoCalibration`] where data is needed and
    /// there is no stream.
    pub fn quantize_block<C: Calibrate>(
        &self,
        model: &mut C,
        block: usize,
        stream: Option<&Stream>,
        compute: &Compute,
    ) -> Result<Vec<LayerReport>, C::Error> {
        match self {
            Method::Awq(config) => quantize_block(model, block, stream, compute, config),
            Method::SmoothQuant(config) => {
                let stream = stream.ok_or(Error::NoCalibration)?;
                smooth_block(model, block, stream, compute, config)
            }
        }
    }
}

/// Quantizes a whole network and hands every tensor of its blocks to `sink`.
///
/// `sequences` are token ids; may be empty where the method [needs no data](Method::needs_data).
///
/// # Errors
/// [`Error::GroupSize`] where a layer can't be grouped,
/// [`Error::NoCalibration`] without tokens, and what the network or the sink meets.
pub fn quantize<C: Calibrate>(
    model: &mut C,
    sequences: &[Vec<u32>],
    compute: &Compute,
    method: impl Into<Method>,
    sink: &mut dyn WeightSink,
) -> Result<Report, C::Error> {
    let method = method.into();
    let mut stream = match sequences.iter().any(|ids| !ids.is_empty()) {
        false if !method.needs_data() => None,
        _ => Some(Stream::embed(model, sequences)?),
    };
    let mut report = Report::default();
    for block in 0..model.blocks() {
        model.load_block(block)?;
        let layers = method.quantize_block(model, block, stream.as_ref(), compute)?;
        report.layers.extend(layers);
        if let Some(stream) = &mut stream {
            stream.advance(model, block)?;
        }
        model.finish_block(block, sink)?;
    }
    Ok(report)
}

/// Quantizes the loaded block in place. `stream` stands before the block and stays there.
///
/// After an error the block's weights are of no use.
///
/// # Errors
/// [`Error::GroupSize`] where a layer can't be grouped, [`Error::NoCalibration`] where data is needed
/// and there is no stream, [`Error::NotFinite`] for broken weights, and what the network meets.
pub fn quantize_block<C: Calibrate>(
    model: &mut C,
    block: usize,
    stream: Option<&Stream>,
    compute: &Compute,
    config: &AwqConfig,
) -> Result<Vec<LayerReport>, C::Error> {
    let groups = model.groups(block);
    if config.needs_data() && stream.is_none() {
        return Err(Error::NoCalibration.into());
    }
    let scaled = match stream {
        Some(stream) if config.scale_steps > 0 => {
            scales::search(model, block, &groups, stream, compute, config)?
        }
        _ => groups.iter().map(|_| None).collect(),
    };
    let mut reports = Vec::new();
    for (group, scaled) in groups.iter().zip(&scaled) {
        let layers = round::group(
            model,
            block,
            group,
            scaled.as_ref(),
            stream,
            compute,
            config,
        )?;
        reports.extend(layers);
    }
    Ok(reports)
}

/// Searches the scales of the loaded block's groups and applies them, without rounding anything: one
/// entry for each group, `None` for those without a producer.
///
/// # Errors
/// As [`quantize_block`].
pub fn scale_block<C: Calibrate>(
    model: &mut C,
    block: usize,
    stream: &Stream,
    compute: &Compute,
    config: &AwqConfig,
) -> Result<Vec<Option<Scaled>>, C::Error> {
    let groups = model.groups(block);
    scales::search(model, block, &groups, stream, compute, config)
}

/// The first layer of a group: what taps listen to.
fn first(group: &Group) -> Result<&Consumer, Error> {
    group.consumers.first().ok_or_else(|| Error::Group {
        group: group.inspect.clone(),
        what: "has no layers".to_owned(),
    })
}

/// `{module}.weight`
fn weight_path(module: &str) -> String {
    format!("{module}.weight")
}
