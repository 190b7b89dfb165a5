#!/usr/bin/env python3
"""Runs everything that a GPU machine can tell of this version; see scripts/gpu_check.sh.

A step that fails, or that takes too long, is recorded and the others go on. Raw outputs stay beside
the report, in raw/. Exit status: 0 all that ran passed; 1 something did not; 2 wrong use."""
import argparse
import datetime
import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import plan as plans
import report

ROOT = pathlib.Path(__file__).resolve().parents[2]
GPU_FIELDS = ("name", "driver_version", "memory.total", "compute_cap", "power.limit", "clocks.max.sm")
LEAST_S = 5  # no step starts with less time left


def find_gpu():
    """What nvidia-smi says of the first GPU, or a sentence why there is none."""
    try:
        done = subprocess.run(["nvidia-smi", f"--query-gpu={','.join(GPU_FIELDS)}", "--format=csv,noheader"],
                              capture_output=True, text=True, check=False, timeout=60)
    except FileNotFoundError:
        return None, "no nvidia-smi: NVIDIA's driver is not installed here"
    except subprocess.TimeoutExpired:
        return None, "nvidia-smi does not answer"
    lines = done.stdout.strip().splitlines()
    if done.returncode != 0 or not lines:
        return None, f"nvidia-smi: {(done.stderr or done.stdout).strip() or 'no GPU is listed'}"
    return dict(zip(GPU_FIELDS, (value.strip() for value in lines[0].split(",")))), None


