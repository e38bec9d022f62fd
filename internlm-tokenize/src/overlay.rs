//! What the JSON files beside a tokenizer say: `tokenizer_config.json`, `special_tokens_map.json`,
//! `added_tokens.json`.

use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// Largest id that is believed; far above any vocabulary.
pub(crate) const MAX_ID: u64 = 1 << 22;

/// A token that is matched as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Added {
    pub(crate) content: String,
    pub(crate) id: u32,
    /// Decoding may skip it.
    pub(crate) special: bool,
}

/// Everything that the files say.
#[derive(Clone, Debug, Default)]
pub(crate) struct Overlay {
    pub(crate) added: Vec<Added>,
    /// `None` if no file names one, `Some(None)` if a file says that there is none.
    pub(crate) bos: Option<Option<String>>,
    pub(crate) eos: Option<Option<String>>,
    pub(crate) pad: Option<Option<String>>,
    pub(crate) unk: Option<Option<String>>,
    pub(crate) additional: Vec<String>,
    pub(crate) add_bos: Option<bool>,
    pub(crate) add_prefix_space: Option<bool>,
    pub(crate) tokenizer_class: Option<String>,
    pub(crate) chat_template: Option<String>,
}

impl Overlay {
    /// Reads `tokenizer_config.json`.
    pub(crate) fn read_config(&mut self, bytes: &[u8], file: &Path) -> Result<()> {
        let config = Object::read(bytes, file)?;
        self.read_named(&config)?;
        for (id, token) in config.object("added_tokens_decoder")?.into_iter().flatten() {
            let field = || format!("added_tokens_decoder.{id}");
            let number = id
                .parse()
                .map_err(|_| config.wrong(&field(), "the key is not an id"))?;
            let content = token.get("content").and_then(Value::as_str);
            let content =
                content.ok_or_else(|| config.wrong(&field(), "it has no string `content`"))?;
            self.added.push(Added {
                content: content.into(),
                id: config.id(&field(), number)?,
                special: token.get("special") == Some(&Value::Bool(true)),
            });
        }
        self.add_bos = config.bool("add_bos_token")?;
        self.add_prefix_space = config.bool("add_prefix_space")?;
        self.tokenizer_class = config.string("tokenizer_class")?;
        self.chat_template = match config.map.get("chat_template") {
            None | Some(Value::Null) => None,
            Some(Value::String(template)) => Some(template.clone()),
            // A list of named templates: the default one, else the first.
            Some(Value::Array(list)) => {
                let named = |entry: &&Value| entry["name"] == "default";
                let entry = list.iter().find(named).or(list.first());
                entry
                    .and_then(|entry| entry["template"].as_str())
                    .map(Into::into)
            }
            Some(_) => {
                let what = "expected a string or a list of `{name, template}`";
                return Err(config.wrong("chat_template", what));
            }
        };
        Ok(())
    }

    /// Reads `special_tokens_map.json`; what `tokenizer_config.json` said stays.
    pub(crate) fn read_map(&mut self, bytes: &[u8], file: &Path) -> Result<()> {
        self.read_named(&Object::read(bytes, file)?)
    }

    fn read_named(&mut self, object: &Object<'_>) -> Result<()> {
        for (field, place) in [
            ("bos_token", &mut self.bos),
            ("eos_token", &mut self.eos),
            ("pad_token", &mut self.pad),
            ("unk_token", &mut self.unk),
        ] {
            let value = match object.map.get(field) {
                None => continue,
                Some(Value::Null) => None,
                Some(value) => Some(object.token(field, value)?),
            };
            if place.is_none() {
                *place = Some(value);
            }
        }
        match object.map.get("additional_special_tokens") {
            None | Some(Value::Null) => {}
            Some(Value::Array(tokens)) => {
                for token in tokens {
                    let token = object.token("additional_special_tokens", token)?;
                    if !self.additional.contains(&token) {
                        self.additional.push(token);
                    }
                }
            }
            Some(_) => return Err(object.wrong("additional_special_tokens", "expected a list")),
        }
        Ok(())
    }

    /// Reads `added_tokens.json`, a map from token to id; ids given already stay.
    pub(crate) fn read_added(&mut self, bytes: &[u8], file: &Path) -> Result<()> {
        let object = Object::read(bytes, file)?;
        for (content, id) in &object.map {
            let number = id
                .as_u64()
                .ok_or_else(|| object.wrong(content, "expected an id"))?;
            let id = object.id(content, number)?;
            if self.added.iter().all(|added| added.id != id) {
                self.added.push(Added {
                    content: content.clone(),
                    id,
                    special: self.additional.contains(content),
                });
            }
        }
        Ok(())
    }

    /// Every token that has a role: named ones and additional ones.
    pub(crate) fn named(&self) -> impl Iterator<Item = &str> {
        [&self.bos, &self.eos, &self.pad, &self.unk]
            .into_iter()
            .filter_map(|token| token.as_ref()?.as_deref())
            .chain(self.additional.iter().map(String::as_str))
    }
}

/// A JSON object with the name of its file.
struct Object<'a> {
    map: Map<String, Value>,
    file: &'a Path,
}

impl<'a> Object<'a> {
    fn read(bytes: &[u8], file: &'a Path) -> Result<Self> {
        let map = serde_json::from_slice(bytes).map_err(|source| Error::Json {
            file: file.to_path_buf(),
            field: "(file)".into(),
            what: source.to_string(),
        })?;
        Ok(Self { map, file })
    }

    fn wrong(&self, field: &str, what: &str) -> Error {
        Error::Json {
            file: self.file.to_path_buf(),
            field: field.into(),
            what: what.into(),
        }
    }

    fn id(&self, field: &str, id: u64) -> Result<u32> {
        if id >= MAX_ID {
            return Err(self.wrong(field, &format!("id {id}, expected less than {MAX_ID}")));
        }
        Ok(id as u32)
    }

    /// A token: a string, or an object with its `content`.
    fn token(&self, field: &str, value: &Value) -> Result<String> {
        value
            .as_str()
            .or_else(|| value.get("content")?.as_str())
            .map(Into::into)
            .ok_or_else(|| self.wrong(field, "expected a string or an object with `content`"))
    }

    fn object(&self, field: &str) -> Result<Option<&Map<String, Value>>> {
        match self.map.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(map)) => Ok(Some(map)),
            Some(_) => Err(self.wrong(field, "expected an object")),
        }
    }

    fn bool(&self, field: &str) -> Result<Option<bool>> {
        match self.map.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(_) => Err(self.wrong(field, "expected true or false")),
        }
    }

    fn string(&self, field: &str) -> Result<Option<String>> {
        match self.map.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(value)) => Ok(Some(value.clone())),
            Some(_) => Err(self.wrong(field, "expected a string")),
        }
    }
}
