//! What the environment says, by the variables and defaults of Python's `huggingface_hub`.
//! See <https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables>.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use super::error::{Error, Result};

/// A token that does not show itself.
#[derive(Clone)]
pub(super) struct Token(String);

impl Token {
    pub(super) fn new(token: &str) -> Result<Option<Self>> {
        let token = token.trim();
        if !token.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Error::Setting {
                name: "HF_TOKEN",
                what: "a token is one word of visible ASCII characters".to_owned(),
            });
        }
        Ok((!token.is_empty()).then(|| Self(token.to_owned())))
    }

    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// The variables that matter, looked up by a function so that tests need no real environment.
pub(super) struct Environment<F: Fn(&str) -> Option<OsString>> {
    var: F,
    home: Option<PathBuf>,
}

impl Environment<fn(&str) -> Option<OsString>> {
    pub(super) fn of_process() -> Self {
        Self {
            var: |name| std::env::var_os(name),
            home: std::env::home_dir(),
        }
    }
}

impl<F: Fn(&str) -> Option<OsString>> Environment<F> {
    fn var(&self, name: &str) -> Option<OsString> {
        (self.var)(name).filter(|value| !value.is_empty())
    }

    fn text(&self, name: &str) -> Option<String> {
        self.var(name).and_then(|value| value.into_string().ok())
    }

    fn flag(&self, name: &str) -> bool {
        self.text(name).is_some_and(|value| {
            matches!(
                value.to_ascii_uppercase().as_str(),
                "1" | "ON" | "YES" | "TRUE"
            )
        })
    }

    /// A path variable, with `~/` replaced.
    fn path(&self, name: &str) -> Option<PathBuf> {
        let path = PathBuf::from(self.var(name)?);
        match (path.strip_prefix("~"), &self.home) {
            (Ok(rest), Some(home)) => Some(home.join(rest)),
            _ => Some(path),
        }
    }

    fn hf_home(&self) -> Result<PathBuf> {
        if let Some(path) = self.path("HF_HOME") {
            return Ok(path);
        }
        self.path("XDG_CACHE_HOME")
            .or_else(|| self.home.as_ref().map(|home| home.join(".cache")))
            .map(|cache| cache.join("huggingface"))
            .ok_or_else(|| Error::Setting {
                name: "HF_HOME",
                what: "not set, and there is no home folder".to_owned(),
            })
    }

    /// The folder that holds `models--org--name`.
    pub(super) fn cache_dir(&self) -> Result<PathBuf> {
        self.path("HF_HUB_CACHE")
            .or_else(|| self.path("HUGGINGFACE_HUB_CACHE"))
            .map_or_else(|| Ok(self.hf_home()?.join("hub")), Ok)
    }

    pub(super) fn endpoint(&self) -> String {
        self.text("HF_ENDPOINT")
            .unwrap_or_else(|| "https://huggingface.co".to_owned())
    }

    pub(super) fn offline(&self) -> bool {
        self.flag("HF_HUB_OFFLINE") || self.flag("TRANSFORMERS_OFFLINE")
    }

    /// PEM certificates to trust in place of Mozilla's, as behind a company's proxy.
    pub(super) fn certificates(&self) -> Option<PathBuf> {
        self.path("SSL_CERT_FILE")
    }

