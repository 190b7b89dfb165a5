#!/usr/bin/env python3
"""Makes results.json and README.md (a table) of the raw outputs of a GPU check.

    report.py FOLDER      FOLDER/raw holds what gpu_check.py kept

Only what the raw outputs say is in the report: a step that failed or did not run has no numbers."""
import json
import math
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import gtest_output

# Runs and those whose weights theirs have to be, bit by bit; and those whose losses theirs are compared
# with, where that is not the CPU's.
SAME_BITS = {"train_cuda_again": "train_cuda", "train_cuda_kernels": "train_cuda",
             "train_cuda_cudnn_again": "train_cuda_cudnn"}
COMPARED = {"train_cuda_softmax": None, "train_cuda_cudnn": "train_cuda_softmax",
            "train_cuda_cudnn_again": "train_cuda_softmax"}
# Most relative difference of the first loss, of each of the first ten, and of every loss. Differences of rounding
# grow from step to step: on the CPU a learning rate that is larger by 1e-6 gave 0, 3e-6 and 5e-3 over these 100 steps, and
# bf16 activations against float32 ones 3e-4, 2e-2 and 5e-2. So the first loss, which no update has touched, tells most:
# float32 sums in another order differ by some 1e-7 there. The other bounds are 4 times what was seen on the CPU or more.
BOUNDS = {"fp32": (1e-5, 1e-3, 2e-2), "bf16": (3e-3, 0.1, 0.2)}
FIRST_STEPS = 10
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


def doctor_finding(raw, name):
    """What `stemfabric doctor --json` says of a library, or None."""
    for row in json_lines(read(raw / "doctor.out")):
        for finding in row.get("checks", []):
            if finding.get("name") == name:
                return finding.get("text")
    return None


def float_of(text):
    try:
        return float(text)
    except (TypeError, ValueError):
        return None


def rates(contexts, peer_rows):
    """What this device was measured to do: GB/s of a copy, TFLOP/s of large products."""
    def most(key, scale):
        values = [x * scale for x in (float_of(context.get(key)) for context in contexts) if x]
        return max(values, default=None)
    torch_bf16 = [row["TFLOP/s"] for row in peer_rows if row.get("what") == "product_bf16" and "TFLOP/s" in row]
    product = {"fp32": most("peak_GFLOP_per_s", 1e-3), "bf16": most("peak_bf16_GFLOP_per_s", 1e-3) or max(torch_bf16, default=None)}
    return {"copy_GB_per_s": most("copy_GB_per_s", 1), "product_TFLOP_per_s": product}


def precision_of(implementation):
    """Of a case of ours, or of a peer's."""
    return "bf16" if re.search(r"_bf16|_cudnn", implementation) else "fp32"


def peers_of(rows):
    """{case: {implementation: row}} of those that have a time, or a reason why not."""
    found = {}
    for row in rows:
        if "case" in row:
            found.setdefault(row["case"], {})[row["implementation"]] = row
    return found


def kernels(raw, steps):
    """Every case of kernel_benchmarks, with PyTorch's times of the same case in the same precision."""
    outputs = [google_benchmark(read(raw / f"{s['name']}.out")) for s in steps if s["name"].startswith("kernels.")]
    peer_rows = [row for s in steps if s["name"].startswith("torch_kernels") for row in json_lines(read(raw / f"{s['name']}.out"))]
    peers = peers_of(peer_rows)
    cases = []
    for row in (row for _, rows in outputs for row in rows):
        name = row.get("name", "").split("/iterations:")[0].replace("/manual_time", "")
        case = {"case": name.split("/stemfabric")[0], "implementation": name}
        if row.get("error_occurred"):
            case["error"] = row.get("error_message", "")
        else:
            case.update({key: row[key] for key in COUNTERS if key in row})
            same = {peer: p for peer, p in peers.get(case["case"], {}).items()
                    if precision_of(peer) == precision_of(name) and peer != "none"}
            case["torch_us"] = {peer: p["median_us"] for peer, p in same.items() if "median_us" in p}
            missing = {peer: p.get("error") or p.get("skipped") for peer, p in same.items() if "median_us" not in p}
            if missing:
                case["torch_missing"] = missing
        cases.append(case)
    contexts = [context for context, _ in outputs if context]
    first = contexts[0] if contexts else {}
    return {"context": {k: first[k] for k in ("device", "peak", "peak_bf16", "copy_GB_per_s") if k in first},
            "rates": rates(contexts, peer_rows), "cases": cases,
            "without_peer": sorted({row["case"] for row in peer_rows if "no_peer" in row})}


