//! OpenCompass's rules against what OpenCompass itself made of the same rows.

mod common;
mod configs;
mod datasets;
mod evaluators;
mod infer;
mod ppl;
mod prompts;
mod rendered;
