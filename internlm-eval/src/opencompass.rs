//! OpenCompass's rules: how it makes prompts of rows, chooses examples, asks and judges.
//!
//! The facts are those of OpenCompass a5acc4bb. A task's `[opencompass]` table ([`Spec`]) says what upstream's
//! `reader_cfg`, `infer_cfg` and `eval_cfg` say; [`Dialect`] is what its model configurations say about prompts.

mod chat;
mod dialect;
mod evaluator;
mod field;
mod gaokao;
mod infer;
mod judge;
mod meta_template;
mod numpy_random;
mod program;
mod prompt;
mod prompt_hash;
mod retriever;
mod score;
mod spec;
mod summary;
mod template;
mod treebank;

pub use chat::{ApiMessage, chat_messages, default_chat_template};
pub use dialect::{Dialect, Rendered};
pub use evaluator::{Evaluation, Evaluator, MathRule};
pub use field::{fill, python_repr, python_str};
pub use gaokao::QuestionType;
pub use infer::{InferOptions, MAX_OUT_LEN, Prompter};
pub use judge::Judge;
pub use meta_template::{MetaTemplate, Mode, role_part};
pub use prompt::{Entry, Piece, Prompt, Section, Turn};
pub use prompt_hash::{joined_hash, prompt_hash};
pub use retriever::Retriever;
pub use score::scores;
pub use spec::{Inferencer, Spec};
pub use summary::{Member, main_score, summarize};
pub use template::{LabelTemplate, PromptTemplate};