    pub(super) fn token(&self) -> Result<Option<Token>> {
        if self.flag("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
            return Ok(None);
        }
        let named = self.text("HF_TOKEN");
        if let Some(token) = named.or_else(|| self.text("HUGGING_FACE_HUB_TOKEN")) {
            return Token::new(&token);
        }
        let file = match self.path("HF_TOKEN_PATH") {
            Some(file) => file,
            None => self.hf_home()?.join("token"),
        };
        match std::fs::read_to_string(&file) {
            Ok(token) => Token::new(&token),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::Io { file, source }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(
        vars: &[(&'static str, &'static str)],
    ) -> Environment<impl Fn(&str) -> Option<OsString>> {
        let vars = vars.to_vec();
        Environment {
            var: move |name: &str| {
                let found = vars.iter().find(|(key, _)| *key == name);
                found.map(|(_, value)| OsString::from(value))
            },
            home: Some(PathBuf::from("/home/u")),
        }
    }

    #[track_caller]
    fn cache(vars: &[(&'static str, &'static str)], want: &str) {
        assert_eq!(environment(vars).cache_dir().unwrap(), PathBuf::from(want));
    }

    #[test]
    fn cache_folders() {
        cache(&[], "/home/u/.cache/huggingface/hub");
        cache(&[("XDG_CACHE_HOME", "/x")], "/x/huggingface/hub");
        cache(&[("HF_HOME", "/hf"), ("XDG_CACHE_HOME", "/x")], "/hf/hub");
        cache(&[("HF_HOME", "~/hf")], "/home/u/hf/hub");
        cache(
            &[("HUGGINGFACE_HUB_CACHE", "/old"), ("HF_HOME", "/hf")],
            "/old",
        );
        cache(
            &[("HF_HUB_CACHE", "/new"), ("HUGGINGFACE_HUB_CACHE", "/old")],
            "/new",
        );
        cache(&[("HF_HUB_CACHE", ""), ("HF_HOME", "/hf")], "/hf/hub");
    }

    #[test]
    fn no_home_is_an_error() {
        let nowhere = Environment {
            var: |_: &str| None,
            home: None,
        };
        assert!(matches!(
            nowhere.cache_dir(),
            Err(Error::Setting {
                name: "HF_HOME",
                ..
            })
        ));
    }

    #[test]
    fn offline_flags() {
        for value in ["1", "on", "Yes", "TRUE"] {
            assert!(environment(&[("HF_HUB_OFFLINE", value)]).offline());
            assert!(environment(&[("TRANSFORMERS_OFFLINE", value)]).offline());
        }
        for value in ["0", "", "no", "false", "2"] {
            assert!(!environment(&[("HF_HUB_OFFLINE", value)]).offline());
        }
        assert!(!environment(&[]).offline());
    }

    #[test]
    fn endpoints() {
        assert_eq!(environment(&[]).endpoint(), "https://huggingface.co");
        assert_eq!(
            environment(&[("HF_ENDPOINT", "https://m")]).endpoint(),
            "https://m"
        );
    }

    #[track_caller]
    fn token(vars: &[(&'static str, &'static str)], want: Option<&str>) {
        let got = environment(vars).token().unwrap();
        assert_eq!(got.as_ref().map(Token::reveal), want);
    }

    #[test]
    fn tokens() {
        token(&[("HF_TOKEN_PATH", "/nowhere/at/all")], None);
        token(&[("HF_TOKEN", " hf_a\n")], Some("hf_a"));
        token(
            &[("HF_TOKEN", "hf_a"), ("HUGGING_FACE_HUB_TOKEN", "hf_b")],
            Some("hf_a"),
        );
        token(&[("HUGGING_FACE_HUB_TOKEN", "hf_b")], Some("hf_b"));
        token(
            &[("HF_TOKEN", "hf_a"), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")],
            None,
        );
        let bad = environment(&[("HF_TOKEN", "a\r\nHost: evil")]);
        assert!(matches!(bad.token(), Err(Error::Setting { .. })));
    }

    #[test]
    fn a_token_file_is_read() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("token"), "hf_file\n").unwrap();
        let path = dir.path().to_owned();
        let environment = Environment {
            var: move |name: &str| (name == "HF_HOME").then(|| path.clone().into_os_string()),
            home: None,
        };
        let got = environment.token().unwrap();
        assert_eq!(got.as_ref().map(Token::reveal), Some("hf_file"));
        assert!(!format!("{got:?}").contains("hf_file"));
    }
}
