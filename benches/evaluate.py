#!/usr/bin/env python3
"""Our `evaluate` beside lm-evaluation-harness: the same model, items and threads, in turns.

usage: evaluate.py GGUF DATASETS [--work DIR] [--rounds N] [--hellaswag N] [--cmmlu N] [--batch N] [--report FILE.md]

Needs torch, transformers, lm_eval, gguf and numpy from PyPI (6 GB) in the Python that runs it, and the release build
of the examples `evaluate` and `quantize`. Makes of the GGUF file a folder with its values in f32 and its tokenizer,
and of that one a folder of 4 bits. A round starts each program once for each task, one after the other; every other
round runs in reverse order. The harness runs its own task files with the data set's file in place of the hub's, its
own defaults, and a batch size that a first round chooses among a few.

- started: items by the time of the whole process, from its start to its end
- running: items by the time from the first call of the model to the end
- first prompt: from the loaded model to the first call of it
"""
import argparse
import json
import os
import pathlib
import platform
import shutil
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", HERE.parent / "target"))
PROGRAMS = (TARGET / "release/examples").resolve()
THREADS = "2"
SUBJECTS = ["agronomy", "world_history"]
BATCHES = [1, 8]


# What the harness runs: a process of its own.


def theirs(folder, task, data, limit, batch, out):
    """Runs the harness on one task, and writes seconds and figures."""
    start = time.monotonic()
    import lm_eval
    import torch
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    torch.set_num_threads(int(THREADS))
    model = HFLM(pretrained=folder, dtype="float32", device="cpu", batch_size=batch)
    loaded = time.monotonic()
    first = []
    forward = model._model_call

    def call(*arguments, **options):
        first.append(time.monotonic())
        return forward(*arguments, **options)

    model._model_call = call
    manager = TaskManager(include_path=str(data))
    result = lm_eval.simple_evaluate(
        model=model, tasks=tasks_of(task), task_manager=manager, limit=limit, bootstrap_iters=0,
        num_fewshot=5 if task == "cmmlu" else 0, log_samples=True,
    )  # fmt: skip
    end = time.monotonic()
    items, right = 0, 0.0
    for name in result["samples"]:
        samples = result["samples"][name]
        items += len(samples)
        right += sum(sample["acc"] for sample in samples)
    picks = {
        f"{name}/{sample['doc_id']}": [float(answer[0][0]) for answer in sample["resps"]]
        for name, samples in result["samples"].items()
        for sample in samples
    }
    seconds = {"running": end - first[0], "first": first[0] - loaded, "loading": loaded - start}
    pathlib.Path(out).write_text(json.dumps({**seconds, "items": items, "acc": right / items, "lls": picks}))


def tasks_of(task):
    return [f"cmmlu_{subject}" for subject in SUBJECTS] if task == "cmmlu" else ["hellaswag"]


def task_files(data, folder):
    """The harness's task files with local files as their source."""
    import lm_eval.tasks

    own = pathlib.Path(lm_eval.tasks.__file__).parent
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(own / "hellaswag/utils.py", folder / "utils.py")
    text = (own / "hellaswag/hellaswag.yaml").read_text()
    file = data / "hellaswag/validation_first1000.jsonl"
    text = text.replace("dataset_path: Rowan/hellaswag", f"dataset_path: json\ndataset_kwargs:\n  data_files:\n    validation: {file}")
    text = text.replace("training_split: train\n", "").replace("dataset_name: null\n", "")
    (folder / "hellaswag.yaml").write_text(text)
    template = (own / "cmmlu/_default_template_yaml").read_text()
    for subject in SUBJECTS:
        lines = (own / f"cmmlu/cmmlu_{subject}.yaml").read_text().splitlines()
        keep = [line for line in lines if line.startswith(('"description"', '"task"'))]
        files = f"dataset_path: csv\ndataset_kwargs:\n  data_files:\n    test: {data}/cmmlu/test/{subject}.csv\n    dev: {data}/cmmlu/dev/{subject}.csv"
        body = template.replace("dataset_path: haonan-li/cmmlu", files)
        (folder / f"cmmlu_{subject}.yaml").write_text("\n".join(keep) + "\n" + body)


