//! Reading a task file, and whether it makes sense before any data is read.

use std::path::Path;
use std::sync::Arc;

use super::filter::Filter;
use super::metric::MetricSpec;
use super::spec::{Choices, Mode, Rules, Sampler, Step, TaskSpec};
use crate::error::{Error, Result};
use crate::item::Row;
use crate::pattern::Pattern;
use crate::template::{Names, Templates};

impl TaskSpec {
    /// Reads a task file.
    ///
    /// # Errors
    /// A file that cannot be read, and whatever [`from_toml`](TaskSpec::from_toml) refuses.
    pub fn read(file: &Path) -> Result<Arc<Self>> {
        let text = std::fs::read_to_string(file).map_err(Error::io(file))?;
        Self::from_toml(&text, file)
    }

    /// Parses the text of a task file; `file` is for errors.
    ///
    /// # Errors
    /// Text that is not TOML, keys that are not known, templates that cannot be parsed, patterns that cannot be compiled,
    /// metrics that the mode has nothing for.
    pub fn from_toml(text: &str, file: &Path) -> Result<Arc<Self>> {
        let wrong = |key: String, what: String| Error::TaskFile {
            file: file.to_owned(),
            key,
            what,
        };
        let parsed = toml::Deserializer::parse(text)
            .map_err(|error| wrong(place(text, &error), error.message().to_owned()))?;
        let spec: TaskSpec = serde_path_to_error::deserialize(parsed).map_err(|error| {
            let path = error.path().to_string();
            let inner = error.into_inner();
            let key = if path == "." {
                place(text, &inner)
            } else {
                format!("{path}` in `{}", place(text, &inner))
            };
            wrong(key, inner.message().to_owned())
        })?;
        spec.check().map_err(|(key, what)| wrong(key, what))?;
        Ok(Arc::new(spec))
    }

    /// Key and reason of the first thing that is wrong.
    fn check(&self) -> Result<(), (String, String)> {
        let templates = Templates::new();
        let text = |key: &str, template: &str| {
            templates
                .check_text(template)
                .map_err(|what| (key.to_owned(), what))
        };
        let value = |key: &str, expression: &str| {
            templates
                .check_value(expression)
                .map_err(|what| (key.to_owned(), what))
        };
        text("name", &self.name)?;
        text("description", &self.description)?;
        text("prompt", &self.prompt)?;
        for (key, template) in [
            ("target", &self.target),
            ("answer_prefix", &self.answer_prefix),
        ] {
            if let Some(template) = template {
                text(key, template)?;
            }
        }
        for (key, expression) in [
            ("gold", &self.gold),
            ("contexts", &self.contexts),
            ("messages", &self.messages),
            ("turns", &self.turns),
        ] {
            if let Some(expression) = expression {
                value(key, expression)?;
            }
        }
        match &self.choices {
            Some(Choices::Expression(expression)) => value("choices", expression)?,
            Some(Choices::Texts(texts)) => {
                for (number, choice) in texts.iter().enumerate() {
                    text(&format!("choices[{number}]"), choice)?;
                }
            }
            None => {}
        }
        check_steps(&templates, "prepare", &self.prepare)?;
        for (number, layout) in self.data.layouts.iter().enumerate() {
            check_steps(
                &templates,
                &format!("data.layout[{number}].prepare"),
                &layout.prepare,
            )?;
        }
        if let Some(fewshot) = &self.fewshot {
            for (key, template) in [
                ("fewshot.prompt", &fewshot.prompt),
                ("fewshot.target", &fewshot.target),
                ("fewshot.query", &fewshot.query),
            ] {
                if let Some(template) = template {
                    text(key, template)?;
                }
            }
            if fewshot.sampler == Sampler::Fixed && fewshot.ids.len() < fewshot.shots {
                let what = format!("{} rows for {} shots", fewshot.ids.len(), fewshot.shots);
                return Err(("fewshot.ids".to_owned(), what));
            }
        }
        for (number, subset) in self.subsets.iter().enumerate() {
            if !subset.get("id").is_some_and(|id| id.is_string()) {
                return Err((
                    format!("subset[{number}]"),
                    "the text `id` is missing".to_owned(),
                ));
            }
        }
        Filter::all(&self.filters)
            .map_err(|(number, what)| (format!("filter[{number}].steps"), what))?;
        if let Some(rules) = &self.opencompass {
            let told = |error: Error| ("opencompass".to_owned(), error.to_string());
            rules.check().map_err(told)?;
        }
        match (self.rules, &self.opencompass) {
            (Rules::Opencompass, Some(_)) => return Ok(()),
            (Rules::Opencompass, None) => {
                return Err((
                    "opencompass".to_owned(),
                    "the rules `opencompass` need it".to_owned(),
                ));
            }
            (_, Some(_)) => {
                return Err((
                    "opencompass".to_owned(),
                    "only the rules `opencompass` know it".to_owned(),
                ));
            }
            _ => {}
        }
        self.check_mode()?;
        self.check_metrics(&templates)
    }

