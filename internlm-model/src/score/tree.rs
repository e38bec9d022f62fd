//! What sequences that begin alike have in common, as sequences of one pass.

use super::{Input, in_common};

/// Tokens in common that are worth a sequence of their own.
pub(super) const WORTH: usize = 16;
/// Tokens of one pass.
pub(super) const TOKENS_PER_PASS: usize = 512;
/// What a pass takes besides its rows, in rows: all weights are read.
pub(super) const PASS_ROWS: usize = 16;
/// Keys of all sequences of a tree, in tokens: what is in common is copied for each.
const KEYS_PER_TREE: usize = 8 * TOKENS_PER_PASS;

/// A sequence of a pass.
pub(super) struct Branch<'a> {
    /// The place of the branch that it continues.
    pub(super) parent: Option<usize>,
    /// All tokens up to its last one.
    pub(super) ids: &'a [u32],
    /// Where it begins: so many tokens are those of `parent`.
    pub(super) start: usize,
    /// What it is the end of.
    pub(super) input: Option<&'a Input<'a>>,
}

/// Branches that share what they begin with, each after the one that it continues.
pub(super) struct Tree<'a> {
    pub(super) branches: Vec<Branch<'a>>,
}

impl<'a> Tree<'a> {
    /// Trees of these inputs, sorted, about as large as a pass at most unless one input is longer.
    pub(super) fn of(inputs: &'a [Input<'a>]) -> Vec<Tree<'a>> {
        let mut trees = Vec::new();
        let mut rest = inputs;
        while let Some(first) = rest.first() {
            let (mut tokens, mut keys) = (first.ids.len(), first.ids.len());
            let mut count = 1;
            while let Some(next) = rest.get(count) {
                let known = in_common(rest[count - 1].ids, next.ids).min(next.first_row());
                tokens += (next.ids.len() - known + WORTH).min(next.ids.len());
                keys += next.ids.len();
                if tokens > TOKENS_PER_PASS || keys > KEYS_PER_TREE {
                    break;
                }
                count += 1;
            }
            let (now, later) = rest.split_at(count);
            let mut branches = Vec::new();
            grow(&now.iter().collect::<Vec<_>>(), 0, None, &mut branches);
            trees.push(Tree { branches });
            rest = later;
        }
        trees
    }

    /// Rows that it takes in a pass.
    pub(super) fn rows(&self) -> usize {
        let rows = self
            .branches
            .iter()
            .map(|branch| branch.ids.len() - branch.start);
        rows.sum()
    }
}

/// Adds branches of sorted inputs that have the first `start` tokens in common, those of `parent`.
fn grow<'a>(
    inputs: &[&'a Input<'a>],
    start: usize,
    parent: Option<usize>,
    branches: &mut Vec<Branch<'a>>,
) {
    let end_of = |input: &'a Input<'a>, start, parent| Branch {
        parent,
        ids: input.ids,
        start,
        input: Some(input),
    };
    let alike = |a: &&Input<'_>, b: &&Input<'_>| in_common(a.ids, b.ids) >= start + WORTH;
    for inputs in inputs.chunk_by(alike) {
        // Rows of logits are of the input alone.
        let (inputs, whole): (Vec<&Input<'_>>, Vec<&Input<'_>>) = inputs
            .iter()
            .partition(|input| inputs.len() > 1 && input.first_row() >= start + WORTH);
        branches.extend(whole.into_iter().map(|input| end_of(input, start, parent)));
        let common = inputs
            .windows(2)
            .map(|pair| in_common(pair[0].ids, pair[1].ids));
        match common
            .chain(inputs.iter().map(|input| input.first_row()))
            .min()
        {
            Some(common) if inputs.len() > 1 => {
                branches.push(Branch {
                    parent,
                    ids: &inputs[0].ids[..common],
                    start,
                    input: None,
                });
                grow(&inputs, common, Some(branches.len() - 1), branches);
            }
            _ => branches.extend(inputs.into_iter().map(|input| end_of(input, start, parent))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(ids: &[u32], rows: usize) -> Input<'_> {
        Input {
            ids,
            rows,
            members: vec![0],
        }
    }

    /// Sequences of 60 tokens that part at these places, each from the one before.
    fn sequences(parts: &[usize]) -> Vec<Vec<u32>> {
        let mut ids: Vec<u32> = vec![0; 60];
        let mut all = vec![ids.clone()];
        for &part in parts {
            ids[part] += 1;
            ids[part + 1..].fill(0);
            all.push(ids.clone());
        }
        all
    }

    /// Parent, start and end of a branch, and whether it ends an input.
    type Shape = (Option<usize>, usize, usize, bool);

    fn shape(inputs: &[Input<'_>]) -> Vec<Vec<Shape>> {
        let branch = |b: &Branch<'_>| (b.parent, b.start, b.ids.len(), b.input.is_some());
        let trees = Tree::of(inputs);
        trees
            .iter()
            .map(|tree| tree.branches.iter().map(branch).collect())
            .collect()
    }

    #[test]
    fn endings_continue_what_they_have_in_common() {
        let sequences = sequences(&[40, 43, 20, 50]);
        let inputs: Vec<_> = sequences.iter().map(|ids| input(ids, 5)).collect();
        let trunk = (None, 0, 20, false);
        let left = (Some(0), 20, 40, false);
        let right = (Some(0), 20, 50, false);
        let (end, other) = ((Some(1), 40, 60, true), (Some(5), 50, 60, true));
        let want = [trunk, left, end, end, end, right, other, other];
        assert_eq!(shape(&inputs), [want.to_vec()]);
    }

    #[test]
    fn rows_of_logits_are_never_in_common() {
        let sequences = sequences(&[40, 50]);
        let mut inputs: Vec<_> = sequences.iter().map(|ids| input(ids, 30)).collect();
        let end = (Some(0), 30, 60, true);
        assert_eq!(shape(&inputs), [[(None, 0, 30, false), end, end, end]]);
        inputs[1].rows = 59;
        let (whole, end) = ((None, 0, 60, true), (Some(1), 30, 60, true));
        assert_eq!(shape(&inputs), [[whole, (None, 0, 30, false), end, end]]);
    }

    #[test]
    fn trees_fit_a_pass() {
        let parts: Vec<usize> = (0..200).map(|i| 20 + i * 7 % 39).collect();
        let sequences = sequences(&parts);
        let inputs: Vec<_> = sequences
            .iter()
            .map(|ids| input(ids, 1 + ids[59] as usize))
            .collect();
        let trees = Tree::of(&inputs);
        let ends = trees.iter().flat_map(|tree| &tree.branches);
        assert_eq!(ends.filter(|branch| branch.input.is_some()).count(), 201);
        for tree in &trees {
            assert!(tree.rows() <= TOKENS_PER_PASS, "{}", tree.rows());
            for (at, branch) in tree.branches.iter().enumerate() {
                let known = branch.parent.map_or(0, |parent| {
                    assert!(parent < at);
                    let parent = tree.branches[parent].ids;
                    assert_eq!(branch.ids[..parent.len()], *parent);
                    parent.len()
                });
                assert!(known == branch.start && known < branch.ids.len());
                assert!(branch.input.is_none_or(|input| input.first_row() >= known));
            }
        }
    }

    #[test]
    fn one_that_is_longer_than_a_pass_is_a_tree() {
        let ids = vec![1; 3 * TOKENS_PER_PASS];
        assert_eq!(shape(&[input(&ids, 1)]), [[(None, 0, ids.len(), true)]]);
    }
}
