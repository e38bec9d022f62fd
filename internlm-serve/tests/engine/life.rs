//! How requests come and go.

use std::time::Duration;

use internlm_core::chat_model::{Event, FinishReason};
use internlm_core::{ChatModel, ChatRequest, Message};
use internlm_serve::{EngineConfig, Error, Request};

use crate::common::{alone, blocks, engine, ids, model, request, said, sampled, settle};

#[test]
fn a_dropped_response_frees_everything() {
    let engine = engine(EngineConfig::default().with_max_batch(2));
    let endless = request(&ids(80, 1), sampled(1, 500).with_ignore_eos(true));
    let mut running: Vec<_> = (0..64)
        .map(|_| engine.submit(endless.clone()).unwrap())
        .collect();
    assert!(running[0].next().unwrap().is_ok());
    drop(running);
    let metrics = settle(&engine);
    assert_eq!(metrics.blocks_in_use, 0);
    assert_eq!(metrics.requests, metrics.finished + metrics.cancelled);
    assert!(metrics.cancelled > 0, "{metrics:?}");
}

#[test]
fn a_deadline_ends_a_request_with_an_error() {
    let engine = engine(EngineConfig::default());
    let endless = request(&ids(10, 1), sampled(1, 500).with_ignore_eos(true));
    let late = Request::new(endless).with_deadline(Duration::ZERO);
    let failed = engine.submit(late).unwrap().complete();
    assert!(matches!(failed, Err(Error::Deadline)), "{failed:?}");
    assert_eq!(settle(&engine).failed, 1);
}

#[test]
fn priorities_go_first() {
    let engine = engine(EngineConfig::default().with_max_batch(1));
    // The first one keeps the place busy until the others are there.
    let mut first = engine
        .submit(request(&ids(10, 1), sampled(1, 300)))
        .unwrap();
    assert!(first.next().is_some());
    let submit = |priority: i32| {
        let request = Request::new(request(&ids(5, 2), sampled(1, 3))).with_priority(priority);
        engine.submit(request).unwrap()
    };
    let (low, high) = (submit(-1), submit(1));
    assert!(first.all(|event| event.is_ok()));
    assert!(high.complete().is_ok());
    assert!(low.complete().is_ok());
    // The high one was done before the low one began: with one place their tokens don't mix, and the
    // histogram of first tokens holds one wait more than the high one's.
    assert_eq!(settle(&engine).time_to_first_token.count(), 3);
}

#[test]
fn a_full_queue_refuses() {
    let engine = engine(
        EngineConfig::default()
            .with_max_batch(1)
            .with_max_waiting(2),
    );
    let endless = request(&ids(10, 1), sampled(1, 500).with_ignore_eos(true));
    let mut running = engine.submit(endless.clone()).unwrap();
    assert!(running.next().is_some());
    let _waiting = [
        engine.submit(endless.clone()).unwrap(),
        engine.submit(endless.clone()).unwrap(),
    ];
    let refused = engine.submit(endless.clone());
    assert!(
        matches!(
            refused,
            Err(Error::QueueFull {
                waiting: 2,
                limit: 2
            })
        ),
        "{refused:?}"
    );
    drop(running);
}

#[test]
fn what_was_asked_is_answered_though_the_handle_is_gone() {
    let reference = model("internlm2", 7);
    let engine = engine(EngineConfig::default());
    let chat = request(&ids(30, 1), sampled(1, 50));
    let response = engine.submit(chat.clone()).unwrap();
    drop(engine);
    assert_eq!(said(response.complete().unwrap()), alone(&reference, &chat));
}

#[test]
fn a_shutdown_lets_answers_end_or_ends_them() {
    let chat = request(&ids(30, 1), sampled(1, 20));
    let drained = engine(EngineConfig::default());
    let response = drained.submit(chat.clone()).unwrap();
    drained.shutdown(Duration::from_secs(60));
    assert!(response.complete().is_ok());
    assert!(matches!(drained.submit(chat.clone()), Err(Error::Closed)));

    let cut = engine(EngineConfig::default());
    let endless: Vec<_> = (0..40)
        .map(|i| cut.submit(request(&ids(30, i), sampled(1, 500))).unwrap())
        .collect();
    cut.shutdown(Duration::ZERO);
    let failed = endless.into_iter().filter_map(|r| r.complete().err());
    assert!(
        failed
            .into_iter()
            .all(|error| matches!(error, Error::Closed))
    );
}

