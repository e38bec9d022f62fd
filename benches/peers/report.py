#!/usr/bin/env python3
"""Makes the report of run.sh from its raw lines.

report.py FILE                 the report, as Markdown
report.py --weights MODEL      what one generated token costs a folder or MODEL.gguf, as JSON
"""

import json
import math
import sys
from pathlib import Path
from statistics import median

# What the documentation promises of our engine: the share of the bandwidth, and how many times as fast
# as the peer, by model and row. Of dense weights: no slower than either peer.
SHARE_OF_BANDWIDTH = 0.85
TIMES = {
    ("smollm2", "generation"): 1.3,
    ("smollm2", "prompt"): 2.5,
    ("internlm2-1.8b", "generation"): 1.4,
    ("internlm2-1.8b", "prompt"): 5,
    ("internlm2-1.8b", "together"): 6,
    ("internlm2.5-7b", "generation"): 1.2,
}
# The share of the bandwidth that generation with 4-bit weights is to reach beside that; small models have none.
SHARES = {"internlm2-1.8b": 0.85, "internlm2.5-7b": 0.88}
WIDTH = {"f32": 4, "bf16": 2, "q4_0": 4}


def weights_of_gguf(path):
    """The same for a GGUF file of the llama kind."""
    import gguf

    reader = gguf.GGUFReader(path)
    tied = all(tensor.name != "output.weight" for tensor in reader.tensors)
    total = sum(int(t.n_bytes) for t in reader.tensors if tied or t.name != "token_embd.weight")
    field = lambda name: reader.get_field(f"llama.{name}").contents()
    head_dim = field("embedding_length") // field("attention.head_count")
    cached = 2 * field("block_count") * field("attention.head_count_kv") * head_dim
    return {"bytes_per_token": total, "cached_per_token": cached}