def largest(values):
    """NaN if one is."""
    return math.nan if any(math.isnan(x) for x in values) else max(values)


def training(raw):
    """Losses of the runs by step, and how far they are from those of another."""
    losses = {}
    for path in sorted(raw.glob("train_*.jsonl")):
        rows = [row for row in json_lines(read(path)) if row.get("kind") == "step"]
        losses[path.stem] = [math.nan if row.get("loss") is None else row["loss"] for row in rows]
    runs = {}
    for name, values in losses.items():
        runs[name] = {"steps": len(values), "first_loss": values[0], "last_loss": values[-1],
                      "weights_sha256": read(raw / f"{name}.sha256").strip(), "losses": values} if values else {"steps": 0}
        other = COMPARED.get(name, "train_cpu")
        reference = losses.get(other)
        if values and reference and name != other:
            relative = [abs(a - b) / abs(b) if b else math.nan for a, b in zip(values, reference)]
            runs[name].update(compared_with=other, first_relative_difference=relative[0],
                              early_relative_difference=largest(relative[:FIRST_STEPS]), largest_relative_difference=largest(relative))
        twin = SAME_BITS.get(name)
        if values and twin in losses:
            runs[name].update(twin=twin, same_weights=read(raw / f"{name}.sha256") == read(raw / f"{twin}.sha256") != "")
    library, ours = (runs.get(f"train_cuda_{name}", {}).get("weights_sha256") for name in ("cudnn", "softmax"))
    if library and library == ours:
        runs["train_cuda_cudnn"]["of_our_kernels"] = True
    return runs


def sanitizers(raw):
    found = {}
    for path in sorted(raw.glob("sanitizer_*.out")):
        summary = re.search(r"(?:ERROR|RACECHECK) SUMMARY: (.*)", read(path) + read(path.with_suffix(".err")))
        found[path.stem] = summary.group(1) if summary else "no summary"
    return found


def findings(runs):
    """Sentences on what must not be: other bits where they have to be the same, losses too far from others."""
    found = []
    for name, run in runs.items():
        if run.get("same_weights") is False:
            found.append(f"{name} and {run['twin']} must end with the same bits, and do not")
        if "compared_with" not in run:
            continue
        other = run["compared_with"]
        if run["steps"] != runs[other]["steps"]:
            found.append(f"{name} has {run['steps']} steps, {other} {runs[other]['steps']}")
        precision = "bf16" if name.startswith(("train_cuda_bf16", "train_cuda_softmax", "train_cuda_cudnn")) else "fp32"
        keys = ("first_relative_difference", "early_relative_difference", "largest_relative_difference")
        for key, of, bound in zip(keys, ("the first loss", f"the first {FIRST_STEPS} losses", "the losses"), BOUNDS[precision]):
            if not run[key] <= bound:  # also NaN
                found.append(f"{name}: {of} differ from those of {other} by up to {run[key]:.1e} (relative), more than {bound:g}")
                break
    if runs.get("train_cuda_cudnn", {}).get("of_our_kernels"):
        found.append("train_cuda_cudnn ends with the bits of train_cuda_softmax: cuDNN computed nothing in it (the log of a run says why)")
    return found


def work(raw, rates_of_device):
    """Of the training steps that are timed: counted operations and bytes, and the floor that they set on this device: the
    sum over all kernels of the larger of their two times. {attention_precision: ...}"""
    found = {}
    for path in sorted(raw.glob("work_*.out")):
        rows = [row for row in json_lines(read(path)) if "kernels" in row]
        if not rows:
            continue
        kernel_rows, precision = rows[-1]["kernels"], path.stem.rsplit("_", 1)[1]
        total = {key: sum(k["calls"] * k[key] for k in kernel_rows) for key in ("flops", "bytes")}
        copy, product = rates_of_device["copy_GB_per_s"], rates_of_device["product_TFLOP_per_s"][precision]
        entry = found[path.stem[len("work_"):]] = {"gflop": round(total["flops"] * 1e-9, 3), "mb": round(total["bytes"] * 1e-6, 3)}
        if copy and product:
            entry["floor_ms"] = sum(k["calls"] * max(k["flops"] / (product * 1e9), k["bytes"] / (copy * 1e6)) for k in kernel_rows)
    return found


def step_ms(row):
    """As one CUDA graph where it was captured."""
    return row.get("ms_graph") or row["ms_median"]