#[test]
fn a_conversation_is_rendered_and_ends_where_it_should() {
    let engine = engine(EngineConfig::default());
    let reference = model("internlm2", 7);
    let chat = ChatRequest::messages(vec![Message::system("Short."), Message::user("Hello 世界")])
        .with_sampling(sampled(3, 60).with_stop("\u{1}"));
    assert_eq!(engine.complete(&chat).unwrap(), alone(&reference, &chat));
    // A text that is sure to come ends the answer, and is not part of it.
    let free = request(&ids(9, 1), sampled(8, 40));
    let text = engine.complete(&free).unwrap().text;
    let stop: String = text.chars().skip(3).take(2).collect();
    let stopped = request(&ids(9, 1), sampled(8, 40).with_stop(stop.clone()));
    let got = said(engine.complete(&stopped).unwrap());
    assert_eq!(got, alone(&reference, &stopped));
    assert_eq!(got.finish_reason, Some(FinishReason::Stop));
    assert_eq!(got.text, text[..text.find(&stop).unwrap()]);
}

#[test]
fn no_tokens_are_an_answer_too() {
    let engine = engine(EngineConfig::default());
    let nothing = Request::new(request(&ids(9, 1), sampled(8, 0))).with_n(2);
    let answers = engine.submit(nothing).unwrap().complete_all().unwrap();
    for answer in answers {
        assert_eq!(answer.finish_reason, Some(FinishReason::Length));
        assert_eq!(
            (answer.usage.prompt_tokens, answer.usage.completion_tokens),
            (9, 0)
        );
    }
}

/// Clients that come, listen for a while and go, over a cache that is far too small: those who stay hear what
/// they would hear alone, and in the end nothing is held.
#[test]
fn survivors_of_a_crowd_hear_the_same() {
    let reference = model("internlm2", 7);
    let engine = engine(
        EngineConfig::default()
            .with_cache(blocks(14))
            .with_max_batch(6),
    );
    std::thread::scope(|scope| {
        for client in 0..6u64 {
            let (engine, reference) = (&engine, &reference);
            scope.spawn(move || {
                for round in 0..12u64 {
                    let seed = 1000 * client + round;
                    let len = 1 + (seed * 37 % 150) as usize;
                    let chat = request(&ids(len, seed % 5), sampled(seed, 60));
                    let mut response = engine.submit(chat.clone()).unwrap();
                    if seed % 3 == 0 {
                        assert_eq!(said(response.complete().unwrap()), alone(reference, &chat));
                    } else {
                        let heard = response.by_ref().take((seed % 7) as usize);
                        for answer in heard {
                            assert!(matches!(
                                answer.unwrap().event,
                                Event::Delta { .. } | Event::Finish { .. }
                            ));
                        }
                    }
                }
            });
        }
    });
    let metrics = settle(&engine);
    assert_eq!(metrics.blocks_in_use, 0, "{metrics:?}");
    assert_eq!(metrics.requests, metrics.finished + metrics.cancelled);
    assert_eq!(metrics.failed, 0);
}

#[test]
fn a_chat_remembers_what_was_said() {
    let engine = engine(EngineConfig::default());
    let mut chat = engine
        .chat()
        .with_system("Be brief.")
        .with_sampling(sampled(5, 12));
    let first: String = chat
        .say("One?")
        .unwrap()
        .map(|delta| delta.unwrap().text)
        .collect();
    let messages = chat.messages();
    assert_eq!(
        messages[1..],
        [Message::user("One?"), Message::assistant(&first)]
    );
    let mut asked = messages.clone();
    asked.push(Message::user("Two?"));
    let want = engine
        .complete(&ChatRequest::messages(asked).with_sampling(sampled(5, 12)))
        .unwrap();
    let mut reply = chat.say("Two?").unwrap();
    assert!(reply.by_ref().all(|delta| delta.is_ok()));
    assert_eq!(said(reply.completion().clone()), said(want));
    drop(reply);
    // A question that nobody waits for is not asked.
    drop(chat.say("Three?").unwrap());
    assert_eq!(chat.messages().len(), 5);
    chat.clear();
    assert_eq!(chat.messages(), [Message::system("Be brief.")]);
}
