//! From files to the parts of a [`Tokenizer`](crate::Tokenizer).

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use internlm_core::gguf::Gguf;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::gguf::{self, GgufTokenizer};
use crate::hf::{self, HuggingFace};
use crate::matcher::is_marker;
use crate::overlay::{Added, Overlay};
use crate::sentencepiece::{Kind, PieceModel};
use crate::spm::Spm;
use crate::tokenizer::{Backend, Inner, Parts, Roles};
use crate::vocabulary::{FirstSpace, OutputTable, Vocabulary};

/// Most bytes of one file. The largest `tokenizer.json` in wide use has about 35 MB.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// Files of a folder besides the vocabulary, in the order in which they are hashed.
const CONFIG: &str = "tokenizer_config.json";
const MAP: &str = "special_tokens_map.json";
const ADDED: &str = "added_tokens.json";
const TEMPLATE: &str = "chat_template.jinja";

/// Loads whatever tokenizer is at a path.
pub(crate) fn load(path: &Path) -> Result<Inner> {
    if path.is_dir() {
        return folder(path);
    }
    let mut magic = [0; 4];
    let mut file = File::open(path).map_err(|source| io(path, source))?;
    let read = file.read(&mut magic).map_err(|source| io(path, source))?;
    if magic == *b"GGUF" {
        return from_gguf(&Gguf::open(path)?);
    }
    let bytes = read_file(path)?;
    let mut files = Files::default();
    // No SentencePiece model begins with white space or a brace: neither is a tag of its fields.
    let json = magic[..read]
        .iter()
        .find(|byte| !byte.is_ascii_whitespace());
    files.add(path, &bytes);
    if json == Some(&b'{') {
        from_json(&bytes, path, Overlay::default(), files)
    } else {
        from_pieces(&bytes, path, Overlay::default(), files)
    }
}

/// Loads a folder in Hugging Face's layout.
fn folder(path: &Path) -> Result<Inner> {
    let mut overlay = Overlay::default();
    let mut overlays = Files::default();
    if let Some((bytes, file)) = optional(path, CONFIG)? {
        overlay.read_config(&bytes, &file)?;
        overlays.add(&file, &bytes);
    }
    if let Some((bytes, file)) = optional(path, MAP)? {
        overlay.read_map(&bytes, &file)?;
        overlays.add(&file, &bytes);
    }
    if let Some((bytes, file)) = optional(path, ADDED)? {
        overlay.read_added(&bytes, &file)?;
        overlays.add(&file, &bytes);
    }
    if let Some((bytes, file)) = optional(path, TEMPLATE)? {
        overlays.add(&file, &bytes);
        let template = String::from_utf8(bytes).map_err(|_| Error::Json {
            file,
            field: "(file)".into(),
            what: "it is not UTF-8".into(),
        })?;
        overlay.chat_template = Some(template);
    }
    // InternLM's own classes read the SentencePiece model, all others prefer the JSON.
    let own_class = overlay
        .tokenizer_class
        .as_ref()
        .is_some_and(|class| class.starts_with("InternLM"));
    let (json, pieces) = ("tokenizer.json", "tokenizer.model");
    for name in if own_class {
        [pieces, json]
    } else {
        [json, pieces]
    } {
        if let Some((bytes, file)) = optional(path, name)? {
            let mut files = Files::default();
            files.add(&file, &bytes);
            files.0.extend(overlays.0);
            return if name == json {
                from_json(&bytes, &file, overlay, files)
            } else {
                from_pieces(&bytes, &file, overlay, files)
            };
        }
    }
    // What a checkpoint has that was made from a GGUF file: its vocabulary without tensors.
    let vocabulary = path.join("tokenizer.gguf");
    if vocabulary.is_file() {
        return from_gguf(&Gguf::open(&vocabulary)?);
    }
    Err(Error::NoTokenizer {
        path: path.to_path_buf(),
        expected: "tokenizer.json or tokenizer.model",
    })
}