def model_folder(gguf, folder):
    """The file's values in f32, and its tokenizer as transformers reads it."""
    if (folder / "tokenizer.json").exists():
        return
    from gguf import GGUFReader

    make = [sys.executable, HERE / "peers/models.py", "folder", gguf, folder, "f32"]
    subprocess.run(make, check=True)
    fields = GGUFReader(gguf).fields
    texts = lambda name: [bytes(fields[name].parts[i]).decode() for i in fields[name].data]
    tokens, merges = texts("tokenizer.ggml.tokens"), texts("tokenizer.ggml.merges")
    kinds = [int(fields["tokenizer.ggml.token_type"].parts[i][0]) for i in fields["tokenizer.ggml.token_type"].data]
    # `smollm`: every digit is a piece of its own, then GPT-2's pieces.
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    pieces = {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, level]}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    added = [{"id": i, "content": token, **flags} for i, (token, kind) in enumerate(zip(tokens, kinds)) if kind == 3]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    model = {"type": "BPE", "vocab": vocabulary, "merges": merges}
    whole = {"added_tokens": added, "pre_tokenizer": pieces, "decoder": level, "model": model}
    (folder / "tokenizer.json").write_text(json.dumps(whole))
    ends = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": "<|im_end|>"}
    about = {"tokenizer_class": "PreTrainedTokenizerFast", **ends}
    (folder / "tokenizer_config.json").write_text(json.dumps(about))


# The comparison.


def run_theirs(work, task, limit, batch):
    out = work / "theirs.json"
    out.unlink(missing_ok=True)
    command = [sys.executable, __file__, "--theirs", work / "f32", task, work / "tasks", limit, batch, out]
    environment = {**os.environ, "OMP_NUM_THREADS": THREADS, "HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(work / "cache"),
                   "TOKENIZERS_PARALLELISM": "true", "HF_DATASETS_OFFLINE": "1"}  # fmt: skip
    whole = timed(command, environment)
    result = json.loads(out.read_text())
    return {**result, "whole": whole}


def run_ours(work, data, model, options, task, limit):
    out = work / "ours"
    shutil.rmtree(out, ignore_errors=True)
    command = [PROGRAMS / "evaluate", "--model", model, "--data", data, "--tasks", ",".join(tasks_of(task)), "--rules", "lm-eval",
               "--limit", limit, "--out", out, "--threads", THREADS, *options, *(["--shots", "5"] if task == "cmmlu" else [])]  # fmt: skip
    whole = timed(command, os.environ)
    report = json.loads(next(out.rglob("report.json")).read_text())
    lls, items, right = {}, 0, 0.0
    for file in out.rglob("samples_*.jsonl"):
        for line in file.read_text().split("\n"):
            if not line:
                continue
            sample = json.loads(line)
            name = file.name.removeprefix("samples_").rsplit("_", 1)[0]
            lls[f"{name}/{sample['doc_id']}"] = [float(answer[0][0]) for answer in sample["resps"]]
            items += 1
            right += sample["acc"]
    times = {"running": report["seconds"] - report["asked_after"], "first": report["asked_after"], "whole": whole}
    return {**times, "items": items, "acc": right / items, "lls": lls}