def train_steps(raw, steps, counted):
    """The timed steps; ours with the share of the floor that they reach, PyTorch's with their ratio to the fastest of ours
    of the same precision and attention."""
    timed, ours = {}, {}
    for step in steps:
        rows = [row for row in json_lines(read(raw / f"{step['name']}.out")) if row.get("what") == "train_step"]
        if not rows:
            continue
        name, row = step["name"], rows[-1]
        timed[name] = row
        row["same_as"] = f"{row['attention'].replace('sdpa', 'softmax')}_{row.get('precision', 'fp32')}"
        if name.startswith("step_") and name != "step_profile":
            floor = counted.get(row["same_as"], {}).get("floor_ms")
            if floor:
                row.update(floor_ms=floor, floor_share=floor / step_ms(row))
            best = ours.get(row["same_as"])
            if best is None or step_ms(row) < step_ms(timed[best]):
                ours[row["same_as"]] = name
    for name, row in timed.items():
        if name.startswith("torch") and row["same_as"] in ours:
            row.update(against=ours[row["same_as"]], times_ours=step_ms(row) / step_ms(timed[ours[row["same_as"]]]))
    return timed


def collect(raw):
    """What the raw outputs in this folder say."""
    head = json.loads(read(raw / "machine.json") or "{}")
    steps = json.loads(read(raw / "steps.json") or "[]")
    counts = {s["name"]: gtest_output.summary(read(raw / f"{s['name']}.out")) for s in steps
              if not s["name"].startswith("sanitizer")}
    measured, runs = kernels(raw, steps), training(raw)
    counted = work(raw, measured["rates"])
    return {**head, "findings": findings(runs), "steps": steps, "tests": {name: count for name, count in counts.items() if count},
            "training": runs, "work": counted, "train_step": train_steps(raw, steps, counted), "kernels": measured,
            "sanitizers": sanitizers(raw)}


def table(header, rows):
    if not rows:
        return ["nothing was measured", ""]
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows] + [""]


def number(value, digits=1):
    return "" if value is None else f"{value:.{digits}f}"


def verdict_lines(results):
    state = results.get("state", "finished")
    lines = [] if state == "finished" else [f"**This check has not run to its end: {state}.**", ""]
    if results["findings"]:
        return lines + ["**What must not be:**", "", *(f"- {finding}" for finding in results["findings"])]
    runs = results["training"].values()
    compared, twins = sum("compared_with" in run for run in runs), sum("twin" in run for run in runs)
    if compared + twins == 0:
        return lines + ["No training runs were compared."]
    return lines + [f"Of the training runs {twins} had to have the bits of another, and have them; the losses of {compared} "
                    "are as near to their reference as they have to be."]


def head_lines(results):
    gpu = results.get("gpu", {})
    return [f"# {gpu.get('name', 'unknown device')}, revision {results.get('revision', 'unknown')}", "",
            f"Made by `scripts/gpu_check.sh{' --quick' if results.get('quick') else ''}` on {results.get('date', '?')}: "
            f"driver {gpu.get('driver_version', '?')}, power limit {gpu.get('power.limit', '?')}, "
            f"{results.get('cpu_threads', '?')} CPU threads; programs of {results.get('programs', '?')}. "
            "All figures: [results.json](results.json); outputs of every step: `raw.tar.gz`.", "", *verdict_lines(results), ""]


def tests_say(count):
    if not count:
        return ""
    text = f"{count['ran']} ran, {count['skipped']} skipped, {len(count['failed'])} failed"
    if "spoiled_by" in count:
        text += f"; an error of the device in {count['spoiled_by']}"
    return text + (f"; it ended in {count['unfinished']}" if "unfinished" in count else "")


def step_lines(results):
    def says(step):
        parts = (tests_say(results["tests"].get(step["name"])), results["sanitizers"].get(step["name"], ""), step.get("reason", ""))
        return "; ".join(x for x in parts if x)
    lines = ["## Steps", ""] + table(["step", "outcome", "seconds", ""], [
        (s["name"], s["outcome"], s.get("seconds", ""), says(s)) for s in results["steps"]])
    failed = [f"- `{name}` {case}" for name, count in results["tests"].items() for case in count["failed"]]
    return lines + (["Failed tests:", ""] + failed + [""] if failed else [])


def rates_say(results):
    measured = results["kernels"]["rates"]
    product = [f"{value:.1f} TFLOP/s in products of {precision}" for precision, value in measured["product_TFLOP_per_s"].items() if value]
    copy = [f"{measured['copy_GB_per_s']:.0f} GB/s of a copy"] if measured["copy_GB_per_s"] else []
    return ", ".join(product + copy)


