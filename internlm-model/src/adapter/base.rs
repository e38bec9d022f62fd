//! The sizes of the network that an adapter is for.

use crate::config::{Architecture, Config, Head};
use crate::error::{Error, Result};

/// What decides paths and shapes of a network's linear modules.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Base {
    architecture: Architecture,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: usize,
    head_dim: usize,
    vocab_size: usize,
    head: Head,
}

impl Base {
    pub(crate) fn of(config: &Config) -> Self {
        Self {
            architecture: config.architecture,
            hidden_size: config.hidden_size,
            intermediate_size: config.intermediate_size,
            num_hidden_layers: config.num_hidden_layers,
            num_attention_heads: config.num_attention_heads,
            num_key_value_heads: config.num_key_value_heads,
            head_dim: config.head_dim,
            vocab_size: config.vocab_size,
            head: config.head,
        }
    }

    /// Refuses an adapter of this base over another one.
    pub(crate) fn expect(&self, adapter: &str, model: &Base) -> Result<()> {
        if self == model {
            return Ok(());
        }
        let sizes = |base: &Base| {
            [
                ("model_type", base.architecture.as_str().to_owned()),
                ("hidden_size", base.hidden_size.to_string()),
                ("intermediate_size", base.intermediate_size.to_string()),
                ("num_hidden_layers", base.num_hidden_layers.to_string()),
                ("num_attention_heads", base.num_attention_heads.to_string()),
                ("num_key_value_heads", base.num_key_value_heads.to_string()),
                ("head_dim", base.head_dim.to_string()),
                ("vocab_size", base.vocab_size.to_string()),
                ("head", format!("{:?}", base.head)),
            ]
        };
        let pairs = sizes(self).into_iter().zip(sizes(model));
        let mut differences = pairs.filter(|(got, want)| got != want);
        match differences.next() {
            Some(((field, got), (_, want))) => Err(Error::AdapterBase {
                name: adapter.to_owned(),
                field,
                got,
                want,
            }),
            None => Ok(()),
        }
    }
}
