//! What a kernel refuses.

use std::io;

use crate::isa::Isa;

/// `Result` with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An argument that doesn't fit the others, or a processor or system that lacks something.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A slice has another length than the shape implies.
    #[error("{operation}: `{argument}` holds {got} elements, the shape implies {want}")]
    Shape {
        /// The function that was called.
        operation: &'static str,
        /// The name of the slice.
        argument: &'static str,
        /// Its length.
        got: usize,
        /// The length that the other arguments imply; `usize::MAX` where that overflows.
        want: usize,
    },
    /// Query heads can't be shared out evenly among the key-value heads.
    #[error(
        "attention: {num_attention_heads} heads are not a multiple of {num_key_value_heads} \
         key-value heads"
    )]
    Heads {
        /// Number of query heads.
        num_attention_heads: usize,
        /// Number of key-value heads.
        num_key_value_heads: usize,
    },
    /// A sequence of an attention call contradicts itself or its neighbours.
    #[error("attention: sequence {sequence}: {what} is {got}, at most {limit} is possible")]
    Sequence {
        /// Index of the sequence in the call.
        sequence: usize,
        /// What is too large.
        what: &'static str,
        /// Its value.
        got: usize,
        /// The largest value that fits.
        limit: usize,
    },
    /// A packed matrix can't have this form, or its filler speaks of another one.
    #[error("packed matrix: {what} is {got}, expected {want}")]
    Packed {
        /// What is wrong.
        what: &'static str,
        /// Its value, or the number of its elements.
        got: usize,
        /// What is possible.
        want: &'static str,
    },
    /// A value that a packed matrix can't hold.
    #[error("packed matrix: one of the {argument} of row {row} {problem}")]
    PackedValue {
        /// The name of the slice.
        argument: &'static str,
        /// The row of the matrix.
        row: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The processor lacks an instruction set that was asked for.
    #[error("this processor has no {isa} (available: {})", list(available))]
    IsaUnavailable {
        /// What was asked for.
        isa: Isa,
        /// What this processor can run.
        available: Vec<Isa>,
    },
    /// `INTERNLM_KERNELS` names no instruction set.
    #[error("INTERNLM_KERNELS is `{name}`, expected scalar, avx2, avx512, amx or neon")]
    UnknownIsa {
        /// What the variable holds.
        name: String,
    },
    /// A pool of no threads was asked for.
    #[error("a pool needs at least one thread")]
    NoThreads,
    /// The system refused to start a worker.
    #[error("could not start a worker thread")]
    Spawn {
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

fn list(isas: &[Isa]) -> String {
    let names: Vec<String> = isas.iter().map(Isa::to_string).collect();
    names.join(", ")
}

/// Checks the length of a slice against a product of dimensions.
pub(crate) fn check_len(
    operation: &'static str,
    argument: &'static str,
    got: usize,
    dims: &[usize],
) -> Result<()> {
    let want = dims
        .iter()
        .try_fold(1usize, |n, &d| n.checked_mul(d))
        .unwrap_or(usize::MAX);
    if got == want {
        Ok(())
    } else {
        Err(Error::Shape {
            operation,
            argument,
            got,
            want,
        })
    }
}
