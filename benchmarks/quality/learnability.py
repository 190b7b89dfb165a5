#!/usr/bin/env python3
"""What a model learns from snapshots that `features` makes of songs, scored on songs never trained on.

    benchmarks/quality/learnability.py --stemfabric build/cpu/stemfabric --output-dir out/learnability

Renders songs, makes snapshots of them and a data set with their stems' band energies, trains a small model, and
prints the table of docs/quality.md: medians over the validation records of the SDR, of the model and of the
mixture as the answer for every stem."""
import argparse
import json
import pathlib

from ablations import STEMS, call

# Small, as there are few songs; everything else is the default of snapshots.
SETTINGS = ["model.dim=128", "model.depth=2", "model.heads=4", "model.dim_ff=256", "training.batch_size=16",
            "training.lr=2e-3", "training.warmup_steps=20", "training.device=cpu"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stemfabric", default="build/cpu/stemfabric", help="the executable")
    parser.add_argument("--output-dir", type=pathlib.Path, default=pathlib.Path("out/learnability"))
    parser.add_argument("--songs", type=int, default=300)
    # At this length and rate every band of the mixture survives the schema's thinning (docs/features.md).
    parser.add_argument("--seconds", type=float, default=11.7)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    out, program = options.output_dir, options.stemfabric
    if not (out / "data" / "songs" / "manifest.json").exists():
        call(program, "demo-songs", "--count", options.songs, "--duration", options.seconds, "--seed", options.seed,
             "--output-dir", out / "songs")
        call(program, "features", out / "songs", "--output", out / "snapshots.jsonl")
        call(program, "sanitize", "--input", out / "snapshots.jsonl", "--output", out / "records.jsonl")
        call(program, "dataset", "--input", out / "records.jsonl", "--output-dir", out / "data", "--run-label", "songs",
             "--targets", "bands")
    settings = [*SETTINGS, f"training.num_epochs={options.epochs}", f"training.seed={options.seed}"]
    call(program, "train", "--dataset-dir", out / "data" / "songs", "--output-dir", out / "run",
         *[part for setting in settings for part in ("--set", setting)])
    call(program, "evaluate", "--dataset-dir", out / "data" / "songs", "--model", out / "run", "--device", "cpu",
         "--output-dir", out / "run" / "evaluation")
    report = json.loads((out / "run" / "evaluation" / "evaluation_report.json").read_text())
    mixture = report["baselines"]["mixture"]
    print("| SDR, dB | all | " + " | ".join(STEMS) + " |\n" + "|---" * (2 + len(STEMS)) + "|")
    for name, of in (("mixture", mixture), ("model", report)):
        values = [of["aggregateMetrics"]["sdr"], *(of["stemMetrics"][stem]["sdr"] for stem in STEMS)]
        print(f"| {name} | " + " | ".join(f"{value:.1f}" for value in values) + " |")


if __name__ == "__main__":
    main()
