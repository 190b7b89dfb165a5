#!/usr/bin/env python3
"""Trains variants of the audio quickstart with several seeds and scores each on songs never trained on.

    benchmarks/quality/ablations.py --stemfabric build/cpu/stemfabric --output-dir out/ablations

Renders the songs (20 to train and validate, 8 to test), makes the data set, then for each seed and variant
trains and evaluates on the test songs; a run that is done is not made again. Writes runs.jsonl, a line per
run, and prints the table of docs/quality.md: per variant the mean over the seeds, of all stems also the range.
--table: prints the table of the runs in --results, and runs nothing."""
import argparse
import json
import pathlib
import shutil
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
CONFIG = ROOT / "configs" / "audio_quickstart.yaml"
STEMS = ("vocals", "drums", "bass", "harmonic", "perc", "sub")

# What differs from configs/audio_quickstart.yaml.
VARIANTS = {
    "superposition_centered": ["model.attention.activation=superposition_centered"],
    "superposition": ["model.attention.activation=superposition"],
    "superposition_normalized": ["model.attention.activation=superposition_normalized"],
    "softmax": ["model.attention.activation=softmax"],
    "complex mask": ["model.mask=complex"],
    "spectral features": ["audio.feature_groups=spectral"],
}


def call(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: status {done.returncode}\n{done.stderr[-2000:]}")


def make_data(stemfabric, out):
    data = out / "data" / "songs"
    if (data / "manifest.json").exists():
        return data
    for split, count, seed in (("train", 20, 1), ("test", 8, 1001)):
        call(stemfabric, "demo-songs", "--count", count, "--seed", seed, "--duration", 30,
             "--output-dir", out / "songs" / split)
    call(stemfabric, "dataset", "--audio", out / "songs", "--output-dir", out / "data", "--run-label", "songs",
         "--train-ratio", 0.8, "--config", CONFIG)
    return data


def score(path):
    """What a run is judged by: medians of the test songs, dB."""
    report = json.loads(path.read_text())
    found = {"all": report["aggregateMetrics"]["sdr"]}
    for baseline in ("mixture", "IRM", "MWF"):
        found[baseline] = report["baselines"][baseline]["aggregateMetrics"]["sdr"]
    for stem in STEMS:
        found[stem] = report["stemMetrics"][stem]["sdr"]
    return found


def one_run(options, data, variant, seed):
    run = options.output_dir / "runs" / f"{variant.replace(' ', '_')}-{seed}"
    settings = [f"training.seed={seed}", f"training.num_epochs={options.epochs}", "training.device=cpu",
                f"training.threads={options.threads}", *VARIANTS[variant]]
    call(options.stemfabric, "train", "--config", CONFIG, "--dataset-dir", data, "--output-dir", run,
         *[part for setting in settings for part in ("--set", setting)])
    call(options.stemfabric, "evaluate", "--dataset-dir", data, "--split", "test", "--model", run, "--device", "cpu",
         "--output-dir", run / "test")
    shutil.rmtree(run / "test" / "audio", ignore_errors=True)
    return {"variant": variant, "seed": seed, "epochs": options.epochs, "settings": VARIANTS[variant],
            **score(run / "test" / "evaluation_report.json")}


def table(runs):
    columns = ("all", *STEMS)
    print("| variant | runs | " + " | ".join(columns) + " |")
    print("|---" * (len(columns) + 2) + "|")
    for variant in VARIANTS:
        of = [run for run in runs if run["variant"] == variant]
        if not of:
            continue
        cells = []
        for column in columns:
            values = [run[column] for run in of]
            spread = f" ({min(values):.1f} … {max(values):.1f})" if column == "all" and len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.1f}{spread}")
        print(f"| {variant} | {len(of)} | " + " | ".join(cells) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stemfabric", default="build/cpu/stemfabric", help="the executable")
    parser.add_argument("--output-dir", type=pathlib.Path, default=pathlib.Path("out/ablations"))
    parser.add_argument("--results", type=pathlib.Path, help="default: OUTPUT_DIR/runs.jsonl")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--epochs", type=int, default=10, help="of 320 chunks; the quickstart has 20")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    results = options.results or options.output_dir / "runs.jsonl"
    runs = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    if not options.table:
        data = make_data(options.stemfabric, options.output_dir)
        done = {(run["variant"], run["seed"]) for run in runs}
        for seed in options.seeds:
            for variant in options.variants:
                if (variant, seed) not in done:
                    runs.append(one_run(options, data, variant, seed))
                    with open(results, "a", encoding="utf-8") as file:
                        file.write(json.dumps(runs[-1]) + "\n")
    table(runs)


if __name__ == "__main__":
    main()
