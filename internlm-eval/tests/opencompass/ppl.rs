//! The perplexities of OpenCompass's own run give its predictions.

use internlm_eval::task::builtin;
use internlm_eval::task::spec::Rules;
use internlm_eval::{Benchmark, Request, Response, TaskOptions};
use serde::Deserialize;

use crate::common::shared;

#[derive(Deserialize)]
struct Golden {
    abbr: String,
    config: String,
    item: usize,
    gold: String,
    labels: Vec<String>,
    prompts: Option<Vec<String>>,
    n_tokens: Vec<usize>,
    ppl: Vec<f64>,
    pred: String,
}

#[test]
fn perplexities_give_upstreams_predictions() {
    let (Some(goldens), Some(folder)) = (shared("goldens/eval/oc_ppl.jsonl"), shared("datasets"))
    else {
        return;
    };
    let text = std::fs::read_to_string(goldens).unwrap();
    let goldens = text.split('\n').filter(|line| !line.is_empty());
    let goldens: Vec<Golden> = goldens
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(goldens.len() >= 20);
    for golden in &goldens {
        let config = golden.config.rsplit('/').next().unwrap();
        let options = TaskOptions {
            rows: Some(vec![golden.item]),
            ..TaskOptions::default()
        };
        let loaded = builtin::load(config, Some(Rules::Opencompass), &folder, &options).unwrap();
        let task = loaded
            .tasks
            .iter()
            .find(|task| task.name() == golden.abbr)
            .unwrap();
        let items = task.items(None).unwrap();
        let [item] = &items[..] else {
            panic!("{items:?}")
        };
        let texts: Vec<_> = item
            .requests
            .iter()
            .map(|request| match request {
                Request::Perplexity {
                    text,
                    mask_length: None,
                } => text.spelled(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(texts.len(), golden.labels.len());
        if let Some(prompts) = &golden.prompts {
            assert_eq!(&texts, prompts, "{} {}", golden.config, golden.item);
        }
        let scores = golden.ppl.iter().zip(&golden.n_tokens);
        let responses: Vec<_> = scores
            .map(|(value, tokens)| Response::Perplexity {
                value: *value,
                tokens: *tokens,
            })
            .collect();
        let sample = task.judge(item, &responses, None).unwrap();
        assert_eq!(
            sample.prediction, golden.pred,
            "{} {}",
            golden.config, golden.item
        );
        assert_eq!(sample.correct, Some(golden.pred == golden.gold));
    }
}
