//! How attention is split among threads.

use std::cell::RefCell;
use std::ops::Range;

use crate::attention::block::{FullBlocks, Rows, SPAN, Scratch, State};
use crate::attention::{AttentionSequence, AttentionShape};
use crate::compute::Compute;
use crate::output::Output;
use crate::simd::{Kernel, Simd, dispatch};

/// Query rows (tokens times heads of a group) that share the keys and values a task reads.
const ROWS: usize = 32;

/// Multiplications below which waking other threads costs more than it saves.
const SMALL: usize = 1 << 16;

thread_local! {
    /// Small vectors of tasks, kept so that a token allocates none of them.
    static SCRATCH: RefCell<(Scratch, [State; 2])> = RefCell::default();
}

/// Some tokens of a sequence and the query heads of one key-value head.
struct Part<'a> {
    sequence: &'a AttentionSequence<'a>,
    kv_head: usize,
    tokens: Range<usize>,
}

impl Part<'_> {
    /// Keys that its last token sees, in spans.
    fn spans(&self) -> usize {
        let AttentionSequence { len, q_len, .. } = *self.sequence;
        (len - q_len + self.tokens.end).div_ceil(SPAN)
    }

    fn rows<'a>(&'a self, q: &'a [f32], shape: &'a AttentionShape) -> Rows<'a> {
        let (sequence, kv_head, tokens) = (self.sequence, self.kv_head, self.tokens.clone());
        Rows {
            q,
            shape,
            sequence,
            kv_head,
            tokens,
        }
    }
}

/// The arguments of [`crate::attention()`], checked; not for [`crate::Isa::Scalar`]. Blocks that all rows of a
/// task see go the way of `full`, where it gives one for the rows.
pub(super) fn attention<F: FullBlocks>(
    compute: &Compute,
    q: &[f32],
    sequences: &[AttentionSequence<'_>],
    shape: &AttentionShape,
    out: Output<'_, f32>,
    full: impl Fn(&Rows<'_>) -> Option<F> + Sync,
) {
    if q.is_empty() {
        return;
    }
    let parts = parts(sequences, shape);
    let work = |part: &Part<'_>| part.tokens.len() * part.spans() * SPAN * shape.head_dim;
    let small = parts.iter().map(work).sum::<usize>() <= SMALL;
    let parts = if small {
        parts
    } else {
        dealt(parts, compute.threads())
    };
    let run = |tasks: usize, task: &(dyn Fn(usize) + Sync)| {
        if small {
            (0..tasks).for_each(task)
        } else {
            compute.run(tasks, task)
        }
    };
    let isa = compute.isa();
    let spans: usize = parts.iter().map(Part::spans).sum();
    if small || parts.len() >= 4 * compute.threads() || spans == parts.len() {
        run(parts.len(), &|task| {
            let rows = parts[task].rows(q, shape);
            let full = full(&rows);
            SCRATCH.with_borrow_mut(|(scratch, states)| {
                let _ = dispatch(
                    isa,
                    Whole {
                        rows,
                        full,
                        scratch,
                        states,
                        out,
                    },
                );
            });
        });
        return;
    }
    // Few tokens and many keys: a task for each span of keys, then their states are merged.
    let tasks: Vec<(usize, usize)> = parts
        .iter()
        .enumerate()
        .flat_map(|(part, p)| (0..p.spans()).map(move |span| (part, span)))
        .collect();
    let mut states: Vec<State> = Vec::new();
    states.resize_with(tasks.len(), State::default);
    let shared = Output::new(&mut states);
    run(tasks.len(), &|task| {
        let (part, span) = tasks[task];
        // SAFETY: each state is one task's alone.
        let state = &mut unsafe { shared.part(task, 1) }[0];
        let rows = parts[part].rows(q, shape);
        let full = full(&rows);
        SCRATCH.with_borrow_mut(|(scratch, _)| {
            let _ = dispatch(
                isa,
                Span {
                    rows,
                    span,
                    full,
                    scratch,
                    state,
                },
            );
        });
    });
    let mut states = states.into_iter();
    for part in &parts {
        let rows = part.rows(q, shape);
        let spans = states.by_ref().take(part.spans()).collect();
        let _ = dispatch(isa, Merge { rows, spans, out });
    }
}

/// Tokens of all sequences by key-value heads, those with the most keys first.
fn parts<'a>(sequences: &'a [AttentionSequence<'a>], shape: &AttentionShape) -> Vec<Part<'a>> {
    let group = shape.num_attention_heads / shape.num_key_value_heads;
    let tokens_at_once = (ROWS / group.max(1)).max(1);
    let mut parts = Vec::new();
    for sequence in sequences {
        for start in (0..sequence.q_len).step_by(tokens_at_once) {
            let tokens = start..sequence.q_len.min(start + tokens_at_once);
            parts.extend((0..shape.num_key_value_heads).map(|kv_head| Part {
                sequence,
                kv_head,
                tokens: tokens.clone(),
            }));
        }
    }
    parts.sort_by_key(|part| std::cmp::Reverse(part.spans() * part.tokens.len()));
    parts
}

/// In turn to each thread's share, which the pool takes as one run.
fn dealt<T>(parts: Vec<T>, threads: usize) -> Vec<T> {
    let mut shares: Vec<Vec<T>> = Vec::new();
    shares.resize_with(threads, Vec::new);
    for (index, part) in parts.into_iter().enumerate() {
        shares[index % threads].push(part);
    }
    shares.into_iter().flatten().collect()
}

/// All spans of a part, one after the other.
struct Whole<'a, F> {
    rows: Rows<'a>,
    full: Option<F>,
    scratch: &'a mut Scratch,
    states: &'a mut [State; 2],
    out: Output<'a, f32>,
}

impl<F: FullBlocks> Kernel for Whole<'_, F> {
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let [total, state] = self.states;
        self.rows.pack(s, self.scratch);
        self.rows.attend(s, 0, &mut self.full, self.scratch, total);
        for span in 1..self.rows.spans() {
            self.rows
                .attend(s, span, &mut self.full, self.scratch, state);
            self.rows.merge(s, span, total, state);
        }
        self.rows.finish(s, total, self.out);
    }
}

/// One span of a part.
struct Span<'a, F> {
    rows: Rows<'a>,
    span: usize,
    full: Option<F>,
    scratch: &'a mut Scratch,
    state: &'a mut State,
}

impl<F: FullBlocks> Kernel for Span<'_, F> {
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        self.rows.pack(s, self.scratch);
        self.rows
            .attend(s, self.span, &mut self.full, self.scratch, self.state);
    }
}

/// The states of all spans, in the order of [`Whole`].
struct Merge<'a> {
    rows: Rows<'a>,
    spans: Vec<State>,
    out: Output<'a, f32>,
}

impl Kernel for Merge<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let mut spans = self.spans.into_iter();
        let Some(mut total) = spans.next() else {
            return;
        };
        for (index, state) in spans.enumerate() {
            self.rows.merge(s, index + 1, &mut total, &state);
        }
        self.rows.finish(s, &total, self.out);
    }
}
