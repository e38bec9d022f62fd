//! What must be true of real weights: SmolLM2-135M-Instruct, from its GGUF file and from a folder
//! that was converted from it.
#![cfg(feature = "text")]

mod common;

use common::{shared, smollm2};
use internlm_core::chat_model::{FinishReason, ResponseFormat};
use internlm_core::scorer::{ScoreRequest, Tokens};
use internlm_core::tool::ToolChoice;
use internlm_core::{
    ChatModel, ChatRequest, Error, Event, Message, SamplingParams, Scorer, ToolSpec,
};
use internlm_model::batch::Logits;
use internlm_model::candle::DType;
use internlm_model::load::Activation;
use internlm_model::save::SaveConfig;
use internlm_model::{Batch, CausalLm, Context, LoadConfig, TextModel};
use internlm_tokenize::EncodeOptions;

/// As a program loads it: packed.
fn load() -> Option<TextModel> {
    load_with(LoadConfig::default())
}

fn load_with(options: LoadConfig) -> Option<TextModel> {
    let file = smollm2()?;
    Some(TextModel::load(file, options).expect("SmolLM2 loads"))
}

/// The blocks dequantized.
fn dense() -> LoadConfig {
    LoadConfig::default().with_dtype(DType::F32)
}

fn question(text: &str) -> ChatRequest {
    let greedy = SamplingParams::greedy().with_max_new_tokens(24);
    ChatRequest::messages(vec![Message::user(text)]).with_sampling(greedy)
}

fn last_logits(model: &CausalLm, ids: &[u32]) -> Vec<f32> {
    let mut cache = model.new_cache().expect("a cache");
    let mut batch = Batch::new();
    batch
        .push(0, ids, 0, ids.len(), Logits::Last)
        .expect("a batch");
    let logits = model
        .forward(&batch, &mut Context::new(&mut cache))
        .expect("a pass");
    logits.to_vec2::<f32>().expect("logits are f32").concat()
}

