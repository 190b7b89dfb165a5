#!/usr/bin/env python3
"""Throughput and memory of `stemfabric sanitize` and `stemfabric dataset`.

Usage: benchmarks/trainer/snapshot_throughput.py [--binary build/cpu/stemfabric] [--sizes 100 1000]
                                                 [--threads 2] [--out results.json]

Makes folders of about 100 MB and 1 GB of snapshots: each is one of the real ones of
tests/data/snapshots that has ground truth, with a fresh id and transients repeated until it has
the 245 KB of the baseline's average snapshot. Runs both commands on each folder three times and
prints the best wall time, records per second and the peak resident memory (getrusage).
The baseline is the original TypeScript pipeline on 2 cores: 92 records/s, 22 MB/s.
"""
import argparse
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RECORD_BYTES = 245_000
BASELINE = 92.0  # records per second


def templates():
    result = []
    for path in sorted((ROOT / "tests/data/snapshots").glob("s*.json")):
        snapshot = json.loads(path.read_text())
        if not snapshot.get("groundTruthStems"):
            continue
        text = json.dumps(snapshot, separators=(",", ":"))
        transients = snapshot["musicalContext"]["transients"]
        entry = len(json.dumps(transients[0], separators=(",", ":"))) + 1
        missing = max(0, (RECORD_BYTES - len(text)) // entry)
        for i in range(missing):
            transients.append(transients[i % len(transients)])
        text = json.dumps(snapshot, separators=(",", ":"))
        result.append(text.split(snapshot["id"]))
    return result


def make_folder(folder, megabytes, rng):
    parts = templates()
    total = count = 0
    while total < megabytes * 1_000_000:
        name = str(uuid.UUID(int=rng.getrandbits(128), version=4))
        text = name.join(parts[count % len(parts)])
        sub = folder / f"{count // 1000:03}"
        sub.mkdir(exist_ok=True)
        (sub / f"{count:06}.json").write_text(text)
        total += len(text)
        count += 1
    return count, total


def run(command):
    """Wall seconds, CPU seconds and peak resident bytes of a child process."""
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.monotonic() - start
    if status != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{errors.decode()}")
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024


def best_of(times, command, prepare=lambda: None):
    results = []
    for _ in range(times):
        prepare()
        results.append(run(command))
    return min(results), max(r[2] for r in results)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--binary", type=Path, default=ROOT / "build/cpu/stemfabric")
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 1000], help="megabytes")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="results as JSON")
    args = parser.parse_args()
    rng = random.Random(1)
    rows = []
    for megabytes in args.sizes:
        with tempfile.TemporaryDirectory(prefix="stemfabric-bench-") as temporary:
            work = Path(temporary)
            (work / "in").mkdir()
            count, total = make_folder(work / "in", megabytes, rng)
            threads = ["--threads", str(args.threads), "--quiet"]
            records = work / "records.jsonl"
            (s_wall, s_cpu, _), s_peak = best_of(args.repeats, [
                args.binary, "sanitize", "--input", work / "in", "--output", records, *threads])
            (d_wall, d_cpu, _), d_peak = best_of(
                args.repeats,
                [args.binary, "dataset", "--input", records, "--output-dir", work / "out",
                 "--run-label", "bench", *threads],
                lambda: shutil.rmtree(work / "out", ignore_errors=True))
            wall = s_wall + d_wall
            rows.append({
                "records": count, "input_MB": total / 1e6, "records_MB": records.stat().st_size / 1e6,
                "threads": args.threads,
                "sanitize_s": s_wall, "sanitize_cpu_s": s_cpu, "sanitize_peak_MB": s_peak / 1e6,
                "dataset_s": d_wall, "dataset_cpu_s": d_cpu, "dataset_peak_MB": d_peak / 1e6,
                "records_per_s": count / wall, "input_MB_per_s": total / 1e6 / wall,
                "times_baseline": count / wall / BASELINE})
            print(f"{count} snapshots, {total / 1e6:.0f} MB, {args.threads} threads: "
                  f"sanitize {s_wall:.2f} s (CPU {s_cpu:.2f} s, peak {s_peak / 1e6:.0f} MB), "
                  f"dataset {d_wall:.2f} s (CPU {d_cpu:.2f} s, peak {d_peak / 1e6:.0f} MB), "
                  f"together {count / wall:.0f} records/s, {total / 1e6 / wall:.0f} MB/s, "
                  f"{count / wall / BASELINE:.1f} x the baseline", flush=True)
    if args.out:
        args.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
