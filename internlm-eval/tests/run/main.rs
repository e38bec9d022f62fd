//! Runs over scripted models and toy benchmarks.

#![allow(clippy::unwrap_used, reason = "these are tests, their helpers too")]

mod endpoints;
mod failures;
mod groups;
mod judges;
mod output;
mod pages;
mod predictions;
mod resume;
mod rewards;
mod shards;
mod toy;
mod weights;
