//! Parts of JSON files.

use std::cell::{Cell, RefCell};
use std::io::{BufReader, Read};

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error};
use serde_json::Value;

use super::outline::{Find, Follow, Missing, Outline};
use super::place::{Step, parse, pointer};
use super::value::{Budget, Within};
use super::{QueryLimits, limit};
use crate::tool::{ToolContext, ToolError, ToolOutput, TypedTool};
use crate::tools::Root;
use crate::tools::root::too_large;

/// Gives a part of a JSON file, or with `*` in its place all such parts. What is too large to be given is described
/// instead.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct QueryJson {
    /// The file.
    pub path: String,
    /// Where the part is: `/users/0/name` or `users[0].name`; with `*` for every one, as in `/users/*/name`. The whole
    /// file if not given.
    #[serde(default)]
    pub at: Option<String>,
}

/// The tool `query_json`.
pub fn query_json(root: &Root, limits: QueryLimits) -> TypedTool {
    let root = root.clone();
    TypedTool::with_context(
        "query_json",
        move |arguments: QueryJson, context: &ToolContext| {
            query(&root, limits, &arguments, context)
        },
    )
}

fn query(
    root: &Root,
    limits: QueryLimits,
    arguments: &QueryJson,
    context: &ToolContext,
) -> Result<ToolOutput, ToolError> {
    let path = arguments.path.as_str();
    let steps = parse(arguments.at.as_deref().unwrap_or_default()).map_err(|what| {
        ToolError::Arguments {
            tool: "query_json".to_owned(),
            what: format!("`at`: {what}"),
        }
    })?;
    let is_many = steps.contains(&Step::Every);
    let collect = Collect {
        budget: Budget::new(limits.values),
        values: RefCell::default(),
    };
    let missing = Missing::default();
    let read = follow(root, path, limits, context, &steps, &collect, &missing);
    let values = collect.values.into_inner();
    if read.is_ok() {
        if values.is_empty() && !is_many {
            return Err(missing.told(&steps).into());
        }
        let value = match is_many {
            true => Value::Array(values),
            false => values.into_iter().next_back().unwrap_or_default(),
        };
        if value.to_string().len() <= limits.output_bytes {
            return Ok(ToolOutput::json(value));
        }
    } else if !collect.budget.is_used_up() {
        read?;
    }
    // Once more, for what is there.
    let describe = Describe::default();
    follow(root, path, limits, context, &steps, &describe, &missing)?;
    let place = match pointer(&steps) {
        place if place.is_empty() => "the file".to_owned(),
        place => format!("`{place}`"),
    };
    let (first, count) = (describe.first.into_inner(), describe.count.get());
    let what = match count {
        0 | 1 => format!("{place} is too large to be given: it is {first}"),
        count => {
            format!("{place} is too large to be given: it is {count} values, the first one {first}")
        }
    };
    Err(limit(format!("{what}; ask for a part of it")))
}

/// Passes a file by, and does something at a place.
pub(super) fn follow<F: for<'de> Find<'de>>(
    root: &Root,
    path: &str,
    limits: QueryLimits,
    context: &ToolContext,
    steps: &[Step],
    find: &F,
    missing: &Missing,
) -> Result<(), ToolError> {
    let mut source = Source::new(root.file(path)?, limits.file_bytes, context);
    let mut deserializer = serde_json::Deserializer::from_reader(BufReader::new(&mut source));
    let follow = Follow {
        steps,
        depth: 0,
        find,
        missing,
    };
    let read = follow
        .deserialize(&mut deserializer)
        .and_then(|()| deserializer.end());
    drop(deserializer);
    let is_too_large = source.is_too_large();
    match (source.stop, read) {
        (Some(stop), _) => Err(stop),
        (None, _) if is_too_large => Err(too_large(path, limits.file_bytes)),
        (None, Err(error)) => {
            Err(format!("`{path}` is not JSON, or is nested too deep: {error}").into())
        }
        (None, Ok(())) => Ok(()),
    }
}

/// A file that ends early if it is too large or if the call must stop.
struct Source<'a> {
    file: std::io::Take<std::fs::File>,
    context: &'a ToolContext,
    stop: Option<ToolError>,
}

impl<'a> Source<'a> {
    fn new(file: std::fs::File, max_bytes: u64, context: &'a ToolContext) -> Self {
        Self {
            file: file.take(max_bytes.saturating_add(1)),
            context,
            stop: None,
        }
    }

    fn is_too_large(&self) -> bool {
        self.file.limit() == 0
    }
}

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if let Err(stop) = self.context.check() {
            self.stop = Some(stop);
            return Err(std::io::ErrorKind::Other.into());
        }
        self.file.read(buffer)
    }
}

/// Keeps what it finds.
struct Collect {
    budget: Budget,
    values: RefCell<Vec<Value>>,
}

impl<'de> Find<'de> for Collect {
    fn found<D: Deserializer<'de>>(&self, deserializer: D) -> Result<(), D::Error> {
        let value = Within(&self.budget).deserialize(deserializer)?;
        self.values.borrow_mut().push(value);
        Ok(())
    }
}

/// Says what the first one is, and counts.
#[derive(Default)]
struct Describe {
    first: RefCell<String>,
    count: Cell<usize>,
}

impl<'de> Find<'de> for Describe {
    fn found<D: Deserializer<'de>>(&self, deserializer: D) -> Result<(), D::Error> {
        let what = Outline.deserialize(deserializer)?;
        let count = self.count.get();
        if count == 0 {
            *self.first.borrow_mut() = what;
        }
        self.count.set(
            count
                .checked_add(1)
                .ok_or_else(|| D::Error::custom("too many"))?,
        );
        Ok(())
    }
}