fn from_pieces(bytes: &[u8], file: &Path, overlay: Overlay, files: Files) -> Result<Inner> {
    let model = PieceModel::read(bytes, file)?;
    let find = |name: &str| {
        let control = |piece: &&str| *piece == name;
        model
            .pieces
            .iter()
            .filter(|piece| piece.kind == Kind::Control)
            .map(|piece| piece.text.as_str())
            .find(control)
            .map(str::to_owned)
    };
    let (bos, eos, pad) = (
        find(&model.bos_piece),
        find(&model.eos_piece),
        find(&model.pad_piece),
    );
    let mut vocabulary = vocabulary_of(&model);
    let mut added = overlay.added.clone();
    place(&mut vocabulary, &mut added, &overlay);
    let id = |named: &Option<Option<String>>, own: Option<String>| {
        let token = named.clone().unwrap_or(own)?;
        vocabulary.id(&token)
    };
    let unk = model.pieces.iter().position(|p| p.kind == Kind::Unknown);
    let roles = Roles {
        bos: id(&overlay.bos, bos),
        eos: id(&overlay.eos, eos),
        pad: id(&overlay.pad, pad),
        unk: match &overlay.unk {
            Some(_) => id(&overlay.unk, None),
            None => unk.map(|id| id as u32),
        },
        // The default of InternLM's classes, and of Llama's.
        add_bos: overlay.add_bos.unwrap_or(true),
    };
    // InternLM3's class writes no space before a text and yet drops one in decoding, unless told
    // otherwise (`internlm-models.md`, section 6).
    let internlm3 = overlay
        .tokenizer_class
        .as_ref()
        .is_some_and(|class| class.starts_with("InternLM3"));
    let drops = model.add_dummy_prefix || overlay.add_prefix_space.unwrap_or(internlm3);
    pieces_inner(
        &model,
        file,
        vocabulary,
        added,
        roles,
        drops,
        overlay.chat_template,
        files.hash(),
    )
}

#[allow(clippy::too_many_arguments)] // the parts of one value
fn pieces_inner(
    model: &PieceModel,
    file: &Path,
    mut vocabulary: Vocabulary,
    mut added: Vec<Added>,
    roles: Roles,
    drops_space: bool,
    chat_template: Option<String>,
    hash: String,
) -> Result<Inner> {
    let spm = Spm::new(model, file)?;
    let mut markers = Vec::new();
    for (piece, id) in model.pieces.iter().zip(0u32..) {
        match piece.kind {
            Kind::Control | Kind::Unknown => vocabulary.set_special(id),
            Kind::UserDefined if is_marker(&piece.text) => markers.push((piece.text.clone(), id)),
            _ => {}
        }
    }
    for token in &added {
        if token.special {
            vocabulary.set_special(token.id);
        }
    }
    for (id, token) in vocabulary.iter() {
        if vocabulary.is_special(id) && added.iter().all(|added| added.content != token) {
            added.push(Added {
                content: token.to_owned(),
                id,
                special: true,
            });
        }
    }
    let first = if drops_space {
        FirstSpace::DropOne
    } else {
        FirstSpace::Keep
    };
    let outputs = Some(OutputTable::of_pieces(model, &vocabulary, first));
    Ok(Inner::new(Parts {
        backend: Backend::Spm(Box::new(spm)),
        vocabulary,
        outputs,
        added,
        markers,
        roles,
        chat_template,
        hash,
    }))
}

fn from_json(bytes: &[u8], file: &Path, overlay: Overlay, files: Files) -> Result<Inner> {
    let (tokenizer, json) = HuggingFace::read(bytes, file)?;
    json_inner(tokenizer, &json, file, overlay, None, files.hash())
}

fn json_inner(
    tokenizer: HuggingFace,
    json: &serde_json::Value,
    file: &Path,
    overlay: Overlay,
    roles: Option<Roles>,
    hash: String,
) -> Result<Inner> {
    let (mut vocabulary, mut added) = tokenizer.vocabulary(file)?;
    place(&mut vocabulary, &mut added, &overlay);
    for token in added.iter().filter(|token| token.special) {
        vocabulary.set_special(token.id);
    }
    let roles = roles.unwrap_or_else(|| {
        let id = |named: &Option<Option<String>>| vocabulary.id(named.as_ref()?.as_deref()?);
        // A file without a config beside it shows its BOS in what it puts before a text.
        let prefix = tokenizer.prefix();
        let own = prefix.first().copied().filter(|_| overlay.bos.is_none());
        let bos = id(&overlay.bos).or(own);
        Roles {
            bos,
            eos: id(&overlay.eos),
            pad: id(&overlay.pad),
            unk: id(&overlay.unk).or_else(|| vocabulary.id(json["model"]["unk_token"].as_str()?)),
            add_bos: overlay
                .add_bos
                .unwrap_or(bos.is_some() && prefix.first() == bos.as_ref()),
        }
    });
    let outputs = hf::outputs(json, &vocabulary);
    Ok(Inner::new(Parts {
        backend: Backend::HuggingFace(tokenizer),
        vocabulary,
        outputs,
        added,
        markers: Vec::new(),
        roles,
        chat_template: overlay.chat_template,
        hash,
    }))
}

