//! Encoding speed of one thread beside other tokenizers, over mixed English and Chinese text.
//!
//! ```text
//! cargo run --release --features sentencepiece -- tokenizer.model CORPUS_FOLDER [ROUNDS]
//! ```
//!
//! Rounds are interleaved engine by engine; the times are CPU time of the thread. A ratio is the
//! median over rounds of (rate of ours / rate of the peer) within the round. `ids` is a hash of all
//! ids, which must be equal in a column for the rates to be comparable.

mod convert;

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use cpu_time::ThreadTime;
use internlm_tokenize::{EncodeOptions, Tokenizer};

/// Bytes of text in each set, half of them English.
const BYTES: usize = 4 << 20;

type Encode<'a> = Box<dyn Fn(&str) -> Vec<u32> + 'a>;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [model, corpus, rest @ ..] = args.as_slice() else {
        return Err("usage: internlm-bench-tokenize tokenizer.model CORPUS_FOLDER [ROUNDS]".into());
    };
    let rounds = rest.first().map_or(Ok(7), |n| n.parse::<usize>())?.max(1);
    let text = mixed(Path::new(corpus))?;

    let started = Instant::now();
    let ours = Tokenizer::load(model)?;
    println!("load internlm-tokenize {:.3} s", started.elapsed().as_secs_f64());
    let json = convert::to_json(&std::fs::read(model)?)?;
    let started = Instant::now();
    let tokenizers = tokenizers::Tokenizer::from_bytes(json).map_err(|e| e.to_string())?;
    println!("load tokenizers        {:.3} s", started.elapsed().as_secs_f64());
    let started = Instant::now();
    let kitoken = kitoken::Kitoken::from_file(model)?;
    println!("load kitoken           {:.3} s", started.elapsed().as_secs_f64());
    #[cfg(feature = "sentencepiece")]
    let sentencepiece = sentencepiece::SentencePieceProcessor::open(model)?;

    let engines: Vec<(&str, Encode<'_>)> = vec![
        (
            "internlm-tokenize",
            Box::new(|text| ours.encode(text, EncodeOptions::default()).unwrap_or_default()),
        ),
        (
            "tokenizers 0.23",
            Box::new(|text| {
                let encoding = tokenizers.encode_fast(text, false);
                encoding.map(|e| e.get_ids().to_vec()).unwrap_or_default()
            }),
        ),
        (
            "kitoken 0.11",
            Box::new(|text| kitoken.encode(text, false).unwrap_or_default()),
        ),
    ];
    #[cfg(feature = "sentencepiece")]
    let engines = {
        let mut engines = engines;
        engines.push((
            "sentencepiece",
            Box::new(|text| {
                let pieces = sentencepiece.encode(text).unwrap_or_default();
                pieces.iter().map(|piece| piece.id).collect()
            }),
        ));
        engines
    };

    let lines: Vec<&str> = text.lines().collect();
    let (kib, kib16) = (documents(&text, 1 << 10), documents(&text, 16 << 10));
    for (name, set) in [
        ("lines", lines),
        ("1 KiB", kib.iter().map(String::as_str).collect()),
        ("16 KiB", kib16.iter().map(String::as_str).collect()),
    ] {
        measure(name, &set, &engines, rounds);
    }
    batch(&ours, &kib, rounds)?;
    Ok(())
}

