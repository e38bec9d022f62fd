//! Text in, text out: a model with its tokenizer and chat template behind the traits of
//! `internlm-core`, one request at a time.

mod answer;
mod events;
mod scorer;

use internlm_core::chat_model::{Events, Input, ModelIdentity, ResponseFormat};
use internlm_core::scorer::ModelFacts;
use internlm_core::tool::ToolChoice;
use internlm_core::{
    ChatModel, ChatRequest, Error as CoreError, Message, Part, RewardModel, ToolSpec, tool_call,
};
use internlm_tokenize::{ChatTemplate, Tokenizer};

use crate::causal_lm::CausalLm;
use crate::config::Head;
use crate::error::{Error, Result};
use crate::load::{LoadConfig, ModelDir};
pub use answer::AnswerText;
use events::TextEvents;

/// A model that speaks text.
///
/// ```no_run
/// use internlm_core::{ChatModel, ChatRequest, Message};
/// use internlm_model::{LoadConfig, TextModel};
///
/// let model = TextModel::load("internlm2_5-1_8b-chat", LoadConfig::default())?;
/// let request = ChatRequest::messages(vec![Message::user("What does a KV cache hold?")]);
/// println!("{}", model.complete(&request)?.text);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct TextModel {
    model: CausalLm,
    tokenizer: Tokenizer,
    template: Option<ChatTemplate>,
    /// End tokens of the chat template.
    stop_token_ids: Vec<u32>,
    facts: ModelFacts,
}

impl TextModel {
    /// Loads model, tokenizer and chat template from a folder or a GGUF file.
    ///
    /// # Errors
    /// Whatever loading of one of the three meets; a missing chat template is not an error until
    /// a conversation is to be rendered.
    pub fn load(path: impl AsRef<std::path::Path>, config: LoadConfig) -> Result<Self> {
        let dir = ModelDir::open(path.as_ref())?;
        let tokenizer = Tokenizer::load(dir.path())?;
        let model = CausalLm::load(&dir, config)?;
        Self::new(model, tokenizer)
    }

    /// Puts a model and its tokenizer together.
    ///
    /// # Errors
    /// A tokenizer with more tokens than the model has rows of logits.
    pub fn new(model: CausalLm, tokenizer: Tokenizer) -> Result<Self> {
        let vocab_size = model.config().vocab_size;
        if tokenizer.vocab_size() > vocab_size {
            return Err(Error::TokenId {
                id: tokenizer.vocab_size() as u32 - 1,
                vocab_size,
            });
        }
        let template = ChatTemplate::for_tokenizer(&tokenizer).ok();
        let facts = scorer::facts(&model, &tokenizer);
        Ok(Self {
            model,
            tokenizer,
            template: None,
            stop_token_ids: Vec::new(),
            facts,
        }
        .with_template(template))
    }

    /// Replaces the chat template.
    #[must_use]
    pub fn with_template(mut self, template: Option<ChatTemplate>) -> Self {
        let stops = template.iter().flat_map(ChatTemplate::stop_tokens);
        self.stop_token_ids = stops
            .filter_map(|t| self.tokenizer.token_to_id(t))
            .collect();
        self.template = template;
        self
    }

    /// The model.
    pub fn model(&self) -> &CausalLm {
        &self.model
    }