#[test]
fn the_converted_folder_is_the_gguf_file() {
    let Some(text) = load_with(dense()) else {
        return;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let saved = folder.path().join("smollm2");
    let dir = text
        .model()
        .save(&saved, &SaveConfig::default())
        .expect("it saves");
    let converted = CausalLm::load(&dir, LoadConfig::default()).expect("the folder loads");
    let mut config = text.model().config().clone();
    config.torch_dtype = converted.config().torch_dtype.clone();
    assert_eq!(&config, converted.config());
    let ids = text
        .tokenizer()
        .encode("The capital of France is", EncodeOptions::default());
    let ids = ids.expect("it encodes");
    assert_eq!(
        last_logits(text.model(), &ids),
        last_logits(&converted, &ids)
    );
}

#[test]
fn a_chat_makes_sense() {
    let Some(model) = load() else { return };
    let answer = model
        .complete(&question("What is the capital of France?"))
        .expect("an answer");
    assert!(answer.text.contains("Paris"), "{}", answer.text);
    assert_eq!(answer.finish_reason, Some(FinishReason::Stop));
    assert_eq!(
        answer.usage.completion_tokens,
        answer.ids.len() + 1,
        "the end token counts"
    );
    assert!(!answer.text.contains("<|im_end|>"));
}

#[test]
fn events_join_to_the_decoded_answer() {
    let Some(model) = load() else { return };
    let request = question("Write one word in Chinese characters.");
    let (mut text, mut ids) = (String::new(), Vec::new());
    for event in model.generate(&request).expect("it starts") {
        if let Event::Delta {
            text: more,
            ids: new,
            ..
        } = event.expect("an event")
        {
            text.push_str(&more);
            ids.extend(new);
        }
    }
    assert_eq!(
        model.tokenizer().decode(&ids, true).expect("it decodes"),
        text
    );
}

#[test]
fn a_stop_text_ends_the_answer_before_it() {
    let Some(model) = load() else { return };
    let whole = model
        .complete(&question("What is the capital of France?"))
        .expect("an answer");
    let mut request = question("What is the capital of France?");
    request.sampling = request.sampling.with_stop("Paris");
    let cut = model.complete(&request).expect("an answer");
    let at = whole.text.find("Paris").expect("it says Paris");
    assert_eq!(cut.text, whole.text[..at]);
    assert_eq!(cut.finish_reason, Some(FinishReason::Stop));
}

#[test]
fn what_cannot_be_kept_is_refused() {
    let Some(model) = load() else { return };
    let mut request = question("Hi");
    request.response_format = ResponseFormat::JsonObject;
    let refused = model.generate(&request).err();
    assert!(matches!(
        refused,
        Some(Error::Request {
            field: "response_format",
            ..
        })
    ));
    let mut request = question("Hi");
    request.tool_choice = ToolChoice::Required;
    let refused = model.generate(&request).err();
    assert!(matches!(
        refused,
        Some(Error::Request {
            field: "tool_choice",
            ..
        })
    ));
    let long = "word ".repeat(9_000);
    let refused = model.generate(&question(&long)).err();
    assert!(matches!(
        refused,
        Some(Error::PromptTooLong {
            context_length: 8192,
            ..
        })
    ));
    let empty = ChatRequest::prompt("");
    assert!(model.generate(&empty).is_err());
    let outside = ChatRequest::new(internlm_core::chat_model::Input::Ids(vec![u32::MAX]));
    assert!(model.generate(&outside).is_err());
}

/// Shared contexts are computed once; the scores are those of each request alone.
/// Its template never looks at tools.
#[test]
fn tools_are_told_in_words() {
    let Some(model) = load() else {
        return;
    };
    let messages = [Message::user("What is 2+2?")];
    let tools = [ToolSpec::new(
        "calculator",
        "Calculates.",
        serde_json::json!({"type": "object"}),
    )];
    let prompt =
        |tools| internlm_core::message::join(&model.render(&messages, tools, true).unwrap());
    assert!(!model.template().unwrap().reads_tools());
    assert!(prompt(&tools).contains("\"name\": \"calculator\""));
    assert!(!prompt(&[]).contains("calculator"));
}

#[test]
fn a_conversation_is_scored_as_it_is_answered() {
    let Some(model) = load() else { return };
    let said = "What does <|im_end|> mean?";
    let messages = vec![Message::user(said)];
    let parts = model.render_chat(&messages, &[], true).expect("a prompt");
    let request = ScoreRequest {
        context: parts.into(),
        continuation: "The".into(),
    };
    let scored = model.scored_ids(&request).expect("ids");
    let mut want = model
        .prompt_ids(&ChatRequest::messages(messages))
        .expect("ids");
    // The line break before the answer is scored with it, by the rule of the border.
    want.extend(model.encode("The", false).expect("an id"));
    assert_eq!((scored.ids, scored.scored), (want, 2));
    // Each turn, the default system message among them, begins and ends with a token; what was typed is text.
    let end = model.tokenizer().token_to_id("<|im_end|>");
    let ends = |ids: &[u32]| ids.iter().filter(|&&id| Some(id) == end).count();
    assert_eq!(ends(&model.scored_ids(&request).expect("ids").ids), 2);
}

#[test]
fn scores_do_not_depend_on_company() {
    let Some(model) = load() else { return };
    let request = |continuation: &str| ScoreRequest {
        context: "The capital of France is".into(),
        continuation: continuation.into(),
    };
    let requests = [
        request(" Paris"),
        request(" London"),
        request(" a city on the Seine"),
    ];
    let together = model.score(&requests).expect("scores");
    for (request, together) in requests.iter().zip(&together) {
        let alone = model.score(std::slice::from_ref(request)).expect("scores");
        assert_eq!(&alone[0], together);
    }
    assert!(together[0][0].is_argmax);
    assert!(together[0][0].logprob > together[1][0].logprob);
}

#[test]
fn what_sequences_begin_with_in_common_changes_no_score() {
    let Some(model) = load_with(dense()) else {
        return;
    };
    let shared = "Question: What is the capital of Italy?\nAnswer: Rome\n\nQuestion: What is the capital of \
                  Spain?\nAnswer: Madrid\n\n";
    let request = |question: &str, continuation: &str| ScoreRequest {
        context: format!("{shared}{question}").as_str().into(),
        continuation: continuation.into(),
    };
    let france = "Question: What is the capital of France?\nAnswer:";
    let requests = [
        request(france, " Paris"),
        request(france, " a city on the Seine"),
        request("Question: And that of Japan?\nAnswer:", " Tokyo"),
        // The whole of another one's input, of which more is scored.
        request("", &format!("{france} Paris")),
        request(france, " Paris"),
        request(france, " London"),
    ];
    let together = model.score(&requests).expect("scores");
    for (request, together) in requests.iter().zip(&together) {
        let alone = model.score(std::slice::from_ref(request)).expect("scores");
        assert_eq!(&alone[0], together);
    }
    assert_eq!(together[0], together[4]);
    assert_eq!(together[3].last(), together[0].last());
}

/// Log-probabilities of the tokens of the first windows of 512 of the joined WikiText-2 test text.
fn windows(options: LoadConfig, count: usize) -> Option<Vec<f64>> {
    let model = load_with(options)?;
    let file = shared("datasets/wikitext2/wiki.test.joined.txt")?;
    let text = std::fs::read_to_string(file).expect("the text reads");
    let ids = model.encode(&text, false).expect("it encodes");
    assert_eq!(ids.len(), 304_978);
    let requests: Vec<_> = ids
        .chunks_exact(512)
        .take(count)
        .map(|window| ScoreRequest {
            context: Tokens::Ids(window[..1].to_vec()),
            continuation: Tokens::Ids(window[1..].to_vec()),
        })
        .collect();
    let scores = model.score(&requests).expect("scores").concat();
    assert_eq!(scores.len(), count * 511);
    Some(scores.iter().map(|s| f64::from(s.logprob)).collect())
}

/// The reference: transformers in f32, the first 20 windows.
#[test]
fn perplexity_on_wikitext_2() {
    let packed = LoadConfig::default().with_packed_activation(Activation::F32);
    let Some(logprobs) = windows(packed, 20) else {
        return;
    };
    let mean = logprobs.iter().sum::<f64>() / logprobs.len() as f64;
    let perplexity = (-mean).exp();
    assert!((perplexity / 35.880 - 1.0).abs() < 1e-3, "{perplexity}");
}

/// Token by token; their perplexity over 20 windows then is the same, too.
#[test]
fn packed_weights_are_the_same_weights() {
    let packed = LoadConfig::default().with_packed_activation(Activation::F32);
    let (Some(packed), Some(dense)) = (windows(packed, 2), windows(dense(), 2)) else {
        return;
    };
    for (i, (packed, dense)) in packed.iter().zip(&dense).enumerate() {
        assert!((packed - dense).abs() < 2e-3, "{i}: {packed}, not {dense}");
    }
}
