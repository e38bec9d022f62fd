//! The items that the page holds.

use serde_json::{Map, Value, json};

use super::record::{Answer, Record};
use super::{BenchmarkReport, Report};

/// Items of all benchmarks together; a page of more is slow to open. All of them are in the folder's files.
const MOST_ITEMS: usize = 4_000;
/// A benchmark shows at least this many.
const FEWEST_ITEMS: usize = 20;
/// Characters of a text; the middle of a longer one is left out.
const MOST_CHARS: usize = 3_000;

pub(super) fn data(report: &Report) -> Value {
    let share = MOST_ITEMS / report.benchmarks.len().max(1);
    let share = share.max(FEWEST_ITEMS);
    report
        .benchmarks
        .iter()
        .map(|b| benchmark(b, share))
        .collect()
}

fn benchmark(benchmark: &BenchmarkReport, most: usize) -> Value {
    let mut records: Vec<&Record> = benchmark.records.iter().collect();
    if records.len() > most {
        // What failed or is wrong is what people look for.
        records.sort_by_key(|record| match (&record.error, record.correct) {
            (Some(_), _) => 0,
            (None, Some(false)) => 1,
            (None, _) => 2,
        });
        records.truncate(most);
        records.sort_by_key(|record| record.index);
    }
    let items: Vec<Value> = records.into_iter().map(item).collect();
    json!({"name": benchmark.name, "total": benchmark.items, "items": items})
}

fn item(record: &Record) -> Value {
    let mut item = Map::new();
    let mut put = |name: &str, value: Value| {
        if !value.is_null() {
            item.insert(name.to_owned(), value);
        }
    };
    put("index", json!(record.index));
    put("prompt", json!(cut(&record.prompt)));
    put("answers", record.answers.iter().map(answer).collect());
    put("prediction", json!(cut(&shown(&record.prediction))));
    put("gold", json!(cut(&shown(&record.gold))));
    put("correct", json!(record.correct));
    put("note", json!(record.note.as_deref().map(cut)));
    put("error", json!(record.error.as_deref().map(cut)));
    let metrics: Vec<String> = record
        .metrics
        .iter()
        .map(|(name, value)| format!("{name} {}", cut(&shown(value))))
        .collect();
    put("metrics", json!(metrics.join(", ")));
    Value::Object(item)
}

fn answer(answer: &Answer) -> Value {
    let context = answer.context.as_deref().map(cut);
    let score = answer.score.map(|score| match answer.perplexity {
        true => format!("ppl {score:.4}"),
        false => format!("ll {score:.4}"),
    });
    json!({"context": context, "text": cut(&answer.text), "score": score})
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// The first and the last part of a long text.
fn cut(text: &str) -> String {
    let count = text.chars().count();
    if count <= MOST_CHARS {
        return text.to_owned();
    }
    let half = MOST_CHARS / 2;
    let head: String = text.chars().take(half).collect();
    let tail: String = text.chars().skip(count - half).collect();
    let left_out = count - 2 * half;
    format!("{head}\n[… {left_out} characters …]\n{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_lose_their_middle() {
        let text: String = "书".repeat(MOST_CHARS + 10);
        let shown = cut(&text);
        assert!(shown.contains("[… 10 characters …]"));
        assert_eq!(shown.matches('书').count(), MOST_CHARS);
        assert_eq!(cut("a"), "a");
    }

    #[test]
    fn of_many_items_the_wrong_ones_are_kept() {
        let record = |index: usize| Record {
            index,
            correct: Some(!index.is_multiple_of(3)),
            ..Record::default()
        };
        let report = BenchmarkReport {
            items: 30,
            records: (0..30).map(record).collect(),
            ..BenchmarkReport::default()
        };
        let value = benchmark(&report, 12);
        let items = value["items"].as_array().unwrap();
        let wrong = items
            .iter()
            .filter(|item| item["correct"] == json!(false))
            .count();
        assert_eq!((items.len(), wrong, &value["total"]), (12, 10, &json!(30)));
    }
}