    /// The model without the rest.
    pub fn into_model(self) -> CausalLm {
        self.model
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The chat template, if there is one.
    pub fn template(&self) -> Option<&ChatTemplate> {
        self.template.as_ref()
    }

    /// End tokens of the chat template.
    pub fn stop_token_ids(&self) -> &[u32] {
        &self.stop_token_ids
    }

    /// Renders a conversation. A template that never looks at tools gets them
    /// [in words](internlm_core::tool_call::in_words).
    ///
    /// # Errors
    /// No template, or one that refuses the messages.
    pub fn render(
        &self,
        messages: &[Message],
        tools: &[ToolSpec],
        add_generation_prompt: bool,
    ) -> Result<Vec<Part>> {
        match &self.template {
            Some(template) if !tools.is_empty() && !template.reads_tools() => {
                let messages = tool_call::in_words(messages, tools);
                Ok(template.render(&messages, &[], add_generation_prompt)?)
            }
            Some(template) => Ok(template.render(messages, tools, add_generation_prompt)?),
            // Says what was looked for.
            None => Ok(ChatTemplate::for_tokenizer(&self.tokenizer)?.render(
                messages,
                tools,
                add_generation_prompt,
            )?),
        }
    }

    /// Token ids of a request's input.
    ///
    /// # Errors
    /// As [`render`](TextModel::render), and whatever the tokenizer refuses.
    pub fn prompt_ids(&self, request: &ChatRequest) -> Result<Vec<u32>> {
        let add_bos = self.tokenizer.adds_bos();
        match &request.input {
            Input::Ids(ids) => Ok(ids.clone()),
            Input::Prompt(parts) => Ok(self.tokenizer.encode_parts(parts, add_bos)?),
            Input::Messages(messages) => {
                let tools: &[ToolSpec] = match request.tool_choice {
                    ToolChoice::None => &[],
                    _ => &request.tools,
                };
                let parts = self.render(messages, tools, true)?;
                Ok(self.tokenizer.encode_parts(&parts, add_bos)?)
            }
        }
    }

    /// Scores a conversation with a reward model: rendered without a generation prompt, the
    /// reward token appended, the head's value at that token
    /// (`InternLM2ForRewardModel.get_score`).
    ///
    /// # Errors
    /// A model without a reward head, and as [`render`](TextModel::render).
    pub fn reward(&self, messages: &[Message]) -> Result<f32> {
        self.model.reward(&self.reward_ids(messages)?)
    }

    /// Token ids of a conversation that a reward model scores at the last of them.
    ///
    /// # Errors
    /// As [`reward`](TextModel::reward).
    pub fn reward_ids(&self, messages: &[Message]) -> Result<Vec<u32>> {
        let Head::Reward { reward_token_id } = self.model.config().head else {
            return Err(Error::Head {
                got: "language model",
                want: "reward",
            });
        };
        let parts = self.render(messages, &[], false)?;
        let mut ids = self
            .tokenizer
            .encode_parts(&parts, self.tokenizer.adds_bos())?;
        ids.push(reward_token_id);
        Ok(ids)
    }

    fn start(&self, request: &ChatRequest) -> Result<TextEvents<'_>> {
        let refuse = |field, what: &str| {
            Err(Error::Request(CoreError::Request {
                field,
                what: what.to_owned(),
            }))
        };
        if request.response_format != ResponseFormat::Text {
            return refuse(
                "response_format",
                "this model can't constrain its answer; use text",
            );
        }
        if matches!(
            request.tool_choice,
            ToolChoice::Required | ToolChoice::Tool(_)
        ) {
            return refuse(
                "tool_choice",
                "this model can't be forced to call a tool; use auto or none",
            );
        }
        let ids = self.prompt_ids(request)?;
        let mut generation = self.model.generate(&ids, &request.sampling)?;
        if !request.sampling.ignore_eos {
            generation.stop_at(&self.stop_token_ids);
        }
        TextEvents::new(self, generation, request)
    }
}

impl ChatModel for TextModel {
    fn identity(&self) -> ModelIdentity {
        ModelIdentity::new(self.model.name(), "internlm")
    }

    fn generate(&self, request: &ChatRequest) -> internlm_core::Result<Events<'_>> {
        match self.start(request) {
            Ok(events) => Ok(Box::new(events)),
            Err(error) => Err(to_core("starting an answer", error)),
        }
    }
}

impl RewardModel for TextModel {
    fn rewards(&self, conversations: &[Vec<Message>]) -> internlm_core::Result<Vec<f32>> {
        let scores = conversations.iter().map(|messages| self.reward(messages));
        scores
            .collect::<Result<_>>()
            .map_err(|error| to_core("scoring a conversation", error))
    }
}

/// An error as the traits of `internlm-core` report it.
fn to_core(what: &'static str, error: Error) -> CoreError {
    match error {
        Error::Request(error) => error,
        Error::PromptTooLong {
            prompt_tokens,
            context_length,
        } => CoreError::PromptTooLong {
            prompt_tokens,
            context_length,
        },
        error => CoreError::backend(what, error),
    }
}