    fn check_mode(&self) -> Result<(), (String, String)> {
        let missing = |key: &str| {
            let mode = self.mode.as_str();
            Err((key.to_owned(), format!("the mode `{mode}` needs it")))
        };
        let answered = self.gold.is_some() || self.target.is_some();
        match self.mode {
            Mode::MultipleChoice if self.gold.is_none() => missing("gold"),
            Mode::MultipleChoice | Mode::Rank
                if self.choices.is_none() && self.contexts.is_none() =>
            {
                missing("choices")
            }
            Mode::MultipleChoice if self.contexts.is_some() && self.target.is_none() => {
                missing("target")
            }
            Mode::Reward if self.choices.is_none() => missing("choices"),
            Mode::Loglikelihood if !answered => missing("target"),
            Mode::MultiTurn if self.turns.is_none() => missing("turns"),
            Mode::Generate | Mode::Chat | Mode::Rolling | Mode::Loglikelihood | Mode::Reward
                if self.prompt.is_empty() && self.messages.is_none() =>
            {
                missing("prompt")
            }
            _ => Ok(()),
        }
    }

    fn check_metrics(&self, templates: &Templates) -> Result<(), (String, String)> {
        for (number, metric) in self.metrics.iter().enumerate() {
            let key = |member: &str| format!("metric[{number}].{member}");
            let Some(kind) = metric.kind() else {
                let what = format!("no metric is called `{}`; set `kind`", metric.name);
                return Err((key("name"), what));
            };
            if !kind.fits(self.mode) {
                let mode = self.mode.as_str();
                return Err((
                    key("kind"),
                    format!("the mode `{mode}` does not give what it needs"),
                ));
            }
            for (at, pattern) in metric.regexes_to_ignore.iter().enumerate() {
                Pattern::new(pattern).map_err(|error| {
                    (key(&format!("regexes_to_ignore[{at}]")), error.to_string())
                })?;
            }
            if let Some(filter) = &metric.filter
                && !self.filters.iter().any(|known| known.name == *filter)
            {
                return Err((key("filter"), format!("there is no filter `{filter}`")));
            }
            for (member, template) in [("program", &metric.program), ("counted", &metric.counted)] {
                if let Some(template) = template {
                    templates
                        .check_text(template)
                        .map_err(|what| (key(member), what))?;
                }
            }
            if kind == super::metric::MetricKind::PassAtK {
                if metric.program.is_none() {
                    return Err((key("program"), "pass@k needs it".to_owned()));
                }
                if metric.k.is_empty() || metric.k.iter().any(|k| *k == 0 || *k > self.samples) {
                    let what = format!("each k must be from 1 to the {} samples", self.samples);
                    return Err((key("k"), what));
                }
            }
        }
        Ok(())
    }

    /// The split that is evaluated: `test` unless the file says otherwise.
    pub fn split(&self) -> &str {
        self.data.split.as_deref().unwrap_or("test")
    }

    pub(super) fn metrics_or_default(&self) -> Vec<MetricSpec> {
        if self.metrics.is_empty() {
            MetricSpec::defaults(self.mode)
        } else {
            self.metrics.clone()
        }
    }

    /// The subset of this id; None for a task without subsets.
    pub(super) fn subset(&self, id: Option<&str>) -> Result<Option<Row>> {
        let wrong = |what: String| Error::TaskFile {
            file: self.name.clone().into(),
            key: "subset".to_owned(),
            what,
        };
        match (id, self.subsets.is_empty()) {
            (None, true) => Ok(None),
            (None, false) => Err(wrong("one of the task's subsets must be named".to_owned())),
            (Some(id), _) => self
                .subsets
                .iter()
                .find(|subset| subset.get("id").and_then(|id| id.as_str()) == Some(id))
                .cloned()
                .map(Some)
                .ok_or_else(|| wrong(format!("there is no subset `{id}`"))),
        }
    }

    /// Renders a text that sees nothing but the subset.
    pub(super) fn rendered(
        &self,
        template: &str,
        key: &str,
        subset: Option<&Row>,
        templates: &Templates,
    ) -> Result<String> {
        let mut names = Names::new();
        if let Some(subset) = subset {
            names.insert("subset".to_owned(), crate::template::of(subset));
        }
        templates
            .text(template, &names)
            .map_err(|what| Error::TaskFile {
                file: self.name.clone().into(),
                key: key.to_owned(),
                what,
            })
    }

    pub(super) fn name_of(&self, subset: Option<&Row>, templates: &Templates) -> Result<String> {
        self.rendered(&self.name, "name", subset, templates)
    }
}

fn check_steps(templates: &Templates, front: &str, steps: &[Step]) -> Result<(), (String, String)> {
    for (number, step) in steps.iter().enumerate() {
        let key = |member: &str| format!("{front}[{number}].{member}");
        if let Some(text) = &step.text {
            templates
                .check_text(text)
                .map_err(|what| (key("text"), what))?;
        }
        for (member, expression) in [
            ("value", &step.value),
            ("each", &step.each),
            ("skip_if", &step.skip_if),
            ("when", &step.when),
        ] {
            if let Some(expression) = expression {
                templates
                    .check_value(expression)
                    .map_err(|what| (key(member), what))?;
            }
        }
        if step.set.is_none() && step.skip_if.is_none() {
            return Err((
                key("set"),
                "a step sets a column or leaves rows out".to_owned(),
            ));
        }
        if step.text.is_some() && step.value.is_some() {
            return Err((key("value"), "there is `text` already".to_owned()));
        }
    }
    Ok(())
}

/// Where an error of the parser lies.
fn place(text: &str, error: &toml::de::Error) -> String {
    let Some(span) = error.span() else {
        return "the file".to_owned();
    };
    let line = text
        .get(..span.start)
        .map_or(1, |before| before.matches('\n').count() + 1);
    format!("line {line}")
}
