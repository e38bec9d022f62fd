//! `metrics.json`: every figure of every package.

use internlm_eval::extract::{Extractor, compare};
use internlm_eval::metric::bleu::{Bleu, BleuScore, Smoothing};
use internlm_eval::metric::chrf::Chrf;
use internlm_eval::metric::tokenize::{Tercom, Tokenizer};
use internlm_eval::metric::{classification, mean, pass_at_k, rouge, squad, standard_error, ter};
use serde_json::Value;

use crate::goldens::{TOLERANCE, items, json, near, text};

fn number(value: &Value) -> usize {
    usize::try_from(value.as_u64().unwrap()).unwrap()
}

#[test]
fn rouge_is_that_of_rouge_score() {
    let Some(goldens) = json("metrics.json") else {
        return;
    };
    let cases = items(&goldens["rouge_score"]);
    assert!(cases.iter().any(|case| case["use_stemmer"] == true));
    for case in cases {
        let stem = case["use_stemmer"] == true;
        for name in ["rouge1", "rouge2", "rougeL", "rougeLsum"] {
            let kind = rouge::Kind::parse(name).unwrap();
            let score = rouge::score(kind, text(&case["pred"]), text(&case["ref"]), stem);
            let what = format!("{name} of {case}");
            near(score.precision, &case[name]["p"], &what);
            near(score.recall, &case[name]["r"], &what);
            near(score.f1, &case[name]["f"], &what);
        }
    }
}

fn pairs(cases: &Value) -> Vec<(&str, [&str; 1])> {
    items(cases)
        .iter()
        .map(|case| (text(&case["pred"]), [text(&case["ref"])]))
        .collect()
}

#[track_caller]
fn check_bleu(settings: Bleu, pairs: &[(&str, [&str; 1])], want: &Value) {
    let segments: Vec<(&str, &[&str])> = pairs.iter().map(|(p, r)| (*p, &r[..])).collect();
    let got: BleuScore = settings.corpus(&segments).unwrap();
    near(got.score, &want["score"], "score");
    near(got.brevity_penalty, &want["bp"], "bp");
    assert_eq!(got.prediction_len, number(&want["sys_len"]));
    assert_eq!(got.reference_len, number(&want["ref_len"]));
    for (n, want) in items(&want["precisions"]).iter().enumerate() {
        near(got.precisions[n], want, "precision");
    }
    for (n, want) in items(&want["counts"]).iter().enumerate() {
        near(got.matches[n], want, "counts");
    }
    for (n, want) in items(&want["totals"]).iter().enumerate() {
        near(got.totals[n], want, "totals");
    }
}

#[test]
fn bleu_chrf_and_ter_are_those_of_sacrebleu() {
    let Some(goldens) = json("metrics.json") else {
        return;
    };
    let golden = &goldens["sacrebleu"];
    let english = pairs(&golden["sentence"]);
    let chinese = pairs(&goldens["jieba_rouge"]["cases"]);
    let with = |tokenizer| Bleu {
        tokenizer,
        ..Bleu::default()
    };
    let smoothed = |smoothing| Bleu {
        smoothing,
        ..Bleu::default()
    };
    check_bleu(Bleu::default(), &english, &golden["corpus_13a"]);
    check_bleu(
        with(Tokenizer::International),
        &english,
        &golden["corpus_intl"],
    );
    check_bleu(
        Bleu {
            lowercase: true,
            ..Bleu::default()
        },
        &english,
        &golden["corpus_lower"],
    );
    check_bleu(with(Tokenizer::Character), &chinese, &golden["corpus_char"]);
    check_bleu(with(Tokenizer::Chinese), &chinese, &golden["corpus_zh"]);
    let plain = Bleu {
        smoothing: Smoothing::None,
        ..with(Tokenizer::None)
    };
    check_bleu(plain, &english, &golden["corpus_none_nosmooth"]);
    check_bleu(
        smoothed(Smoothing::Floor(0.1)),
        &english,
        &golden["corpus_floor"],
    );
    check_bleu(
        smoothed(Smoothing::AddK(1.0)),
        &english,
        &golden["corpus_addk"],
    );
    check_bleu(
        with(Tokenizer::International),
        &english,
        &golden["corpus_force_t5"],
    );

    let segments: Vec<(&str, &[&str])> = english.iter().map(|(p, r)| (*p, &r[..])).collect();
    near(
        Chrf::default().corpus(&segments).unwrap(),
        &golden["chrf"],
        "chrf",
    );
    near(
        Chrf::plus_plus().corpus(&segments).unwrap(),
        &golden["chrfpp"],
        "chrf++",
    );
    near(
        ter::corpus(Tercom::default(), &segments).unwrap(),
        &golden["ter"],
        "ter",
    );
    let chinese: Vec<(&str, &[&str])> = chinese.iter().map(|(p, r)| (*p, &r[..])).collect();
    near(
        Chrf::default().corpus(&chinese).unwrap(),
        &golden["chrf_zh"],
        "chrf of Chinese",
    );

    for case in items(&golden["sentence"]) {
        let (prediction, reference) = (text(&case["pred"]), text(&case["ref"]));
        let one = [(prediction, &[reference][..])];
        let what = case.to_string();
        near(
            Bleu::sentence().corpus(&one).unwrap().score,
            &case["sentence_bleu_exp"],
            &what,
        );
        near(
            Chrf::default().corpus(&one).unwrap(),
            &case["sentence_chrf"],
            &what,
        );
        near(
            Chrf::plus_plus().corpus(&one).unwrap(),
            &case["sentence_chrfpp"],
            &what,
        );
        assert_eq!(
            Tokenizer::V13a.tokens(prediction).join(" "),
            text(&case["tok_13a"])
        );
    }
}

