#!/usr/bin/env python3
"""Runs everything that a GPU machine can tell of this version; see scripts/gpu_check.sh.

A step that fails, or that takes too long, is recorded and the others go on. The report is written anew after
every step. SIGTERM and SIGINT end the step that runs, and the check with its report. Raw outputs stay beside
the report, in raw/ and packed in raw.tar.gz. Exit status: 0 all that ran passed; 1 something did not, runs that
must have the same bits differ, losses are too far from their reference, or the check was ended; 2 wrong use."""
import argparse
import ctypes
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
import tarfile
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import gtest_output
import plan as plans
import report

ROOT = pathlib.Path(__file__).resolve().parents[2]
GPU_FIELDS = ("name", "driver_version", "memory.total", "compute_cap", "power.limit", "clocks.max.sm")
LEAST_S = 5  # no step starts with less time left
PACK_EVERY_S = 30
LIBC = ctypes.CDLL(None)
# Of one program of tests, for what a broken test kept from running, by how its last process ended: one that hangs costs much.
MOST_PROCESSES = {"failed": 3, "timed out": 2}


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


def library_folders():
    """Those of CUDA's toolkits, then those of the wheels that PyTorch comes with (cuBLASLt, cuDNN, NCCL, ...)."""
    folders = [toolkit / "lib64" for toolkit in plans.toolkits()]
    for path in sys.path:
        folders += sorted(pathlib.Path(path or ".").glob("nvidia/*/lib"))
    return list(dict.fromkeys(str(folder.absolute()) for folder in folders if folder.is_dir()))


def environment():
    """Of our programs: tests must find the GPU, and libraries of wheels serve where none are installed."""
    env = dict(os.environ, STEMFABRIC_EXPECT_DEVICE="cuda")
    given = env.get("LD_LIBRARY_PATH")
    env["LD_LIBRARY_PATH"] = ":".join(([given] if given else []) + library_folders())
    return env


class Stop:
    """The signal that asked for an end, if any: it is looked at between steps and while one runs."""

    def __init__(self):
        self.signal = None

    def install(self):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self.ask)

    def ask(self, number, _frame):
        self.signal = signal.Signals(number).name


def lead_a_group():
    """In the child: it can be ended with what it starts, and does not outlive the check."""
    os.setpgid(0, 0)
    LIBC.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def end_group(process, patience_s=5):
    """Ends the step and what it started."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)
        except ProcessLookupError:
            return
        try:
            process.wait(timeout=patience_s)
        except subprocess.TimeoutExpired:
            pass


def wait_for(process, limit_s, stop):
    """Its exit status; None if the time is up, or the check is to end."""
    end = time.monotonic() + limit_s
    while stop.signal is None:
        try:
            return process.wait(timeout=max(0.0, min(0.2, end - time.monotonic())))
        except subprocess.TimeoutExpired:
            if time.monotonic() >= end:
                return None
    return None


def run_step(step, raw, env, limit_s, stop):
    """The record of a step that ran: how it ended and after how long."""
    record = {"name": step.name, "what": step.what, "command": step.command, "limit_s": round(limit_s)}
    begin = time.monotonic()
    try:
        out, err = open(raw / f"{step.name}.out", "wb"), open(raw / f"{step.name}.err", "wb")
    except OSError as error:
        return {**record, "outcome": "failed", "reason": str(error), "seconds": 0.0}
    with out, err:
        try:
            process = subprocess.Popen(step.command, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                                       env={**env, **step.env}, preexec_fn=lead_a_group)
        except OSError as error:
            return {**record, "outcome": "failed", "reason": f"{step.command[0]}: {error.strerror}", "seconds": 0.0}
        status = wait_for(process, limit_s, stop)
        end_group(process, 5 if stop.signal is None else 1)
    if status is not None:
        record.update(outcome="passed" if status == 0 else "failed", status=status)
        if status != 0:
            said = report.read(raw / f"{step.name}.err").strip().splitlines()[-1:]
            record["reason"] = ": ".join([f"exit status {status}" if status > 0 else f"ended by signal {-status}", *(x[:200] for x in said)])
    elif stop.signal:
        record.update(outcome="stopped", reason=f"the check was ended by {stop.signal}")
    else:
        record.update(outcome="timed out", reason=f"not done after {limit_s:.0f} s")
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


def why_not(step, records, raw, seconds_left, stop):
    """Why a step is left out, or None."""
    if stop.signal:
        return f"the check was ended by {stop.signal}"
    failed = [need for need in step.needs if records.get(need, {}).get("outcome") != "passed"]
    if failed:
        return f"needs {failed[0]}, which did not pass"
    if seconds_left < LEAST_S:
        return "the time was up"
    if step.name.startswith("sanitizer") and shutil.which(step.command[0]) is None:
        return f"no {step.command[0]} on PATH or in a CUDA toolkit, with which it comes"
    found = report.doctor_finding(raw, step.library) if step.library else None
    if found is not None and not found[:1].isdigit():  # else it begins with a version
        return f"no {step.library}: {found}"
    return None


def rest_of_tests(step, record, raw, number):
    """The step for tests that one which broke something kept from running, or None."""
    if step.kind != "gtest" or number >= MOST_PROCESSES.get(record["outcome"], 0):
        return None
    command = gtest_output.rest_of(step.command, report.read(raw / f"{step.name}.out"))
    if command is None:
        return None
    name = f"{step.name.split('+')[0]}+{number}"
    command = [f"--gtest_output=json:{raw}/{name}.json" if x.startswith("--gtest_output=") else x for x in command]
    return step._replace(name=name, what=f"what {step.name} left over", command=command)


def run_plan(steps, raw, env, seconds, say, stop=None, after=lambda: None):
    """The records of all steps; raw/steps.json is whole after each, and `after` is called after those that ran."""
    stop = stop or Stop()
    end = time.monotonic() + seconds
    records = {}

    def run(step):
        left = end - time.monotonic()
        reason = why_not(step, records, raw, left, stop)
        if reason:
            record = {"name": step.name, "what": step.what, "command": step.command, "outcome": "skipped", "reason": reason}
        else:
            record = run_step(step, raw, dict(os.environ) if step.kind == "peer" else env, min(step.limit_s, left), stop)
            if step.run and record["outcome"] == "passed":
                keep_run(step, raw, record)
        records[step.name] = record
        say(f"{record['outcome']:<9} {step.name:<34} {record.get('seconds', 0):6.1f} s  {record.get('reason', '')}")
        try:
            write_whole(raw / "steps.json", json.dumps(list(records.values()), indent=1))
        except OSError as error:
            say(f"gpu_check: {error}")
        if not reason:
            after()
        return record

    for step in steps:
        number = 0
        while step is not None:
            record = run(step)
            number += 1
            step = rest_of_tests(step, record, raw, number)
    return list(records.values())


def write_whole(path, text):
    """Never half of it, whenever the check is killed."""
    beside = path.with_name(path.name + ".partial")
    beside.write_text(text)
    beside.rename(path)


def say(line):
    try:
        print(line, flush=True)
    except OSError:  # nobody listens any more
        pass


class Keeper:
    """Keeps the folder telling all that is known: after every step, for the check may be killed in the next."""

    def __init__(self, folder, raw, head):
        self.folder, self.raw, self.head, self.packed_at = folder, raw, head, time.monotonic()

    def state(self, state):
        write_whole(self.raw / "machine.json", json.dumps({**self.head, "state": state}, indent=1))

    def update(self, pack=False):
        """The report's results, or None if it could not be made."""
        results = None
        try:
            results = report.write(self.folder, self.raw)
            if pack or time.monotonic() - self.packed_at > PACK_EVERY_S:
                self.pack()
                self.packed_at = time.monotonic()
        except Exception as error:  # an output that nobody foresaw, a full disk: the steps go on
            print(f"gpu_check: no report: {type(error).__name__}: {error}", file=sys.stderr)
        return results

    def pack(self):
        """All outputs in one file, so that three are all there is to fetch."""
        beside = self.folder / "raw.tar.gz.partial"
        with tarfile.open(beside, "w:gz") as archive:
            archive.add(self.raw, "raw")
        beside.rename(self.folder / "raw.tar.gz")


