//! A tool from a function over a type.

use internlm_core::ToolSpec;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Tool, ToolContext, ToolError, ToolOutput, check_arguments};

type Function = dyn Fn(&Value, &ToolContext) -> Result<ToolOutput, ToolError> + Send + Sync;

/// A tool made by [`tool`].
pub struct TypedTool {
    spec: ToolSpec,
    approval: bool,
    function: Box<Function>,
}

impl std::fmt::Debug for TypedTool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TypedTool")
            .field("spec", &self.spec)
            .finish_non_exhaustive()
    }
}

/// What a model is told of a tool whose arguments are a `T`: the doc comment of the type is the description.
pub fn spec_of<T: JsonSchema>(name: impl Into<String>) -> ToolSpec {
    let mut schema = schemars::schema_for!(T).to_value();
    let mut description = String::new();
    if let Some(object) = schema.as_object_mut() {
        object.remove("$schema");
        object.remove("title");
        if let Some(Value::String(text)) = object.remove("description") {
            description = text;
        }
        // Unknown names are refused by `check_arguments` in any case; an engine that is told so can't write one.
        object
            .entry("additionalProperties")
            .or_insert(Value::Bool(false));
    }
    ToolSpec::new(name, description, schema)
}

/// A tool of a name, from a function over a type that says what the arguments are.
pub fn tool<T, O, F>(name: impl Into<String>, function: F) -> TypedTool
where
    T: JsonSchema + DeserializeOwned,
    O: Into<ToolOutput>,
    F: Fn(T) -> Result<O, ToolError> + Send + Sync + 'static,
{
    TypedTool::with_context(name, move |arguments, _| function(arguments))
}

/// The same from an async function. A single call runs on the runtime of the caller if there is one; without one, and
/// where several calls are made at once, each has a runtime of its own.
#[cfg(feature = "async")]
pub fn tool_async<T, O, F, R>(name: impl Into<String>, function: F) -> TypedTool
where
    T: JsonSchema + DeserializeOwned,
    O: Into<ToolOutput>,
    F: Fn(T) -> R + Send + Sync + 'static,
    R: Future<Output = Result<O, ToolError>>,
{
    TypedTool::with_context(name, move |arguments, context: &ToolContext| {
        let limit = context.remaining();
        let work = async {
            match limit {
                None => function(arguments).await,
                Some(limit) => tokio::time::timeout(limit, function(arguments))
                    .await
                    .unwrap_or_else(|_| {
                        Err(ToolError::Limit {
                            what: "the time is up".to_owned(),
                        })
                    }),
            }
        };
        match tokio::runtime::Handle::try_current() {
            Ok(handle) => handle.block_on(work),
            Err(_) => {
                let mut builder = tokio::runtime::Builder::new_current_thread();
                let runtime = builder.enable_all().build()?;
                runtime.block_on(work)
            }
        }
    })
}

impl TypedTool {
    /// As [`tool`], from a function that also looks at the limits of the call.
    pub fn with_context<T, O, F>(name: impl Into<String>, function: F) -> Self
    where
        T: JsonSchema + DeserializeOwned,
        O: Into<ToolOutput>,
        F: Fn(T, &ToolContext) -> Result<O, ToolError> + Send + Sync + 'static,
    {
        let spec = spec_of::<T>(name);
        let (tool, schema) = (spec.name.clone(), spec.parameters.clone());
        let function = move |arguments: &Value, context: &ToolContext| {
            let arguments = read::<T>(&tool, &schema, arguments)?;
            function(arguments, context).map(Into::into)
        };
        Self {
            spec,
            approval: false,
            function: Box::new(function),
        }
    }

    /// Sets another description than the type's.
    #[must_use]
    pub fn with_description(mut self, description: impl Into<String>) -> Self {
        self.spec.description = description.into();
        self
    }

    /// Asks a person before each call.
    #[must_use]
    pub fn with_approval(mut self) -> Self {
        self.approval = true;
        self
    }
}

/// The arguments of a call of a tool with this name and schema, or what does not fit.
pub(crate) fn read<T: DeserializeOwned>(
    tool: &str,
    schema: &Value,
    arguments: &Value,
) -> Result<T, ToolError> {
    let wrong = |what: String| ToolError::Arguments {
        tool: tool.to_owned(),
        what,
    };
    if let Some(what) = check_arguments(schema, arguments) {
        return Err(wrong(what));
    }
    serde_path_to_error::deserialize(arguments).map_err(|error| {
        let path = error.path().to_string();
        match path.as_str() {
            "." => wrong(error.inner().to_string()),
            path => wrong(format!("`{path}`: {}", error.inner())),
        }
    })
}

impl Tool for TypedTool {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    fn call(&self, arguments: &Value, context: &ToolContext) -> Result<ToolOutput, ToolError> {
        (self.function)(arguments, context)
    }

    fn needs_approval(&self) -> bool {
        self.approval
    }
}