def weights(folder):
    """Bytes of weights that are read for a generated token (an embedding table that is not also
    the head gives one row only) and the numbers that a token adds to the key-value cache."""
    file = folder.with_name(folder.name + ".gguf")
    if not folder.exists() and file.exists():
        return weights_of_gguf(file)
    config = json.loads((folder / "config.json").read_text())
    with open(folder / "model.safetensors", "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    total = 0
    for name, tensor in header.items():
        begin, end = tensor["data_offsets"]
        if name != "model.embed_tokens.weight" or config["tie_word_embeddings"]:
            total += end - begin
    head_dim = config["hidden_size"] // config["num_attention_heads"]
    cached = 2 * config["num_hidden_layers"] * config["num_key_value_heads"] * head_dim
    return {"bytes_per_token": total, "cached_per_token": cached}


class Rounds:
    """The raw lines, by what they measure."""

    def __init__(self, path):
        self.about, self.weights, self.runs = {}, {}, {}
        self.load = {}
        for line in Path(path).read_text().splitlines():
            line = json.loads(line)
            if "about" in line:
                self.about = line
            elif "weights" in line:
                self.weights[line["model"], line["dtype"]] = line["weights"]
            elif "round" in line:
                key = line["model"], line["dtype"], (line["context"], line["batch"]), line["engine"]
                self.runs.setdefault(key, {})[line["round"]] = line
            else:
                self.load.update(line)

    def models(self, dense=True):
        return [key for key in self.weights if (key[1] != "q4_0") == dense]

    def engines(self, dense=True):
        return sorted({key[3] for key in self.runs if (key[1] != "q4_0") == dense}, key=lambda name: (not name.startswith("ours"), name))

    def rates(self, model, dtype, context, engine, what):
        """Round -> tokens per second, of the rounds that gave one."""
        found = {}
        for number, line in self.runs.get((model, dtype, context, engine), {}).items():
            rate = (line["result"] or {}).get(what)
            if rate:
                found[number] = rate
        return found

    def bandwidth(self, model, dtype, context, number):
        """GB/s around one row of one round: the median of what was read before each engine."""
        return median(
            runs[number]["bandwidth"]["gb_per_s"]
            for (m, d, c, _), runs in self.runs.items()
            if (m, d, c) == (model, dtype, context) and number in runs
        )

    def all_bandwidths(self, what):
        return [line["bandwidth"][what] for runs in self.runs.values() for line in runs.values()]


def over_rounds(ours, other):
    """Median of ours / other over the rounds that have both."""
    ratios = [ours[number] / other[number] for number in ours if number in other]
    return median(ratios) if ratios else None


def number(value):
    if value is None:
        return "missed"
    digits = max(0, 2 - int(math.floor(math.log10(abs(value))))) if value else 0
    return f"{value:.{min(digits, 3)}f}"


def times(ratio):
    return "missed" if ratio is None else f"{ratio:.2f}×"


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "| --- " * len(head) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def rows_of(rounds):
    """(name, model, dtype, context, what) of every row."""
    about = rounds.about
    for model, dtype in rounds.models():
        yield f"pp{about['prompt']}", model, dtype, (0, 1), "pp_tokens_per_s"
        yield f"tg{about['gen']}", model, dtype, (0, 1), "tg_tokens_per_s"
        context = about["context"]
        yield f"tg{about['gen']} at {context}", model, dtype, (context, 1), "tg_tokens_per_s"


def rows_of_4_bits(rounds):
    """(name, kind, model, dtype, context, what) of every row."""
    about = rounds.about
    for model, dtype in rounds.models(dense=False):
        yield f"pp{about['prompt']}", "prompt", model, dtype, (0, 1), "pp_tokens_per_s"
        yield f"tg{about['gen']}", "generation", model, dtype, (0, 1), "tg_tokens_per_s"
        batch = about["batch"]
        yield f"tg of {batch} together", "together", model, dtype, (0, batch), "tg_tokens_per_s"


def comparison(rounds):
    engines = rounds.engines()
    peers = [engine for engine in engines if engine != "ours"]
    head = ["model", "weights", "row", *(f"{engine}, tokens/s" for engine in engines)]
    head += [*(f"ours / {peer}" for peer in peers), "our share of the bandwidth", "goal"]
    rows = []
    for name, model, dtype, context, what in rows_of(rounds):
        rates = {engine: rounds.rates(model, dtype, context, engine, what) for engine in engines}
        row = [model, dtype, name]
        row += [number(median(rates[engine].values()) if rates[engine] else None) for engine in engines]
        ours = rates.get("ours", {})
        ratios = {peer: over_rounds(ours, rates[peer]) for peer in peers}
        row += [times(ratios[peer]) for peer in peers]
        goals = [ratio is not None and ratio >= 1 for ratio in ratios.values()]
        share = None
        if what == "tg_tokens_per_s":
            cost = rounds.weights[model, dtype]
            # Besides the weights, a token reads the cache; generation adds half its length to it.
            read = cost["bytes_per_token"]
            if context[0]:
                cached = context[0] + rounds.about["gen"] / 2
                read += cost["cached_per_token"] * WIDTH[dtype] * cached
            shares = [
                rate * read / 1e9 / rounds.bandwidth(model, dtype, context, number)
                for number, rate in ours.items()
            ]
            share = median(shares) if shares else None
            goals.append(share is not None and share >= SHARE_OF_BANDWIDTH)
            row.append("missed" if share is None else f"{share:.0%}")
        else:
            row.append("")
        row.append("met" if all(goals) else "missed")
        rows.append(row)
    return table(head, rows)


def comparison_of_4_bits(rounds):
    engines = rounds.engines(dense=False)
    ours = [engine for engine in engines if engine.startswith("ours")]
    head = ["model", "row", *(f"{engine}, tokens/s" for engine in engines)]
    head += [*(f"{engine} / llama.cpp" for engine in ours), "share of the bandwidth", "goal"]
    rows = []
    for name, kind, model, dtype, context, what in rows_of_4_bits(rounds):
        rates = {engine: rounds.rates(model, dtype, context, engine, what) for engine in engines}
        row = [model, name]
        row += [number(median(rates[engine].values()) if rates[engine] else None) for engine in engines]
        ratios = [over_rounds(rates[engine], rates["llama.cpp"]) for engine in ours]
        row += [times(ratio) for ratio in ratios]
        share = None
        if kind == "generation":
            read = rounds.weights[model, dtype]["bytes_per_token"]
            shares = [
                rate * read / 1e9 / rounds.bandwidth(model, dtype, context, n)
                for n, rate in rates["ours-int8"].items()
            ]
            share = median(shares) if shares else None
        row.append("" if share is None else f"{share:.0%}")
        goal = TIMES.get((model, kind))
        best = rates["ours-int8"] and over_rounds(rates["ours-int8"], rates["llama.cpp"])
        if goal is None:
            row.append("")
        else:
            met = best and best >= goal and (kind != "generation" or share >= SHARES.get(model, 0))
            row.append(f"{goal}×: {'met' if met else 'missed'}")
        rows.append(row)
    return table(head, rows)


def growth(rounds):
    """What context costs a generated token, beside the time that reading its cache takes."""
    context, rows = rounds.about["context"], []
    for model, dtype in rounds.models():
        for engine in rounds.engines():
            empty = rounds.rates(model, dtype, (0, 1), engine, "tg_tokens_per_s")
            full = rounds.rates(model, dtype, (context, 1), engine, "tg_tokens_per_s")
            both = [n for n in empty if n in full]
            if not both:
                rows.append([model, dtype, engine, "missed", "", "", ""])
                continue
            # llama.cpp caches in f16 whatever the weights are; the others in the weights' dtype.
            width = 2 if engine == "llama.cpp" else WIDTH[dtype]
            cached = rounds.weights[model, dtype]["cached_per_token"] * width * context
            extra = median(1e3 / full[n] - 1e3 / empty[n] for n in both)
            reading = median(cached / 1e6 / rounds.bandwidth(model, dtype, (context, 1), n) for n in both)
            share = median((1e3 / full[n] - 1e3 / empty[n]) * full[n] / 1e3 for n in both)
            rows.append([model, dtype, engine, f"{cached / 1e6:.0f} MB", f"{reading:.2f} ms",
                         f"{extra:.2f} ms", f"{share:.0%}"])
    head = ["model", "weights", "engine", "cache", "reading it takes", "a token takes longer by", "of its time"]
    return table(head, rows)


def memory(rounds):
    rows = []
    for model, dtype in rounds.weights:
        for engine in rounds.engines(dtype != "q4_0"):
            runs = rounds.runs.get((model, dtype, (0, 1), engine), {}).values()
            results = [line["result"] for line in runs if line["result"]]
            if not results:
                rows.append([model, dtype, engine, "missed", "missed"])
                continue
            peaks = [result.get("peak_rss_bytes") or 0 for result in results]
            loads = [result["load_s"] for result in results]
            rows.append([model, dtype, engine, f"{median(peaks) / 1e6:.0f} MB", f"{median(loads):.2f} s"])
    return table(["model", "weights", "engine", "peak memory", "loading"], rows)


def every_round(rounds):
    numbers = sorted({n for runs in rounds.runs.values() for n in runs})
    rows = []
    four_bits = [(name, *rest) for name, _, *rest in rows_of_4_bits(rounds)]
    for name, model, dtype, context, what in [*rows_of(rounds), *four_bits]:
        for engine in rounds.engines(dtype != "q4_0"):
            rates = rounds.rates(model, dtype, context, engine, what)
            rows.append([model, dtype, name, engine, *(number(rates.get(n)) for n in numbers)])
        if what == "tg_tokens_per_s":
            read = [number(rounds.bandwidth(model, dtype, context, n)) for n in numbers]
            rows.append([model, dtype, name, "memory, GB/s", *read])
    return table(["model", "weights", "row", "engine", *(f"round {n}" for n in numbers)], rows)


def report(rounds):
    about = rounds.about
    typical, best = rounds.all_bandwidths("gb_per_s"), rounds.all_bandwidths("best_gb_per_s")
    features = about["candle_features"]
    out = [
        f"Machine: {about['cpu']}, {about['cores']} cores, {about['caches']}, "
        f"{about['memory_kib'] / 2**20:.0f} GiB, {about['kernel']}; {about['features']}.",
        f"Run of {about['date']}: revision {about['revision']}, {about['rustc']}, {about['cc']}; "
        f"llama.cpp of {about['llama_cpp']}, candle-transformers {about['candle']}"
        + (f" with {features}" if features else "") + ".",
        f"{about['rounds']} interleaved rounds, {about['threads']} threads. "
        f"Load average before {rounds.load['load_before']}, after {rounds.load['load_after']}.",
        f"Read bandwidth, {about['threads']} threads: median {number(median(typical))} GB/s "
        f"({number(min(typical))} to {number(max(typical))}), best pass {number(max(best))} GB/s.",
        "Peak of one core, GFLOP/s: "
        + (", ".join(f"{name} {rate}" for name, rate in about["peaks"].items()) or "not measured")
        + ".",
    ]
    if about["quick"] or about["rounds"] < 5:
        out.append("**A short run: not for quoting.**")
    out += [
        *(["## Speed", comparison(rounds), "## What context costs", growth(rounds)] if rounds.models() else []),
        *(["## Speed of 4-bit weights (Q4_0, the same file)", comparison_of_4_bits(rounds)] if rounds.models(dense=False) else []),
        "## Memory and loading",
        memory(rounds),
        "## Every round, tokens/s",
        every_round(rounds),
    ]
    return "\n\n".join(out)


def main():
    if len(sys.argv) == 3 and sys.argv[1] == "--weights":
        print(json.dumps(weights(Path(sys.argv[2]))))
    elif len(sys.argv) == 2:
        print(report(Rounds(sys.argv[1])))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