fn measure(name: &str, set: &[&str], engines: &[(&str, Encode<'_>)], rounds: usize) {
    let bytes: usize = set.iter().map(|text| text.len()).sum();
    let mut rates = vec![Vec::new(); engines.len()];
    let mut sums = vec![(0usize, 0u64); engines.len()];
    for round in 0..rounds {
        for (engine, (_, encode)) in engines.iter().enumerate() {
            let started = ThreadTime::now();
            let ids: Vec<Vec<u32>> = set.iter().map(|text| encode(text)).collect();
            let seconds = started.elapsed().as_secs_f64();
            rates[engine].push(bytes as f64 / seconds / 1e6);
            if round == 0 {
                sums[engine] = fold(&ids);
            }
        }
    }
    println!(
        "\n{name}: {} texts of {} bytes on average; load average {}",
        set.len(),
        bytes / set.len().max(1),
        load_average()
    );
    println!("engine               median MB/s  ours/peer   tokens  ids               all rounds");
    for (engine, (engine_name, _)) in engines.iter().enumerate() {
        let ratios = rates[0].iter().zip(&rates[engine]).map(|(a, b)| a / b);
        let all: Vec<_> = rates[engine].iter().map(|r| format!("{r:.1}")).collect();
        println!(
            "{engine_name:20} {:11.1}  {:9.2}  {:7}  {:016x}  {}",
            median(rates[engine].iter().copied()),
            median(ratios),
            sums[engine].0,
            sums[engine].1,
            all.join(" ")
        );
    }
    let equal = sums.iter().all(|sum| *sum == sums[0]);
    println!("ids of all engines are {}", if equal { "equal" } else { "NOT equal" });
}

/// Encoding of a batch on all cores against one thread.
fn batch(ours: &Tokenizer, set: &[String], rounds: usize) -> Result<(), Box<dyn Error>> {
    let set: Vec<&str> = set.iter().map(String::as_str).collect();
    let bytes: usize = set.iter().map(|text| text.len()).sum();
    let options = EncodeOptions::default();
    let (mut one, mut all) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let started = Instant::now();
        for text in &set {
            ours.encode(text, options)?;
        }
        one.push(bytes as f64 / started.elapsed().as_secs_f64() / 1e6);
        let started = Instant::now();
        ours.encode_batch(&set, options)?;
        all.push(bytes as f64 / started.elapsed().as_secs_f64() / 1e6);
    }
    let ratios = one.iter().zip(&all).map(|(one, all)| all / one);
    println!(
        "\nbatch of 1 KiB texts on {} threads: {:.1} MB/s by wall clock, one thread {:.1}, ratio {:.2}",
        rayon::current_num_threads(),
        median(all.iter().copied()),
        median(one.iter().copied()),
        median(ratios)
    );
    Ok(())
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Number of ids and a hash over them (FNV-1a by words).
fn fold(ids: &[Vec<u32>]) -> (usize, u64) {
    let hash = ids.iter().flatten().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &id| {
        (hash ^ u64::from(id)).wrapping_mul(0x100_0000_01b3)
    });
    (ids.iter().map(Vec::len).sum(), hash)
}

fn load_average() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

/// Lines of English and Chinese files in turn, each half of the bytes.
fn mixed(folder: &Path) -> Result<String, Box<dyn Error>> {
    let mut halves = [String::new(), String::new()];
    let mut files: Vec<_> = std::fs::read_dir(folder)?.collect::<Result<_, _>>()?;
    files.sort_by_key(|file| file.file_name());
    for file in files {
        let name = file.file_name().to_string_lossy().into_owned();
        let half = match name.get(..3) {
            Some("en_") => 0,
            Some("zh_") => 1,
            _ => continue,
        };
        halves[half].push_str(&std::fs::read_to_string(file.path())?);
        halves[half].push('\n');
    }
    let mut lines = halves.each_ref().map(|half| half.lines().filter(|l| !l.is_empty()));
    let (mut text, mut taken) = (String::new(), [0, 0]);
    loop {
        let half = usize::from(taken[1] < taken[0]);
        let Some(line) = lines[half].next().filter(|_| text.len() < BYTES) else {
            return Ok(text);
        };
        taken[half] += line.len();
        text.push_str(line);
        text.push('\n');
    }
}

/// Whole lines joined to documents of about `size` bytes.
fn documents(text: &str, size: usize) -> Vec<String> {
    let mut documents = vec![String::new()];
    for line in text.lines() {
        let last = documents.len() - 1;
        if documents[last].len() + line.len() > size && !documents[last].is_empty() {
            documents.push(String::new());
        }
        let last = documents.len() - 1;
        documents[last].push_str(line);
        documents[last].push('\n');
    }
    documents
}