def timed(command, environment):
    start = time.monotonic()
    done = subprocess.run([str(part) for part in command], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return time.monotonic() - start


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("gguf", type=pathlib.Path)
    parser.add_argument("datasets", type=pathlib.Path)
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path("runs/bench-evaluate"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--hellaswag", type=int, default=40)
    parser.add_argument("--cmmlu", type=int, default=16, help="items of each of two subjects")
    parser.add_argument("--batch", type=int, help="the harness's batch size, in place of trying some")
    parser.add_argument("--report", type=pathlib.Path)
    arguments = parser.parse_args()
    work, data = arguments.work.resolve(), arguments.datasets.resolve()
    work.mkdir(parents=True, exist_ok=True)
    model_folder(arguments.gguf.resolve(), work / "f32")
    task_files(data, work / "tasks")
    if not (work / "q4").exists():
        quantize = [PROGRAMS / "quantize", "--model", work / "f32", "--out", work / "q4", "--method", "rtn", "--group-size", "32"]
        subprocess.run(quantize, check=True)

    limits = {"hellaswag": arguments.hellaswag, "cmmlu": arguments.cmmlu}
    limits = {task: limit for task, limit in limits.items() if limit > 0}
    batches = {}
    for task, limit in limits.items():
        tried = {batch: run_theirs(work, task, max(2, limit // 4), batch)["running"] for batch in BATCHES} if not arguments.batch else {}
        batches[task] = arguments.batch or min(tried, key=tried.get)
        print(f"{task}: the harness's batch size is {batches[task]} {tried}", file=sys.stderr)
    programs = {
        "lm-evaluation-harness, f32": lambda task: run_theirs(work, task, limits[task], batches[task]),
        "ours, f32": lambda task: run_ours(work, data, work / "f32", ["--dtype", "f32"], task, limits[task]),
        "ours, 4 bits, activations int8": lambda task: run_ours(work, data, work / "q4", ["--act", "int8"], task, limits[task]),
    }
    runs = {(task, name): [] for task in limits for name in programs}
    for round in range(arguments.rounds):
        order = list(runs)
        for task, name in order if round % 2 == 0 else reversed(order):
            runs[task, name].append(programs[name](task))
            last = {key: value for key, value in runs[task, name][-1].items() if key != "lls"}
            print(round, task, name, last, file=sys.stderr, flush=True)
        text = report(runs, limits, batches, list(programs), round + 1)
        if arguments.report:
            arguments.report.write_text(text)
    print(text)


def report(runs, limits, batches, programs, rounds):
    import lm_eval
    import torch
    import transformers

    processor = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), platform.processor())
    lines = [
        f"Run of {time.strftime('%Y-%m-%d')}: {processor}, {os.cpu_count()} cores, {THREADS} threads; {rounds} rounds, medians (all rounds).",
        f"lm_eval {lm_eval.__version__}, transformers {transformers.__version__}, torch {torch.__version__}.",
        "",
        "| task | program | items/s, started | times | items/s, running | times | first prompt after | acc | goal |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    peer = programs[0]
    for task in limits:
        goal = 5 if task == "cmmlu" else 3
        for name in programs:
            mine, other = runs[task, name], runs[task, peer]
            ratio = lambda key: statistics.median(b[key] / a[key] for a, b in zip(mine, other))
            rate = lambda key: shown([run["items"] / run[key] for run in mine])
            first = statistics.median(run["first"] for run in mine)
            met = "" if name == peer else ("met" if min(ratio("whole"), ratio("running")) >= goal and first <= 0.5 else "missed")
            times = ("", "") if name == peer else (f"{ratio('whole'):.1f}×", f"{ratio('running'):.1f}×")
            items = mine[0]["items"]
            lines.append(f"| {task}, {items} items | {name} | {rate('whole')} | {times[0]} | {rate('running')} | {times[1]} | {first:.2f} s | {mine[0]['acc']:.3f} | {met} |")
    lines += ["", "Batch size of the harness: " + ", ".join(f"{task} {batch}" for task, batch in batches.items()) + ".", ""]
    for task in limits:
        for name in programs[1:]:
            lines.append(f"{task}, {name}: {agreement(runs[task, peer][0]['lls'], runs[task, name][0]['lls'])}.")
    return "\n".join(lines) + "\n"


def shown(values):
    return f"{statistics.median(values):.2f} ({', '.join(f'{value:.2f}' for value in values)})"


def agreement(theirs, ours):
    same = sum(max(range(len(a)), key=a.__getitem__) == max(range(len(b)), key=b.__getitem__) for a, b in ((theirs[key], ours[key]) for key in theirs))
    furthest = max(abs(x - y) for key in theirs for x, y in zip(theirs[key], ours[key]))
    return f"the same choice for {same} of {len(theirs)} items, log-likelihoods differ by {furthest:.1e} at most"


if __name__ == "__main__":
    if sys.argv[1:2] == ["--theirs"]:
        folder, task, data, limit, batch, out = sys.argv[2:]
        theirs(folder, task, data, int(limit), int(batch), out)
    else:
        main()
