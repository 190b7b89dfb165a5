#!/usr/bin/env python3
"""Audio features on one core: ours (kernel_benchmarks) and PyTorch's, in turn, in one run.

    python3 torch_stft_features.py --bench build/cpu/benchmarks/kernel_benchmarks [--rounds 5] [--out lines.jsonl]

PyTorch does part of ours (audio_transforms.py says which). One JSON line per case, with the least and the median over the
rounds of wall-clock and of processor time (of the thread that computes) of one call, and seconds of audio per second of
each. Processor times are what a machine that is busy with other work disturbs least.
"""
import argparse
import json
import statistics
import subprocess
import time

import torch

from audio_transforms import make_stft_features, shape_of


def time_torch(run):
    cpu, wall = time.thread_time(), time.perf_counter()
    run()
    return {"cpu_ms": (time.thread_time() - cpu) * 1e3, "wall_ms": (time.perf_counter() - wall) * 1e3}


def time_ours(bench, case):
    out = subprocess.run([bench, "--threads=1", f"--benchmark_filter=^{case}", "--benchmark_format=json",
                          "--benchmark_min_time=0.1"], check=True, capture_output=True, text=True).stdout
    row = json.loads(out)["benchmarks"][0]
    return {"cpu_ms": row["best_cpu_us"] / 1e3, "wall_ms": row["best_us"] / 1e3}


def summary(times, seconds):
    result = {}
    for key in ("cpu_ms", "wall_ms"):
        values = [t[key] for t in times]
        result[key] = {"least": round(min(values), 1), "median": round(statistics.median(values), 1)}
        result[key.replace("ms", "x_realtime")] = round(seconds * 1e3 / min(values))
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out")
    args = parser.parse_args()
    torch.set_num_threads(1)
    listing = subprocess.run([args.bench, "--benchmark_list_tests", "--benchmark_filter=^stft_features"], check=True,
                             capture_output=True, text=True).stdout
    lines = []
    for case in listing.split():
        shape = shape_of(case.split("/")[1])
        function, arguments = make_stft_features("cpu", **shape)
        function(*arguments)
        ours, peer = [], []
        for _ in range(args.rounds):
            ours.append(time_ours(args.bench, case.removesuffix("/manual_time")))
            peer.append(time_torch(lambda: function(*arguments)))
        mine, theirs = summary(ours, shape["seconds"]), summary(peer, shape["seconds"])
        ratio = round(theirs["cpu_ms"]["least"] / mine["cpu_ms"]["least"], 1)
        lines.append(json.dumps({**shape, "threads": 1, "rounds": args.rounds,
                                 "torch": torch.__version__, "ours": mine, "peer": theirs, "cpu_time_ratio": ratio}))
        print(lines[-1], flush=True)
    if args.out:
        with open(args.out, "w") as file:
            file.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
