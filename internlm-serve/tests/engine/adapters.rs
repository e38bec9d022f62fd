//! Several adapters over one base, in one batch.

use internlm_model::{LoraAdapter, LoraConfig};
use internlm_serve::{Engine, EngineConfig, Error, Models, Request};

use crate::common::{ids, model, request, said, sampled};

/// Adapters that change what is said.
fn adapters() -> Vec<LoraAdapter> {
    let base = model("internlm2", 7);
    let config = base.model().config();
    ["a", "b"]
        .iter()
        .enumerate()
        .map(|(i, name)| {
            let lora = LoraConfig::default()
                .with_rank(4)
                .with_alpha(8.0)
                .with_target_modules(["wqkv", "wo", "w1"]);
            let mut adapter = LoraAdapter::new(config, lora, 5 + i as u64)
                .unwrap()
                .with_name(*name);
            // B begins as zeros, with which nothing changes.
            for (path, var) in adapter.vars().unwrap() {
                if path.contains("lora_B") {
                    let (rows, columns) = var.dims2().unwrap();
                    let values: Vec<f32> = (0..rows * columns)
                        .map(|j| ((j * 31 + i * 7) % 17) as f32 / 20.0 - 0.4)
                        .collect();
                    let values = internlm_model::candle::Tensor::from_vec(
                        values,
                        (rows, columns),
                        var.device(),
                    );
                    var.set(&values.unwrap()).unwrap();
                }
            }
            adapter
        })
        .collect()
}

fn models(adapters: Vec<LoraAdapter>) -> Models {
    let base = Models::new(model("internlm2", 7));
    adapters.into_iter().fold(base, Models::with_adapter)
}

#[test]
fn each_request_has_the_adapter_that_it_names() {
    let engine = || Engine::new(models(adapters()), EngineConfig::default()).unwrap();
    let together = engine();
    assert_eq!(together.adapters(), ["a", "b"]);
    // The same prompt again and again: blocks are found, but not those of another adapter.
    let chat = request(&ids(80, 1), sampled(3, 30));
    let of = |name: Option<&str>| match name {
        Some(name) => Request::new(chat.clone()).with_adapter(name),
        None => Request::new(chat.clone()),
    };
    let names = [None, Some("a"), Some("b"), Some("a"), None, Some("b")];
    let alone: Vec<_> = names
        .iter()
        .map(|&name| said(engine().submit(of(name)).unwrap().complete().unwrap()))
        .collect();
    assert_ne!(alone[0].ids, alone[1].ids);
    assert_ne!(alone[1].ids, alone[2].ids);
    for _ in 0..2 {
        let running: Vec<_> = names
            .iter()
            .map(|&name| together.submit(of(name)).unwrap())
            .collect();
        for (response, want) in running.into_iter().zip(&alone) {
            assert_eq!(&said(response.complete().unwrap()), want);
        }
    }
    assert!(together.metrics().cached_tokens > 0);
}

#[test]
fn names_must_be_there_and_differ() {
    let engine = Engine::new(models(adapters()), EngineConfig::default()).unwrap();
    let chat = request(&ids(8, 1), sampled(3, 3));
    let refused = engine
        .submit(Request::new(chat).with_adapter("c"))
        .expect_err("it is refused");
    assert!(
        matches!(
            refused,
            Error::Request {
                field: "adapter",
                ..
            }
        ),
        "{refused}"
    );
    let twins: Vec<_> = adapters()
        .into_iter()
        .map(|adapter| adapter.with_name("x"))
        .collect();
    let refused = Engine::new(models(twins), EngineConfig::default());
    assert!(matches!(
        refused,
        Err(Error::Config {
            field: "adapters",
            ..
        })
    ));
}