def parse_arguments(arguments):
    parser = argparse.ArgumentParser(prog="gpu_check.sh", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions, one sanitizer; 4 minutes")
    parser.add_argument("--minutes", type=float, help="most time for all steps (default: 8; 4 with --quick)")
    parser.add_argument("--only", default="", metavar="REGEX", help="only steps whose names match, and what they need")
    parser.add_argument("--build", metavar="DIR", help="programs of this build folder (default: bin/ of the package, else build/cuda)")
    parser.add_argument("--output-dir", metavar="DIR", help="default: benchmarks/results/<device>/<date>-<revision>")
    parser.add_argument("--raw-dir", metavar="DIR", help="an empty folder for raw/, so that only three files are in the other")
    parser.add_argument("--list", action="store_true", help="print what would run, and end")
    options = parser.parse_args(arguments)
    if options.minutes is None:
        options.minutes = 4.0 if options.quick else 8.0
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
    if any(step.library for step in steps if step.name in wanted):
        wanted.add("doctor")
    for step in reversed(steps):
        if step.name in wanted:
            wanted.update(step.needs)
    return [step for step in steps if step.name in wanted]


def list_steps(steps, options, programs):
    say(f"At most {options.minutes:g} minutes, with the programs of {programs.describe()}:")
    for step in steps:
        variables = [f"{key}={value}" for key, value in step.env.items()]
        say(f"{step.name:<34} {step.limit_s:>4} s  {step.what}\n{'':<42} {' '.join(variables + step.command)}")


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
    folder = folder.resolve()
    raw = pathlib.Path(options.raw_dir).resolve() if options.raw_dir else folder / "raw"
    for each in (folder, raw):
        each.mkdir(parents=True, exist_ok=True)
    if any(raw.iterdir()):
        print(f"gpu_check: {raw} is not empty: outputs of another check would be told as of this one. Give an empty folder.",
              file=sys.stderr)
        return 2
    head = {"gpu": gpu, "revision": revision, "date": now.isoformat(timespec="seconds"), "programs": programs.describe(),
            "quick": options.quick, "minutes": options.minutes, "cpu_threads": os.cpu_count()}
    print(f"{gpu['name']}, driver {gpu['driver_version']}; {programs.describe()}, revision {revision}", flush=True)
    return check(folder, raw, head, programs, options)


def check(folder, raw, head, programs, options):
    """Runs the steps and keeps the report; the exit status."""
    stop, keeper = Stop(), Keeper(folder, raw, head)
    keeper.state("not finished")
    stop.install()
    with tempfile.TemporaryDirectory(prefix="gpu_check-") as work:
        steps = choose(plans.make_plan(programs, str(raw), work, options.quick), options.only)
        records = run_plan(steps, raw, environment(), 60 * options.minutes, say, stop, keeper.update)
    keeper.state(f"ended by {stop.signal}" if stop.signal else "finished")
    results = keeper.update(pack=True)
    if results is None:
        return 1
    say(f"\n{report.markdown(results)}\n{folder}/results.json")
    fine = all(record["outcome"] in ("passed", "skipped") for record in records)
    return 0 if fine and not results["findings"] and not stop.signal else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
