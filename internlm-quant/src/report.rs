//! What quantization did to each layer, as plain data.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One linear layer. Errors are absent where there was no data to measure them on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LayerReport {
    /// Module path.
    pub layer: String,
    /// The exponent of the activations in the scale; `None` where no scale is applied.
    pub scale_exponent: Option<f32>,
    /// Mean square error of the inspected module (attention, feed-forward layer or the layer itself)
    /// with the chosen scale, all of the group's layers rounded to nearest.
    pub scale_error: Option<f64>,
    /// The same without a scale.
    pub unscaled_error: Option<f64>,
    /// Mean over all groups of the part of the range that is kept; `None` where clipping was off.
    pub clip_ratio: Option<f64>,
    /// Mean square error of the layer's output if its weight had been rounded to nearest as it was.
    pub rtn_mse: Option<f64>,
    /// Mean square error of the layer's output.
    pub output_mse: Option<f64>,
    /// Mean square of the layer's output, to compare with.
    pub output_power: Option<f64>,
}

impl LayerReport {
    /// A report of a layer about which nothing is known yet.
    pub(crate) fn new(layer: &str) -> Self {
        Self {
            layer: layer.to_owned(),
            scale_exponent: None,
            scale_error: None,
            unscaled_error: None,
            clip_ratio: None,
            rtn_mse: None,
            output_mse: None,
            output_power: None,
        }
    }
}

impl fmt::Display for LayerReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.layer)?;
        if let Some(exponent) = self.scale_exponent {
            write!(f, ", scale exponent {exponent:.2}")?;
        }
        if let Some(ratio) = self.clip_ratio {
            write!(f, ", clipped to {:.0} %", 100.0 * ratio)?;
        }
        if let Some(error) = self.output_mse {
            write!(f, ", output error {error:.3e}")?;
        }
        if let Some(rtn) = self.rtn_mse {
            write!(f, " (rounded to nearest {rtn:.3e})")?;
        }
        Ok(())
    }
}

/// All layers of a network, in its order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// One entry a layer.
    pub layers: Vec<LayerReport>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for layer in &self.layers {
            writeln!(f, "{layer}")?;
        }
        write!(f, "{} layers", self.layers.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_not_shown() -> Result<(), serde_json::Error> {
        let mut layer = LayerReport::new("model.layers.0.mlp.down_proj");
        assert_eq!(layer.to_string(), "model.layers.0.mlp.down_proj");
        layer.scale_exponent = Some(0.35);
        layer.clip_ratio = Some(0.925);
        layer.output_mse = Some(1.5e-4);
        layer.rtn_mse = Some(2e-4);
        assert_eq!(
            layer.to_string(),
            "model.layers.0.mlp.down_proj, scale exponent 0.35, clipped to 92 %, output error 1.500e-4 \
             (rounded to nearest 2.000e-4)"
        );
        let text = serde_json::to_string(&layer)?;
        assert_eq!(serde_json::from_str::<LayerReport>(&text)?, layer);
        Ok(())
    }
}