fn from_gguf(gguf: &Gguf) -> Result<Inner> {
    let parts = gguf::read(gguf)?;
    let roles = Roles {
        bos: parts.bos,
        eos: parts.eos,
        pad: parts.pad,
        unk: parts.unk,
        add_bos: parts.add_bos && parts.bos.is_some(),
    };
    match parts.tokenizer {
        GgufTokenizer::Pieces(model) => {
            let mut vocabulary = vocabulary_of(&model);
            for id in [roles.bos, roles.eos, roles.pad].into_iter().flatten() {
                vocabulary.set_special(id);
            }
            let drops = model.add_dummy_prefix;
            pieces_inner(
                &model,
                &gguf.file,
                vocabulary,
                Vec::new(),
                roles,
                drops,
                parts.chat_template,
                parts.hash,
            )
        }
        GgufTokenizer::Json(json) => {
            let tokenizer = HuggingFace::new(json.clone(), &gguf.file)?;
            let overlay = Overlay {
                chat_template: parts.chat_template,
                ..Overlay::default()
            };
            json_inner(
                tokenizer,
                &json,
                &gguf.file,
                overlay,
                Some(roles),
                parts.hash,
            )
        }
    }
}

fn vocabulary_of(model: &PieceModel) -> Vocabulary {
    let mut vocabulary = Vocabulary::default();
    for (piece, id) in model.pieces.iter().zip(0..) {
        vocabulary.set(id, &piece.text);
    }
    vocabulary
}

/// Lays the overlay over a vocabulary: added tokens take their ids, and named tokens that exist
/// become special. A named token that no file gives an id is left out: the model has no row for it.
fn place(vocabulary: &mut Vocabulary, added: &mut Vec<Added>, overlay: &Overlay) {
    for token in &overlay.added {
        vocabulary.set(token.id, &token.content);
        match added.iter_mut().find(|known| known.id == token.id) {
            Some(known) => *known = token.clone(),
            None => added.push(token.clone()),
        }
    }
    for token in overlay.named() {
        let Some(id) = vocabulary.id(token) else {
            tracing::warn!(token, "special token without an id; it is ignored");
            continue;
        };
        vocabulary.set_special(id);
        match added.iter_mut().find(|known| known.content == token) {
            Some(known) => known.special = true,
            None => added.push(Added {
                content: token.to_owned(),
                id,
                special: true,
            }),
        }
    }
}

fn io(file: &Path, source: std::io::Error) -> Error {
    Error::Io {
        file: file.to_path_buf(),
        source: Arc::new(source),
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>> {
    let file = File::open(path).map_err(|source| io(path, source))?;
    let bytes = file.metadata().map_err(|source| io(path, source))?.len();
    let mut content = Vec::new();
    // The length is not believed: it may be a device.
    file.take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut content)
        .map_err(|source| io(path, source))?;
    if content.len() as u64 > MAX_FILE_BYTES {
        return Err(Error::TooLarge {
            file: path.to_path_buf(),
            bytes,
            most: MAX_FILE_BYTES,
        });
    }
    Ok(content)
}

fn optional(folder: &Path, name: &str) -> Result<Option<(Vec<u8>, PathBuf)>> {
    let file = folder.join(name);
    match file.try_exists() {
        Ok(false) => Ok(None),
        Ok(true) => Ok(Some((read_file(&file)?, file))),
        Err(source) => Err(io(&file, source)),
    }
}

/// Files to be hashed: names and digests.
#[derive(Default)]
struct Files(Vec<(String, [u8; 32])>);

impl Files {
    fn add(&mut self, file: &Path, bytes: &[u8]) {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        self.0
            .push((name.into_owned(), Sha256::digest(bytes).into()));
    }

    /// SHA-256 over names and digests. A file that was loaded alone is hashed as it is.
    fn hash(&self) -> String {
        if let [(_, digest)] = self.0.as_slice() {
            return gguf::hex(digest);
        }
        let mut hash = Sha256::new();
        for (name, digest) in &self.0 {
            hash.update(name);
            hash.update([0]);
            hash.update(digest);
        }
        gguf::hex(&hash.finalize())
    }
}
