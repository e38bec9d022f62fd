//! A tokenizer for ids that are only counted.

use internlm_examples::{Error, Result};
use internlm_tokenize::Tokenizer;

/// One token: random shapes have no tokenizer, folders that were made to be measured neither.
const TOKENIZER: &str = r#"{
    "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
    "normalizer": null, "post_processor": null, "pre_tokenizer": null, "decoder": null,
    "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
        "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
        "vocab": {"a": 0}, "merges": []}
}"#;

pub(crate) fn of_one_token() -> Result<Tokenizer> {
    let written = || {
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("tokenizer.json"), TOKENIZER)?;
        Ok(folder)
    };
    let folder = written()
        .map_err(|e: std::io::Error| Error::Input(format!("a file for the time being: {e}")))?;
    Ok(Tokenizer::load(folder.path())?)
}
