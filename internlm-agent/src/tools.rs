//! Tools that need nothing but themselves.

pub mod calculator;
pub mod text;

pub use calculator::calculator;
pub use text::text_stats;