def train_step_lines(results):
    rows = []
    for name, row in results["train_step"].items():
        by = row.get("attention_by", "")
        rows.append((name, row["implementation"], row["attention"] + (f" ({by})" if by and by != "stemfabric" else ""),
                     row.get("precision", "fp32"), number(row["ms_median"], 3), number(row.get("ms_graph"), 3), row["tokens_per_s"],
                     number(row.get("memory_mb")), number(row.get("floor_ms"), 3),
                     f"{100 * row['floor_share']:.0f}" if "floor_share" in row else "",
                     f"{row['times_ours']:.2f} ({row['against']})" if "against" in row else ""))
    measured = rates_say(results)
    floor = (f" The floor is the sum over the step's kernels of the least time for their operations or their bytes, as "
             f"`stemfabric bench --plan` counts them, at {measured}, as measured here." if measured else "")
    return ["## Training step", "", "Forward, loss, backward, gradient norm, Adam; times between events on the device, median."
            " Shares and ratios are of the step as one CUDA graph where that was timed; PyTorch's ratios are to ours with the same "
            "attention and precision." + floor, ""] + table(
        ["", "implementation", "attention", "precision", "ms", "ms as one graph", "tokens/s", "device MB", "floor ms", "% of floor",
         "÷ ours"], rows)


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


def peer_cell(case, peer):
    for name in (peer, peer + "_bf16"):
        if name in case.get("torch_us", {}):
            us = case["torch_us"][name]
            return f"{us:.1f} ({us / case['median_us']:.2f})" if case.get("median_us") else f"{us:.1f}"
        if name in case.get("torch_missing", {}):
            return "not timed"
    return ""


def kernel_lines(results):
    measured = results["kernels"]
    names = {re.sub("_bf16$", "", name) for case in measured["cases"] for key in ("torch_us", "torch_missing")
             for name in case.get(key, {})}
    names = [name for name in ("eager", "compiled", "sdpa", "sdpa_cudnn") if name in names]
    rows = []
    for case in measured["cases"]:
        if "error" in case:
            rows.append((f"`{case['implementation']}`", "error: " + case["error"], *[""] * (3 + len(names))))
            continue
        rows.append((f"`{case['implementation']}`", number(case.get("median_us")), number(case.get("%floor"), 0),
                     number(case.get("TFLOP/s"), 2), number(case.get("GB/s"), 0), *[peer_cell(case, name) for name in names]))
    peak = "; bf16 ".join(measured["context"][key] for key in ("peak", "peak_bf16") if key in measured["context"])
    lines = ["## Kernels", "", "Verified, then timed with cold caches, median, µs; in brackets: times ours. PyTorch's are of the same "
             "precision: float32 beside `/stemfabric`, bfloat16 beside `/stemfabric_bf16` and `/stemfabric_cudnn`. "
             f"Peak: {peak or 'not measured'}.", ""] + table(
        ["case", "µs", "% of floor", "TFLOP/s", "GB/s", *[f"torch {name}" for name in names]], rows)
    failed = [f"- `{case['case']}` {peer}: {reason}" for case in measured["cases"] for peer, reason in case.get("torch_missing", {}).items()]
    without = sorted({case.split("/")[0] for case in measured["without_peer"]})
    return (lines + (["Not timed by PyTorch:", ""] + list(dict.fromkeys(failed)) + [""] if failed else []) +
            ([f"Without a counterpart in PyTorch: {', '.join(without)}.", ""] if without else []))


def markdown(results):
    return "\n".join(head_lines(results) + step_lines(results) + train_step_lines(results) + training_lines(results) +
                     kernel_lines(results))


def without_nan(value):
    """JSON knows no NaN."""
    if isinstance(value, dict):
        return {key: without_nan(x) for key, x in value.items()}
    if isinstance(value, list):
        return [without_nan(x) for x in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write(folder, raw=None):
    """Both files; returns the results. The raw outputs are in FOLDER/raw or in `raw`."""
    folder = pathlib.Path(folder)
    results = collect(pathlib.Path(raw or folder / "raw"))
    text = markdown(results)
    for name, content in (("results.json", json.dumps(without_nan(results), indent=1) + "\n"), ("README.md", text)):
        beside = folder / (name + ".partial")
        beside.write_text(content)
        beside.rename(folder / name)
    return results


if __name__ == "__main__":
    if len(sys.argv) != 2 or not (pathlib.Path(sys.argv[1]) / "raw").is_dir():
        sys.exit("report.py FOLDER: the folder of a GPU check, with raw/ in it")
    print(markdown(write(sys.argv[1])))
