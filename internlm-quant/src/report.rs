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

    /// Whether its output is further from the float one than plain rounding would have left it, or its
    /// scale does harm. Layers without errors are not.
    pub fn is_worse(&self) -> bool {
        let pairs = [
            self.output_mse.zip(self.rtn_mse),
            self.scale_error.zip(self.unscaled_error),
        ];
        pairs
            .into_iter()
            .flatten()
            .any(|(error, before)| error > before)
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
        if self.is_worse() {
            write!(f, ", WORSE than before")?;
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

impl Report {
    /// The layers that [got worse](LayerReport::is_worse).
    pub fn worse(&self) -> impl Iterator<Item = &LayerReport> {
        self.layers.iter().filter(|layer| layer.is_worse())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for layer in &self.layers {
            writeln!(f, "{layer}")?;
        }
        let worse = self.worse().count();
        write!(f, "{} layers, {worse} of them worse", self.layers.len())
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
        assert!(!layer.is_worse());
        layer.output_mse = Some(2.1e-4);
        assert!(
            layer
                .to_string()
                .ends_with("(rounded to nearest 2.000e-4), WORSE than before")
        );
        layer.output_mse = Some(1.5e-4);
        (layer.scale_error, layer.unscaled_error) = (Some(3e-5), Some(2e-5));
        assert!(layer.is_worse());
        let other = LayerReport::new("model.layers.1.mlp.down_proj");
        let layers = vec![layer.clone(), other];
        let report = Report { layers };
        let worse: Vec<_> = report.worse().map(|l| l.layer.as_str()).collect();
        assert_eq!(worse, ["model.layers.0.mlp.down_proj"]);
        assert!(report.to_string().ends_with("2 layers, 1 of them worse"));
        let text = serde_json::to_string(&layer)?;
        assert_eq!(serde_json::from_str::<LayerReport>(&text)?, layer);
        Ok(())
    }
}
