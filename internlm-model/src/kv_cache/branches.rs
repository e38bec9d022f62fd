//! Sequences of one pass, some of which continue others of it.

use candle_core::Tensor;

use super::KvCache;
use super::host::{self, HostLayer, Place};
use super::pool::KvDtype;
use super::tensors::TensorLayer;
use crate::batch::Batch;
use crate::context::Step;
use crate::error::{Error, Result};
use crate::ops::{from_rows, with_f32};

/// No cache, as [`NoCache`](super::NoCache), but a sequence may continue another of the same batch: what several
/// begin with is computed once, as a sequence of its own. Nothing outlives the pass.
#[derive(Debug)]
pub(crate) struct Branches {
    /// Of each sequence of the batch the place of the one that it continues, which comes before it.
    parents: Vec<Option<usize>>,
}

impl Branches {
    pub(crate) fn new(parents: Vec<Option<usize>>) -> Self {
        Self { parents }
    }
}

impl KvCache for Branches {
    fn len(&self, _slot: usize) -> usize {
        0
    }

    fn begin(&mut self, batch: &Batch) -> Result<()> {
        check(batch, &self.parents)
    }

    fn attend(&mut self, _layer: usize, step: &Step<'_>, qkv: &Tensor) -> Result<Tensor> {
        attend(step, qkv, &self.parents)
    }
}

/// The place of the sequence that this one continues; those past the end of the list continue none.
fn parent(parents: &[Option<usize>], place: usize) -> Option<usize> {
    parents.get(place).copied().flatten()
}

/// A sequence must start where the one that it continues ends, or at 0.
pub(super) fn check(batch: &Batch, parents: &[Option<usize>]) -> Result<()> {
    let mut ends: Vec<usize> = Vec::new();
    for (place, (slot, rows)) in batch.sequences().enumerate() {
        let start = batch.positions()[rows.start] as usize;
        let known = match parent(parents, place) {
            Some(parent) => ends.get(parent).copied(),
            None => Some(0),
        };
        if known != Some(start) {
            let known = known.map_or("a later one".to_owned(), |known| known.to_string());
            return Err(Error::Batch {
                what: format!("slot {slot} starts at position {start}, not at {known}"),
            });
        }
        ends.push(start + rows.len());
    }
    Ok(())
}

/// Attention of one layer of a batch for which [`check`] has passed.
pub(super) fn attend(step: &Step<'_>, qkv: &Tensor, parents: &[Option<usize>]) -> Result<Tensor> {
    if step.uses_kernels(qkv.device()) {
        let out = with_f32(qkv, |qkv| {
            let mut layers: Vec<HostLayer> = Vec::new();
            let place = |rows| Place {
                rows,
                block_table: &[0],
            };
            for (at, (_, rows)) in step.batch.sequences().enumerate() {
                let start = step.batch.positions()[rows.start] as usize;
                let mut layer = match parent(parents, at).and_then(|parent| layers.get(parent)) {
                    Some(parent) => parent.grown(start + rows.len())?,
                    None => HostLayer::new(KvDtype::F32, 1, rows.len(), step.geometry)?,
                };
                layer.store(step, qkv, &[place(rows)])?;
                layers.push(layer);
            }
            let places = step.batch.sequences().map(|(_, rows)| place(rows));
            let sequences: Vec<_> = places.zip(&layers).collect();
            host::attend(step, qkv, &sequences)
        })?;
        from_rows(out, step.batch.num_tokens(), qkv.device())
    } else {
        let mut layers: Vec<TensorLayer> = Vec::new();
        let mut outs = Vec::new();
        for (at, (_, rows)) in step.batch.sequences().enumerate() {
            let parent = parent(parents, at).and_then(|parent| layers.get(parent));
            let mut layer = parent.cloned().unwrap_or_default();
            outs.push(layer.attend(step, qkv, rows)?);
            layers.push(layer);
        }
        Ok(Tensor::cat(&outs, 0)?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{NoCache, small_model};
    use super::*;
    use crate::batch::Logits;
    use crate::context::{Context, Mode};

    #[test]
    fn branches_are_as_good_as_whole_sequences() {
        let ids: Vec<u32> = (0..80).map(|i| i * 7 % 50).collect();
        for model_type in ["internlm2", "internlm"] {
            let model = small_model(model_type);
            for mode in [Mode::Infer, Mode::Train] {
                let logits = |batch: &Batch, cache: &mut dyn KvCache| {
                    let mut context = Context::new(cache).with_mode(mode);
                    let logits = model.forward(batch, &mut context).expect("a pass");
                    logits.to_vec2::<f32>().expect("f32")
                };
                // What two begin with, one of its ends, a branch that parts again, both of its ends, and one apart.
                let tree: [(Option<usize>, usize, usize); 6] = [
                    (None, 0, 20),
                    (Some(0), 20, 25),
                    (Some(0), 20, 70),
                    (Some(2), 70, 71),
                    (Some(2), 70, 80),
                    (None, 0, 9),
                ];
                let mut batch = Batch::new();
                for (slot, &(_, start, end)) in tree.iter().enumerate() {
                    batch
                        .push(slot, &ids[start..end], start, end, Logits::Last)
                        .expect("a batch");
                }
                let parents = tree.iter().map(|&(parent, ..)| parent).collect();
                let got = logits(&batch, &mut Branches::new(parents));
                for (&(_, _, end), got) in tree.iter().zip(got) {
                    let mut batch = Batch::new();
                    batch
                        .push(0, &ids[..end], 0, end, Logits::Last)
                        .expect("a batch");
                    let want = logits(&batch, &mut NoCache).remove(0);
                    for (got, want) in got.iter().zip(&want) {
                        assert!((got - want).abs() < 1e-5, "{model_type} {mode:?} {end}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_gap_before_a_branch_is_refused() {
        let mut batch = Batch::new();
        for (slot, start) in [(0, 0), (1, 3)] {
            batch
                .push(slot, &[1, 2, 3], start, 6, Logits::Last)
                .expect("a batch");
        }
        let begin = |parents: &[Option<usize>]| Branches::new(parents.to_vec()).begin(&batch);
        assert!(begin(&[None, Some(0)]).is_ok());
        for parents in [&[None, None][..], &[], &[None, Some(1)], &[None, Some(7)]] {
            assert!(
                matches!(begin(parents), Err(Error::Batch { .. })),
                "{parents:?}"
            );
        }
        let mut late = Batch::new();
        late.push(0, &[1], 0, 2, Logits::Last).expect("a batch");
        late.push(1, &[1], 2, 3, Logits::Last).expect("a batch");
        assert!(Branches::new(vec![None, Some(0)]).begin(&late).is_err());
    }
}
