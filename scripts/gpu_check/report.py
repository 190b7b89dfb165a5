#!/usr/bin/env python3
"""Makes results.json and README.md (a table) of the raw outputs of a GPU check.

    report.py FOLDER      FOLDER/raw holds what gpu_check.py kept

Only what the raw outputs say is in the report: a step that failed or did not run has no numbers."""
import json
import pathlib
import re
import sys

# Runs and those whose weights theirs have to be, bit by bit; and those whose losses theirs are compared
# with, where that is not the CPU's.
SAME_BITS = {"train_cuda_again": "train_cuda", "train_cuda_kernels": "train_cuda",
             "train_cuda_cudnn_again": "train_cuda_cudnn"}
COMPARED = {"train_cuda_softmax": None, "train_cuda_cudnn": "train_cuda_softmax",
            "train_cuda_cudnn_again": "train_cuda_softmax"}
COUNTERS = ("median_us", "best_us", "TFLOP/s", "GB/s", "floor_us", "%floor", "scratch_MB")


def read(path):
    return path.read_text(errors="replace") if path.is_file() else ""


def json_lines(text):
    """The JSON objects among the lines; others (warnings, a cut last line) are passed over."""
    rows = []
    for line in text.splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


def google_benchmark(text):
    """(context, benchmarks) of --benchmark_format=json, also of an output that was cut off."""
    decoder = json.JSONDecoder()
    def value_after(key):
        at = re.search(f'"{key}":\\s*', text)
        return (None, 0) if at is None else (at.end(), at.end())
    begin, _ = value_after("context")
    try:
        context = {} if begin is None else decoder.raw_decode(text, begin)[0]
    except ValueError:
        context = {}
    begin, at = value_after("benchmarks")
    rows = []
    while begin is not None:
        brace = re.compile(r"[\[,\s]*(?=\{)").match(text, at)
        if brace is None:
            break
        try:
            row, at = decoder.raw_decode(text, brace.end())
        except ValueError:
            break
        rows.append(row)
    return context, rows


def tests(raw, name):
    """Counts of a GoogleTest program, and the names of what failed."""
    try:
        done = json.loads(read(raw / f"{name}.json"))
    except ValueError:
        return None
    cases = [(suite["name"] + "." + case["name"], case) for suite in done.get("testsuites", [])
             for case in suite.get("testsuite", [])]
    ran = [(n, case) for n, case in cases if case.get("status") == "RUN"]
    return {"ran": sum(case.get("result") == "COMPLETED" for _, case in ran),
            "skipped": sum(case.get("result") == "SKIPPED" for _, case in ran),
            "failed": [n for n, case in ran if case.get("failures")]}


def kernels(raw):
    """Every case of kernel_benchmarks, with PyTorch's times of the same case."""
    context, rows = google_benchmark(read(raw / "kernels.out"))
    peers = {}
    for row in json_lines(read(raw / "torch_kernels.out")):
        if "median_us" in row:
            peers.setdefault(row["case"], {})[row["implementation"]] = row["median_us"]
    cases = []
    for row in rows:
        name = row.get("name", "").split("/iterations:")[0].replace("/manual_time", "")
        case = {"case": name.split("/stemfabric")[0], "implementation": name}
        if row.get("error_occurred"):
            case["error"] = row.get("error_message", "")
        else:
            case.update({key: row[key] for key in COUNTERS if key in row})
            case["torch_us"] = peers.get(case["case"], {})
        cases.append(case)
    return {"context": {k: context[k] for k in ("device", "peak", "copy_GB_per_s") if k in context}, "cases": cases}


def training(raw):
    """Losses of the runs by step, and how far they are from those of another."""
    losses = {}
    for path in sorted(raw.glob("train_*.jsonl")):
        losses[path.stem] = [row["loss"] for row in json_lines(read(path)) if row.get("kind") == "step"]
    runs = {}
    for name, values in losses.items():
        runs[name] = {"steps": len(values), "first_loss": values[0], "last_loss": values[-1],
                      "weights_sha256": read(raw / f"{name}.sha256").strip(), "losses": values} if values else {"steps": 0}
        other = COMPARED.get(name, "train_cpu")
        reference = losses.get(other)
        if values and reference and name != other:
            relative = [abs(a - b) / abs(b) for a, b in zip(values, reference)]
            runs[name].update(compared_with=other, first_relative_difference=relative[0], largest_relative_difference=max(relative))
        twin = SAME_BITS.get(name)
        if values and twin in losses:
            runs[name].update(twin=twin, same_weights=read(raw / f"{name}.sha256") == read(raw / f"{twin}.sha256") != "")
    return runs


def sanitizers(raw):
    found = {}
    for path in sorted(raw.glob("sanitizer_*.out")):
        summary = re.search(r"(?:ERROR|RACECHECK) SUMMARY: (.*)", read(path) + read(path.with_suffix(".err")))
        found[path.stem] = summary.group(1) if summary else "no summary"
    return found