def revision_of(root):
    """Of the package, else of the clone."""
    stamp = root / "REVISION"
    if stamp.is_file():
        return stamp.read_text().strip()
    done = subprocess.run(["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=10", "--exclude=*"],
                          capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def environment():
    """Tests must find the GPU; PyTorch's own cuBLASLt of CUDA 13 serves where no toolkit is installed."""
    env = dict(os.environ, STEMFABRIC_EXPECT_DEVICE="cuda")
    folders = [f for path in sys.path for f in pathlib.Path(path or ".").glob("nvidia/cu13/lib") if f.is_dir()]
    env["LD_LIBRARY_PATH"] = ":".join([x for x in [env.get("LD_LIBRARY_PATH")] if x] + [str(f) for f in folders])
    return env


def end_group(process):
    """Ends the step and what it started."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)
        except ProcessLookupError:
            return
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            pass


def run_step(step, raw, env, limit_s):
    """The record of a step that ran: how it ended and after how long."""
    record = {"name": step.name, "what": step.what, "command": step.command, "limit_s": round(limit_s)}
    begin = time.monotonic()
    with open(raw / f"{step.name}.out", "wb") as out, open(raw / f"{step.name}.err", "wb") as err:
        try:
            process = subprocess.Popen(step.command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=env,
                                       start_new_session=True)
        except OSError as error:
            return {**record, "outcome": "failed", "reason": f"{step.command[0]}: {error.strerror}", "seconds": 0.0}
        try:
            status = process.wait(timeout=limit_s)
            record.update(outcome="passed" if status == 0 else "failed", status=status)
            if status != 0:
                record["reason"] = f"exit status {status}" if status > 0 else f"ended by signal {-status}"
        except subprocess.TimeoutExpired:
            record.update(outcome="timed out", reason=f"not done after {limit_s:.0f} s")
        finally:
            end_group(process)
    return {**record, "seconds": round(time.monotonic() - begin, 2)}


def keep_run(step, raw, record):
    """Of a training run: its losses, and a hash that tells whether two runs ended with the same bits."""
    run = pathlib.Path(step.run)
    try:
        shutil.copyfile(run / "metrics.jsonl", raw / f"{step.name}.jsonl")
        weights = hashlib.sha256((run / "final_model.safetensors").read_bytes()).hexdigest()
        (raw / f"{step.name}.sha256").write_text(weights + "\n")
    except OSError as error:
        record.update(outcome="failed", reason=str(error))


def why_not(step, records, seconds_left):
    """Why a step is left out, or None."""
    failed = [need for need in step.needs if records.get(need, {}).get("outcome") != "passed"]
    if failed:
        return f"needs {failed[0]}, which did not pass"
    if seconds_left < LEAST_S:
        return "the time was up"
    if step.name.startswith("sanitizer") and shutil.which(step.command[0]) is None:
        return f"no {step.command[0]} on PATH (it comes with the CUDA toolkit)"
    return None


def run_plan(steps, raw, env, seconds, say):
    end = time.monotonic() + seconds
    records = {}
    for step in steps:
        left = end - time.monotonic()
        reason = why_not(step, records, left)
        if reason:
            record = {"name": step.name, "what": step.what, "command": step.command, "outcome": "skipped", "reason": reason}
        else:
            record = run_step(step, raw, env, min(step.limit_s, left))
            if step.run and record["outcome"] == "passed":
                keep_run(step, raw, record)
        records[step.name] = record
        say(f"{record['outcome']:<9} {step.name:<22} {record.get('seconds', 0):6.1f} s  {record.get('reason', '')}")
        # After each step, so that a check which is killed has told what it knew.
        (raw / "steps.json").write_text(json.dumps(list(records.values()), indent=1))
    return list(records.values())


def parse_arguments(arguments):
    parser = argparse.ArgumentParser(prog="gpu_check.sh", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tests first, fewer repetitions, one sanitizer; 6 minutes")
    parser.add_argument("--minutes", type=float, help="most time for all steps (default: 12; 6 with --quick)")
    parser.add_argument("--only", default="", metavar="REGEX", help="only steps whose names match, and what they need")
    parser.add_argument("--build", metavar="DIR", help="programs of this build folder (default: bin/ of the package, else build/cuda)")
    parser.add_argument("--output-dir", metavar="DIR", help="default: benchmarks/results/<device>/<date>-<revision>")
    parser.add_argument("--list", action="store_true", help="print what would run, and end")
    options = parser.parse_args(arguments)
    if options.minutes is None:
        options.minutes = 6.0 if options.quick else 12.0
    if not 0 < options.minutes <= 24 * 60:
        parser.error("--minutes: give a number above 0")
    try:
        re.compile(options.only)
    except re.error as error:
        parser.error(f"--only: {error}")
    return options


def choose(steps, pattern):
    """The steps that match, with those that they need, in order."""
    wanted = {step.name for step in steps if re.search(pattern, step.name)}
    for step in reversed(steps):
        if step.name in wanted:
            wanted.update(step.needs)
    return [step for step in steps if step.name in wanted]


def list_steps(steps, options, programs):
    print(f"At most {options.minutes:g} minutes, with the programs of {programs.describe()}:")
    for step in steps:
        print(f"{step.name:<22} {step.limit_s:>4} s  {step.what}\n{'':<30} {' '.join(step.command)}")


def main(arguments):
    options = parse_arguments(arguments)
    programs = plans.Programs(ROOT, options.build)
    if options.list:
        list_steps(choose(plans.make_plan(programs, "RAW", "WORK", options.quick), options.only), options, programs)
        return 0
    gpu, reason = find_gpu()
    if gpu is None:
        print(f"gpu_check: there is no GPU here ({reason}). Nothing was run or written; --list shows what would run.",
              file=sys.stderr)
        return 1
    if programs.missing():
        print(f"gpu_check: {programs.describe()} lacks {', '.join(programs.missing())}. Unpack the package of "
              "scripts/package.sh and run the gpu_check.sh in it, or build: cmake --preset cuda && cmake --build --preset cuda",
              file=sys.stderr)
        return 2
    now, revision = datetime.datetime.now(datetime.timezone.utc), revision_of(ROOT)
    device = re.sub(r"[^A-Za-z0-9]+", "-", gpu["name"]).strip("-").lower()
    folder = pathlib.Path(options.output_dir) if options.output_dir else (
        ROOT / "benchmarks/results" / device / f"{now:%Y-%m-%d-%H%M}-{revision}")
    raw = folder.resolve() / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    head = {"gpu": gpu, "revision": revision, "date": now.isoformat(timespec="seconds"), "programs": programs.describe(),
            "quick": options.quick, "minutes": options.minutes, "cpu_threads": os.cpu_count()}
    (raw / "machine.json").write_text(json.dumps(head, indent=1))
    print(f"{gpu['name']}, driver {gpu['driver_version']}; {programs.describe()}, revision {revision}", flush=True)
    with tempfile.TemporaryDirectory(prefix="gpu_check-") as work:
        steps = choose(plans.make_plan(programs, str(raw), work, options.quick), options.only)
        records = run_plan(steps, raw, environment(), 60 * options.minutes, lambda line: print(line, flush=True))
    text = report.write(folder)
    print(f"\n{text}\n{folder}/results.json")
    return 0 if all(record["outcome"] in ("passed", "skipped") for record in records) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