#[test]
fn squad_is_its_script() {
    let Some(goldens) = json("metrics.json") else {
        return;
    };
    let cases = items(&goldens["squad"]["cases"]);
    for case in cases {
        let references: Vec<&str> = items(&case["refs"]).iter().map(text).collect();
        let prediction = text(&case["pred"]);
        near(
            squad::exact_match(prediction, &references),
            &case["em"],
            prediction,
        );
        near(squad::f1(prediction, &references), &case["f1"], prediction);
        assert_eq!(squad::normalize(prediction), text(&case["normalized"]));
    }
    // OpenCompass's EMEvaluator over the same cases.
    let golden = &goldens["oc_EMEvaluator"];
    let general = Extractor::parse("general").unwrap();
    let mut right = 0.0;
    for (case, detail) in cases.iter().zip(items(&golden["details"])) {
        let references: Vec<&str> = items(&case["refs"]).iter().map(text).collect();
        let got = compare::open_compass_exact_match(text(&case["pred"]), &references);
        assert_eq!(Value::from(got), detail["correct"], "{case}");
        assert_eq!(
            general.extract(text(&case["pred"])).unwrap(),
            detail["pred"]
        );
        right += f64::from(u8::from(got));
    }
    near(100.0 * right / 10.0, &golden["score"], "EMEvaluator");
}

#[test]
fn trivia_qa_is_open_compass_s() {
    let Some(goldens) = json("metrics.json") else {
        return;
    };
    let golden = &goldens["oc_TriviaQAEvaluator"];
    let postprocess = Extractor::parse("triviaqa").unwrap();
    let details = items(&golden["details"]);
    let cases = items(&golden["preds"]).iter().zip(items(&golden["refs"]));
    for ((prediction, references), detail) in cases.zip(details) {
        let references: Vec<&str> = items(references).iter().map(text).collect();
        let got = compare::open_compass_trivia_qa(text(prediction), &references);
        assert_eq!(Value::from(got), detail["correct"], "{prediction}");
        assert_eq!(
            postprocess.extract(text(prediction)).unwrap(),
            detail["pred"]
        );
    }
}