def collect(folder):
    raw = pathlib.Path(folder) / "raw"
    head = json.loads(read(raw / "machine.json") or "{}")
    steps = json.loads(read(raw / "steps.json") or "[]")
    timed = {}
    for step in steps:
        rows = [row for row in json_lines(read(raw / f"{step['name']}.out")) if row.get("what") == "train_step"]
        if rows:
            timed[step["name"]] = rows[-1]
    counted = {s["name"]: tests(raw, s["name"]) for s in steps if (raw / f"{s['name']}.json").is_file()}
    return {**head, "steps": steps, "tests": counted, "training": training(raw),
            "train_step": timed, "kernels": kernels(raw), "sanitizers": sanitizers(raw)}


def table(header, rows):
    if not rows:
        return ["nothing was measured", ""]
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows] + [""]


def number(value, digits=1):
    return "" if value is None else f"{value:.{digits}f}"


def head_lines(results):
    gpu = results.get("gpu", {})
    return [f"# {gpu.get('name', 'unknown device')}, revision {results.get('revision', 'unknown')}", "",
            f"Made by `scripts/gpu_check.sh{' --quick' if results.get('quick') else ''}` on {results.get('date', '?')}: "
            f"driver {gpu.get('driver_version', '?')}, power limit {gpu.get('power.limit', '?')}, "
            f"{results.get('cpu_threads', '?')} CPU threads; programs of {results.get('programs', '?')}. "
            "All figures: [results.json](results.json); outputs of every step: `raw/`.", ""]


def step_lines(results):
    def says(step):
        count = results["tests"].get(step["name"])
        text = f"{count['ran']} ran, {count['skipped']} skipped, {len(count['failed'])} failed" if count else ""
        return "; ".join(x for x in (text, results["sanitizers"].get(step["name"], ""), step.get("reason", "")) if x)
    lines = ["## Steps", ""] + table(["step", "outcome", "seconds", ""], [
        (s["name"], s["outcome"], s.get("seconds", ""), says(s)) for s in results["steps"]])
    failed = [f"- `{name}` {case}" for name, count in results["tests"].items() if count for case in count["failed"]]
    return lines + (["Failed tests:", ""] + failed + [""] if failed else [])


def train_step_lines(results):
    ours = {precision: results["train_step"].get(f"step_{precision}", {}).get("ms_median") for precision in ("fp32", "bf16")}
    rows = []
    for name, row in results["train_step"].items():
        ratio = [f"{row['ms_median'] / ours[p]:.2f}" if ours[p] and name.startswith("torch") else "" for p in ("fp32", "bf16")]
        rows.append((name, row["implementation"], row["attention"], row.get("precision", "fp32"), number(row["ms_median"], 3),
                     row["tokens_per_s"], number(row.get("memory_mb")), *ratio))
    return ["## Training step", "", "Forward, loss, backward, gradient norm, Adam; times between events on the device.", ""] + table(
        ["", "implementation", "attention", "precision", "ms", "tokens/s", "device MB", "÷ ours fp32", "÷ ours bf16"], rows)


def training_lines(results):
    rows = []
    for name, run in results["training"].items():
        if run["steps"] == 0:
            continue
        same = f"{'yes' if run['same_weights'] else 'NO'} ({run['twin']})" if "twin" in run else ""
        scientific = [f"{run[k]:.1e}" if k in run else "" for k in ("first_relative_difference", "largest_relative_difference")]
        rows.append((name, run["steps"], number(run["first_loss"], 6), number(run["last_loss"], 6), *scientific, run.get("compared_with", ""), same))
    return ["## Training runs", ""] + table(
        ["run", "steps", "first loss", "last loss", "difference of the first", "largest", "from", "the same weights"], rows)


def kernel_lines(results):
    names = sorted({name for case in results["kernels"]["cases"] for name in case.get("torch_us", {})})
    rows = []
    for case in results["kernels"]["cases"]:
        if "error" in case:
            rows.append((f"`{case['implementation']}`", "error: " + case["error"], *[""] * (3 + len(names))))
            continue
        peers = [f"{case['torch_us'][n]:.1f} ({case['torch_us'][n] / case['median_us']:.2f})" if n in case["torch_us"] else ""
                 for n in names]
        rows.append((f"`{case['implementation']}`", number(case.get("median_us")), number(case.get("%floor"), 0),
                     number(case.get("TFLOP/s"), 2), number(case.get("GB/s"), 0), *peers))
    context = results["kernels"]["context"]
    return ["## Kernels", "", f"Verified, then timed with cold caches, median, µs; in brackets: times ours. Peak: {context.get('peak', 'not measured')}.", ""] + table(
        ["case", "µs", "% of floor", "TFLOP/s", "GB/s", *[f"torch {name}" for name in names]], rows)


def markdown(results):
    return "\n".join(head_lines(results) + step_lines(results) + train_step_lines(results) + training_lines(results) +
                     kernel_lines(results))


def write(folder):
    """Both files; returns the table."""
    folder = pathlib.Path(folder)
    results = collect(folder)
    text = markdown(results)
    for name, content in (("results.json", json.dumps(results, indent=1) + "\n"), ("README.md", text)):
        beside = folder / (name + ".partial")
        beside.write_text(content)
        beside.rename(folder / name)
    return text


if __name__ == "__main__":
    if len(sys.argv) != 2 or not (pathlib.Path(sys.argv[1]) / "raw").is_dir():
        sys.exit("report.py FOLDER: the folder of a GPU check, with raw/ in it")
    print(write(sys.argv[1]))
