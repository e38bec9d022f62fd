//! Lagent's executor: which function runs, and what comes back if none does.

use super::action::{ActionReturn, ResultItem, parse_outputs, state, valid};
use super::arguments::{ArgumentFault, ArgumentParser};
use super::description::ActionDescription;
use crate::error::{Error, Result};
use crate::python::PyValue;

/// What the function of an [`Action`] gives.
#[derive(Clone, Debug, PartialEq)]
pub enum ActionOutput {
    /// A value, which [`parse_outputs`] makes a result of.
    Value(PyValue),
    /// A result of several items.
    Items(Vec<ResultItem>),
}

type Function = dyn Fn(&str, &PyValue) -> Result<ActionOutput, String> + Send + Sync;

/// An action: its description and its function, which takes the API and a dictionary of arguments and fails
/// with the text of an exception.
pub struct Action {
    description: ActionDescription,
    parser: ArgumentParser,
    function: Box<Function>,
}

impl std::fmt::Debug for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Action")
            .field(&self.description.name())
            .finish()
    }
}

impl Action {
    /// An action that reads JSON.
    pub fn new(
        description: ActionDescription,
        function: impl Fn(&str, &PyValue) -> Result<ActionOutput, String> + Send + Sync + 'static,
    ) -> Self {
        Self {
            description,
            parser: ArgumentParser::Json,
            function: Box::new(function),
        }
    }

    /// Sets how arguments are read.
    #[must_use]
    pub fn with_parser(mut self, parser: ArgumentParser) -> Self {
        self.parser = parser;
        self
    }

    /// The description.
    pub fn description(&self) -> &ActionDescription {
        &self.description
    }

    /// Runs a function: Lagent's `BaseAction.__call__`.
    ///
    /// # Errors
    /// [`Error::Upstream`] where the arguments make Lagent itself fail. Everything else is in the return.
    pub fn call(&self, inputs: &PyValue, api: &str) -> Result<ActionReturn> {
        let name = self.description.name();
        let fallback = || {
            PyValue::Dict(vec![
                (PyValue::str("inputs"), inputs.clone()),
                (PyValue::str("name"), PyValue::str(api)),
            ])
        };
        if self.description.api(api).is_none() {
            let errmsg = PyValue::str(format!("invalid API: {api}"));
            return Ok(ActionReturn::failure(
                name,
                fallback(),
                state::API_ERROR,
                errmsg,
            ));
        }
        let args = match self.parser.parse(inputs, &self.description, api) {
            Ok(args) => args,
            Err(ArgumentFault::Raised(error)) => return Err(error),
            Err(ArgumentFault::Told(errmsg)) => {
                let errmsg = PyValue::Str(errmsg);
                return Ok(ActionReturn::failure(
                    name,
                    fallback(),
                    state::ARGS_ERROR,
                    errmsg,
                ));
            }
        };
        if !matches!(args, PyValue::Dict(_)) {
            let errmsg = PyValue::str("argument after ** must be a mapping");
            return Ok(ActionReturn::failure(name, args, state::API_ERROR, errmsg));
        }
        Ok(match (self.function)(api, &args) {
            Ok(ActionOutput::Value(value)) => {
                ActionReturn::success(name, args, parse_outputs(&value))
            }
            Ok(ActionOutput::Items(items)) => ActionReturn::success(name, args, items),
            Err(errmsg) => {
                ActionReturn::failure(name, args, state::API_ERROR, PyValue::Str(errmsg))
            }
        })
    }
}

/// A set of actions, and Lagent's three of its own: `InvalidAction`, `NoAction`, `FinishAction`.
#[derive(Debug, Default)]
pub struct Executor {
    actions: Vec<Action>,
}

impl Executor {
    /// An executor of these.
    pub fn new(actions: Vec<Action>) -> Self {
        Self { actions }
    }

    /// The descriptions, in order.
    pub fn descriptions(&self) -> Vec<ActionDescription> {
        self.actions.iter().map(|a| a.description.clone()).collect()
    }

    /// Runs what a call names, `Tool` or `Toolkit.api`.
    ///
    /// The answer to an unknown tool is, as in Lagent, its arguments; only where these are empty it is a text.
    ///
    /// # Errors
    /// [`Error::Upstream`] for a name with two dots, and from [`Action::call`].
    pub fn forward(&self, name: &str, parameters: &PyValue) -> Result<ActionReturn> {
        let (action, api) = split_name(name)?;
        if let Some(action) = self.actions.iter().find(|a| a.description.name() == action) {
            return action.call(parameters, api);
        }
        Ok(builtin(name, parameters))
    }
}

/// A name's tool and API; `run` is the API of a name without a dot.
pub(crate) fn split_name(name: &str) -> Result<(&str, &str)> {
    match name.split_once('.') {
        None => Ok((name, "run")),
        Some((_, api)) if api.contains('.') => Err(Error::upstream(
            "ValueError",
            "too many values to unpack (expected 2)",
        )),
        Some(split) => Ok(split),
    }
}

/// The return of Lagent's own actions.
pub(crate) fn builtin(name: &str, parameters: &PyValue) -> ActionReturn {
    let args = PyValue::Dict(vec![(PyValue::str("text"), parameters.clone())]);
    if name == "FinishAction" {
        let item = ResultItem {
            kind: "text".to_owned(),
            content: parameters.display(),
        };
        let mut action_return = ActionReturn::success(name, args, vec![item]);
        action_return.valid = valid::FINISH;
        return action_return;
    }
    let (kind, default) = match name {
        "NoAction" => ("NoAction", "Please follow the format"),
        _ => (
            "InvalidAction",
            "The action is invalid, please check the action name.",
        ),
    };
    let errmsg = match parameters.is_true() {
        true => parameters.clone(),
        false => PyValue::str(default),
    };
    let mut action_return = ActionReturn::failure(kind, args, state::API_ERROR, errmsg);
    action_return.valid = valid::INVALID;
    action_return
}