#[cfg(feature = "jieba")]
#[test]
fn chinese_rouge_is_that_of_rouge_chinese() {
    use internlm_eval::metric::chinese_rouge;

    let Some(goldens) = json("metrics.json") else {
        return;
    };
    let golden = &goldens["jieba_rouge"];
    let mut pairs = Vec::new();
    for case in items(&golden["cases"]) {
        let (prediction, reference) = (text(&case["pred"]), text(&case["ref"]));
        let words = chinese_rouge::words(prediction);
        assert_eq!(Value::from(words), case["jieba_pred_full"], "{prediction}");
        let score = chinese_rouge::score(prediction, reference);
        let parts = [
            ("rouge-1", score.rouge1),
            ("rouge-2", score.rouge2),
            ("rouge-l", score.rouge_l),
        ];
        for (name, part) in parts {
            let (want, what) = (&case["scores"][name], format!("{name} of {case}"));
            near(part.precision, &want["p"], &what);
            near(part.recall, &want["r"], &what);
            near(part.f1, &want["f"], &what);
        }
        pairs.push((prediction, reference));
    }
    let [rouge1, rouge2, rouge_l] = chinese_rouge::evaluate(&pairs).unwrap();
    let want = &golden["JiebaRougeEvaluator"];
    near(rouge1, &want["rouge1"], "rouge1");
    near(rouge2, &want["rouge2"], "rouge2");
    near(rouge_l, &want["rougeL"], "rougeL");
}

#[test]
fn pass_at_k_is_that_of_human_eval_and_open_compass() {
    let Some(goldens) = json("metrics.json") else {
        return;
    };
    let arguments = |case: &Value| [&case["n"], &case["c"], &case["k"]].map(number);
    for case in items(&goldens["pass_at_k"]) {
        let [n, c, k] = arguments(case);
        near(
            pass_at_k::pass_at_k(n, c, k).unwrap(),
            &case["value"],
            &case.to_string(),
        );
    }
    for case in items(&goldens["g_pass_at_k"]) {
        let [n, c, k] = arguments(case);
        let got = pass_at_k::g_pass_at_k(n, c, k, case["t"].as_f64().unwrap()).unwrap();
        near(got, &case["value"], &case.to_string());
    }
    for case in items(&goldens["mg_pass_at_k"]) {
        let [n, c, k] = arguments(case);
        near(
            pass_at_k::mg_pass_at_k(n, c, k).unwrap(),
            &case["value"],
            &case.to_string(),
        );
    }
}

#[test]
fn labels_and_means() {
    let Some(goldens) = json("metrics.json") else {
        return;
    };
    let golden = &goldens["classification"];
    let labels = |value: &Value| -> Vec<i64> {
        items(value)
            .iter()
            .map(|label| label.as_i64().unwrap())
            .collect()
    };
    let pairs: Vec<(i64, i64)> = labels(&golden["gold"])
        .into_iter()
        .zip(labels(&golden["pred"]))
        .collect();
    near(
        classification::accuracy(&pairs).unwrap(),
        &golden["accuracy"],
        "accuracy",
    );
    near(
        classification::matthews_correlation(&pairs).unwrap(),
        &golden["mcc"],
        "mcc",
    );
    near(
        classification::f1_binary(&pairs).unwrap(),
        &golden["f1_binary"],
        "f1",
    );
    near(
        classification::f1_macro(&pairs).unwrap(),
        &golden["f1_macro"],
        "f1_macro",
    );
    let golden = &goldens["mean_stderr"];
    let values: Vec<f64> = items(&golden["values"])
        .iter()
        .map(|value| value.as_f64().unwrap())
        .collect();
    near(mean(&values).unwrap(), &golden["mean"], "mean");
    near(
        standard_error::of_mean(&values).unwrap(),
        &golden["stderr"],
        "stderr",
    );
}

/// sacrebleu 2.6.0 over two references each.
///
/// The recorded figure `multi_ref` is not compared: its second references are not in the file. sacrebleu itself gives
/// it for none of some thousand guesses at them (the pairs in other orders, cases, halves and mixtures, SQuAD's).
#[test]
fn several_references() {
    let segments: [(&str, &[&str]); 2] = [
        (
            "The cat sat on the mat.",
            &["The cat is sitting on the mat.", "A cat sat on a mat."],
        ),
        (
            "the quick brown fox",
            &["the quick brown fox jumps over the lazy dog", "a quick fox"],
        ),
    ];
    let near =
        |got: f64, want: f64| assert!((got - want).abs() <= TOLERANCE, "{got} instead of {want}");
    near(
        Bleu::default().corpus(&segments).unwrap().score,
        73.111_044_570_902_51,
    );
    near(
        Chrf::default().corpus(&segments).unwrap(),
        49.770_185_255_097_644,
    );
    near(ter::corpus(Tercom::default(), &segments).unwrap(), 32.0);
}
