#!/usr/bin/env python3
"""Time, memory and values of `stemfabric bss-eval` against museval, alternately in one run.

Usage: benchmarks/trainer/bss_eval_peer.py --museval DIR [--binary build/cpu/stemfabric]
           [--sources 4] [--seconds 30] [--threads 1] [--rounds 3] [--out results.json]

DIR is a checkout of github.com/sigsep/sigsep-mus-eval; needs numpy and scipy (Debian:
python3-numpy python3-scipy libopenblas0). Makes references of filtered noise and estimates with
leakage, 44.1 kHz stereo, float WAV, in a temporary folder. Each round runs both programs on them
as whole processes, files in, JSON out, with 1 s frames; ours also computes the whole-track values,
SI-SDR and utterance SDR. Prints minimum and median of wall and processor time and the peak
resident memory (wait4), and the largest difference of all values by frame.
"""
import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RATE = 44100
MEASURES = ("SDR", "ISR", "SIR", "SAR")


def make_signals(folder, sources, seconds):
    import numpy as np
    from scipy.io import wavfile
    from scipy.signal import lfilter
    rng = np.random.default_rng(1)
    count = int(seconds * RATE)
    references = []
    for s in range(sources):
        noise = 0.05 * rng.standard_normal((count, 2))
        noise += 0.3 * noise[:, ::-1]
        references.append(lfilter([1.0], [1.0, -0.9 + 0.15 * s], noise, axis=0).astype(np.float32))
    mixture = sum(references)
    for kind in ("references", "estimates"):
        (folder / kind).mkdir()
    for s, reference in enumerate(references):
        estimate = 0.8 * reference + 0.1 * mixture + 0.003 * rng.standard_normal((count, 2))
        wavfile.write(folder / f"references/{s}.wav", RATE, reference)
        wavfile.write(folder / f"estimates/{s}.wav", RATE, estimate.astype(np.float32))


def run_museval(metrics_file, folder, output):
    """What the peer's process does; metrics.py is loaded by itself to save the others' imports."""
    import numpy as np
    from scipy.io import wavfile
    spec = importlib.util.spec_from_file_location("museval_metrics", metrics_file)
    metrics = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(metrics)
    names = sorted(path.name for path in (folder / "references").iterdir())
    signals = [np.array([wavfile.read(folder / kind / name)[1] for name in names], dtype=float)
               for kind in ("references", "estimates")]
    values = metrics.bss_eval(*signals, window=RATE, hop=RATE, compute_permutation=False,
                              filters_len=512, framewise_filters=False)
    output.write_text(json.dumps({m: v.tolist() for m, v in zip(MEASURES, values)}))


def measure(command, threads):
    environment = dict(os.environ, OPENBLAS_NUM_THREADS=str(threads), OMP_NUM_THREADS=str(threads))
    start = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"bss_eval_peer: {command[0]} failed")
    return {"wall_s": round(wall, 3), "cpu_s": round(usage.ru_utime + usage.ru_stime, 3),
            "peak_mb": round(usage.ru_maxrss / 1024)}


def largest_difference(ours, peer):
    return max(abs(a - b) for m in MEASURES for rows in zip(ours[m], peer[m]) for a, b in zip(*rows))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--museval", required=True, type=Path)
    parser.add_argument("--binary", default=ROOT / "build/cpu/stemfabric", type=Path)
    parser.add_argument("--sources", default=4, type=int)
    parser.add_argument("--seconds", default=30.0, type=float)
    parser.add_argument("--threads", default=1, type=int)
    parser.add_argument("--rounds", default=3, type=int)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--peer-process", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    metrics_file = options.museval / "museval/metrics.py"
    if options.peer_process:
        run_museval(metrics_file, *options.peer_process)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_signals(folder, options.sources, options.seconds)
        ours_file, peer_file = folder / "ours.json", folder / "museval.json"
        commands = {
            "stemfabric": [str(options.binary), "bss-eval", "--references", str(folder / "references"),
                           "--estimates", str(folder / "estimates"), "--output", str(ours_file),
                           "--threads", str(options.threads)],
            "museval": [sys.executable, __file__, "--museval", str(options.museval),
                        "--peer-process", str(folder), str(peer_file)]}
        runs = {label: [] for label in commands}
        for _ in range(options.rounds):
            for label, command in commands.items():
                runs[label].append(measure(command, options.threads))
        difference = largest_difference(json.loads(ours_file.read_text())["museval_v4"],
                                        json.loads(peer_file.read_text()))
    result = {"sources": options.sources, "seconds": options.seconds, "threads": options.threads,
              "load_average": os.getloadavg()[0], "largest_difference_db": difference, "runs": runs}
    for label, rows in runs.items():
        print(label, "  ".join(f"{key}: min {min(r[key] for r in rows):g} "
                               f"median {statistics.median(r[key] for r in rows):g}"
                               for key in ("wall_s", "cpu_s", "peak_mb")))
    for key in ("wall_s", "cpu_s", "peak_mb"):
        ratios = [b[key] / a[key] for a, b in zip(runs["stemfabric"], runs["museval"])]
        print(f"museval / stemfabric, {key}: median {statistics.median(ratios):.1f}, "
              f"min {min(ratios):.1f}")
    print(f"largest difference of a value: {difference:.1e} dB")
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
