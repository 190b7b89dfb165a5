#!/usr/bin/env python3
"""Trains the same thing with several settings, and says which came out best (docs/scaling.md#sweeps).

A file of trials has one per line: settings as key=value with spaces between, as for `stemfabric train --set`.
  training.lr=3e-4 model.depth=2
  training.lr=1e-3 loss.stem_weights="[2, 1, 1, 1, 1, 1]"     # quotes as in a shell; from # on nothing counts

  sweep.py check  --trials FILE --output-dir OUT --dataset-dir D --config C    is every line valid?
  sweep.py submit …the same…        checks, then trains each line as a task of a Slurm array job
  sweep.py run    …the same…        checks, then trains one line after the other, here
  sweep.py table OUT                writes OUT/results.md and OUT/results.csv; at any time

The same command again goes on with what is not done yet. Exit status: 0 done; 1 a trial failed; 2 usage or a line
that is not valid; 75 stopped by a signal, run it again. STEMFABRIC names the program (default: the one on PATH)."""
import argparse
import csv
import fcntl
import io
import json
import os
import pathlib
import shlex
import socket
import subprocess
import sys

import script_support as support
from script_support import DONE, FAILED, STOPPED, USAGE, Failure

FORMAT, VERSION = "stemfabric-sweep", 1
AGAIN = (STOPPED, 76)  # exit statuses of a training that goes on when it is run again; so do those above 128


class Sweep:
    """The folder of a sweep: sweep.json says what it trains; trial-NNN are its run folders."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder).resolve()
        self.file = self.folder / "sweep.json"
        self.plan = None
        if self.file.exists():
            self.plan = support.read_versioned(self.file, FORMAT, VERSION)

    def require_plan(self):
        if self.plan is None:
            raise Failure(f"{self.folder}: holds no sweep (no sweep.json); make one with `sweep.py submit` or `run`",
                          USAGE)
        return self.plan

    def run_folder(self, number):
        return self.folder / f"trial-{number:03d}"

    def log(self, number):
        return self.folder / "logs" / f"trial-{number:03d}.log"

    def status_file(self, number):
        return self.folder / "status" / f"trial-{number:03d}.json"

    def is_done(self, number):
        return (self.run_folder(number) / "training_summary.json").exists()

    def has_begun(self, number):
        return (self.run_folder(number) / "checkpoints").exists()


def read_trials(path):
    """[(line number, [key=value, …])]; Failure that names each line which is none."""
    try:
        lines = pathlib.Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise Failure(f"{path}: cannot be read ({error})", USAGE) from error
    trials, wrong = [], []
    for number, line in enumerate(lines, 1):
        try:
            words = shlex.split(line, comments=True)
        except ValueError as error:
            wrong.append(f"{path}, line {number}: {error}")
            continue
        if not words:
            continue
        for word in words:
            key, equals, value = word.partition("=")
            if not (key and equals and value) or key.startswith("-"):
                wrong.append(f"{path}, line {number}: '{word}' is no key=value, such as training.lr=3e-4")
        for earlier, others in trials:
            if others == words:
                wrong.append(f"{path}, line {number}: is the same as line {earlier}")
        trials.append((number, words))
    if not wrong and not trials:
        wrong.append(f"{path}: holds no trial; each line is one, such as training.lr=3e-4 model.depth=2")
    refuse(wrong)
    return trials


def refuse(wrong):
    if wrong:
        raise Failure("\n".join(wrong), USAGE)


def check(options):
    """The sweep with its plan as the options say it; nothing is written. Failure that names everything wrong."""
    trials = read_trials(options.trials)
    if not options.dataset_dir.is_dir():
        raise Failure(f"--dataset-dir {options.dataset_dir}: no such folder; make a data set with `stemfabric dataset`",
                      USAGE)
    base = support.printed_configuration(options.config, options.set)
    sweep = Sweep(options.output_dir)
    wrong = []
    for number, (line, words) in enumerate(trials, 1):
        problem = trial_problem(options, words, sweep.run_folder(number))
        if problem:
            wrong.append(f"{options.trials}, line {line}: {problem}")
    refuse(wrong)
    plan = {"format": FORMAT, "version": VERSION,
            "config": str(options.config.resolve()) if options.config else None,
            "set": options.set, "datasetDir": str(options.dataset_dir.resolve()),
            "configuration": base, "trials": [words for _, words in trials]}
    if sweep.plan is not None:
        refuse_other_plan(sweep, plan, options.trials)
    sweep.plan = plan
    return sweep


def trial_problem(options, words, run_folder):
    """What stemfabric says against a line; None if nothing."""
    settings = options.set + words
    try:
        support.printed_configuration(options.config, settings)
    except Failure as failure:
        return str(failure)
    if not options.dry_run:
        return None
    argv = support.program() + ["train", "--dry-run", "--quiet", "--output-dir", str(run_folder), "--dataset-dir",
                                str(options.dataset_dir), *support.config_arguments(options.config, settings)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else support.error_of(done.stderr) or f"exit status {done.returncode}"


def refuse_other_plan(sweep, plan, trials):
    """What was begun goes on as it was begun, else the table would compare what is not the same."""
    old = sweep.plan
    begun = [n for n in range(1, len(old["trials"]) + 1) if sweep.has_begun(n)]
    wrong = []
    for number in begun:
        before = shlex.join(old["trials"][number - 1])
        now = shlex.join(plan["trials"][number - 1]) if number <= len(plan["trials"]) else "not there"
        if before != now:
            wrong.append(f"{trials}: trial {number} is {now}, but {sweep.run_folder(number)} was trained with {before}; "
                         "put it back, and add other settings as new lines at the end, or use another --output-dir")
    if begun:
        keys = [key for key in plan["configuration"] if plan["configuration"][key] != old["configuration"].get(key)]
        wrong += [f"{key} is {plan['configuration'][key]}, but the trials in {sweep.folder} were begun with "
                  f"{old['configuration'].get(key)}; set it back or use another --output-dir" for key in keys]
        if plan["datasetDir"] != old["datasetDir"]:
            wrong.append(f"--dataset-dir: the trials in {sweep.folder} were begun with {old['datasetDir']}; give that or "
                         "use another --output-dir")
    refuse(wrong)


def write_plan(sweep):
    for folder in ("logs", "status"):
        (sweep.folder / folder).mkdir(parents=True, exist_ok=True)
    support.write_sealed(sweep.file, sweep.plan)


def training_arguments(sweep, number):
    plan = sweep.plan
    return ["train", "--output-dir", str(sweep.run_folder(number)), "--dataset-dir", plan["datasetDir"],
            *support.config_arguments(plan["config"], plan["set"] + plan["trials"][number - 1])]


def task_of_slurm():
    """Under the name by which squeue knows it, queued or running; None outside of Slurm."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else os.environ.get("SLURM_JOB_ID")


def train(sweep, number, launcher, runner):
    """Trains a trial, its output into its log, and writes what became of it; its exit status."""
    status = {"state": "running", "host": socket.gethostname(), "process": os.getpid(),
              "job": task_of_slurm(), "startedAt": support.now()}
    support.write_json(sweep.status_file(number), status)
    try:
        code, why = run_training(sweep, number, launcher, runner)
    except Failure as failure:
        print(f"sweep.py: error: {failure}", file=sys.stderr)
        code, why = failure.status, str(failure)
    again = code in AGAIN or code > 128
    if code != 0 and not why and not again:
        why = f"exit status {code}; see {sweep.log(number)}"
    support.write_json(sweep.status_file(number), {
        **status, "state": "done" if code == 0 else "stopped" if again else "failed", "endedAt": support.now(),
        "exitStatus": code, "why": why})
    return code


def run_training(sweep, number, launcher, runner):
    """Exit status, and the error that the training ended with."""
    plan = sweep.plan
    if support.printed_configuration(plan["config"], plan["set"]) != plan["configuration"]:
        raise Failure(f"{plan['config']} has changed since the sweep was begun; put it back, or use another --output-dir",
                      USAGE)
    with open(sweep.log(number), "ab") as log:
        begin = log.tell()
        code, _, _ = runner.run(launcher + support.program() + training_arguments(sweep, number), stdout=log,
                                stderr=subprocess.STDOUT)
    with open(sweep.log(number), "rb") as log:
        log.seek(begin)
        return code, support.error_of(log.read().decode(errors="replace"))


def remaining(sweep):
    """The trials that are neither done nor at work."""
    rows = [result_of(sweep, number) for number in range(1, len(sweep.plan["trials"]) + 1)]
    for states, what in ((("done",), "done already"), (("running", "queued"), "running or in the queue")):
        count = sum(row["status"] in states for row in rows)
        if count:
            print(f"{count} of {len(rows)} trials are {what}")
    return [row["trial"] for row in rows if row["status"] not in ("done", "running", "queued")]


def check_command(options):
    sweep = check(options)
    for number, words in enumerate(sweep.plan["trials"], 1):
        print(f"trial {number}: {shlex.join(words)}")
    print(f"{len(sweep.plan['trials'])} trials, all valid" + ("" if options.dry_run else
          "; --dry-run also tries a step of each"))
    return DONE


def run_command(options):
    sweep = check(options)
    write_plan(sweep)
    lock = support.FolderLock(sweep.folder, "another `sweep.py run`")
    runner = support.Runner()
    failed = 0
    try:
        for number in remaining(sweep):
            print(f"trial {number}: {shlex.join(sweep.plan['trials'][number - 1])}", flush=True)
            code = train(sweep, number, support.launcher(options.launcher), runner)
            runner.require_not_stopped()
            failed += code != 0
    finally:
        rows = write_table(sweep)
        lock.release()
    print(table_text(rows))
    return FAILED if failed else DONE


def submit_command(options):
    sweep = check(options)
    rest = remaining(sweep)
    if not rest:
        print(table_text(write_table(sweep)))
        return DONE
    write_plan(sweep)
    scripts = pathlib.Path(__file__).resolve().parent
    array = ",".join(map(str, rest)) + (f"%{options.at_once}" if options.at_once else "")
    argv = ["sbatch", "--parsable", f"--array={array}", f"--output={sweep.folder}/logs/trial-%3a.log", *options.sbatch,
            str(scripts / "slurm" / "sweep.sbatch"), str(scripts), str(sweep.folder)]
    before = {number: status_of(sweep, number) for number in rest}
    try:
        done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=False)
    except FileNotFoundError as error:
        raise Failure("there is no sbatch here; `sweep.py run` trains without Slurm", USAGE) from error
    if done.returncode != 0:
        raise Failure(f"sbatch ended with exit status {done.returncode}: {shlex.join(argv)}")
    job = done.stdout.strip().partition(";")[0]
    for number in rest:
        if status_of(sweep, number) == before[number]:  # else it has begun already
            support.write_json(sweep.status_file(number), {"state": "queued", "job": f"{job}_{number}"})
    print(f"job {job}: trials {array}\nresults, at any time: {pathlib.Path(__file__)} table "
          f"{sweep.folder}")
    return DONE


def trial_command(options):
    sweep = Sweep(options.folder)
    sweep.require_plan()
    if not 1 <= options.number <= len(sweep.plan["trials"]):
        raise Failure(f"{sweep.file}: has trials 1 to {len(sweep.plan['trials'])}, not {options.number}", USAGE)
    if sweep.is_done(options.number):
        return DONE
    try:
        return train(sweep, options.number, support.launcher(options.launcher), support.Runner())
    finally:
        write_table(sweep)


def table_command(options):
    sweep = Sweep(options.folder)
    sweep.require_plan()
    print(table_text(write_table(sweep, options.by)))
    return DONE


def status_of(sweep, number):
    file = sweep.status_file(number)
    return support.read_json(file) if file.exists() else None


def state_of(status, begun):
    """What a status file says, if that is still true: whoever was killed could not write that it ended, and a job
    that stopped may be in the queue again."""
    state = status["state"]
    if state in ("done", "failed"):
        return state
    if not status["job"]:
        here = status["host"] == socket.gethostname()
        return "stopped" if here and not pathlib.Path(f"/proc/{status['process']}").exists() else state
    try:
        asked = subprocess.run(["squeue", "--noheader", "--format=%T", f"--jobs={status['job']}"], capture_output=True,
                               text=True, check=False)
    except FileNotFoundError:
        return state  # as far as one can tell from here
    if asked.returncode != 0 and "Invalid job id" not in asked.stderr:
        return state
    return {"PENDING": "queued", "REQUEUED": "queued", "RUNNING": "running", "CONFIGURING": "running",
            "COMPLETING": "running"}.get(asked.stdout.strip(), "stopped" if begun else "not begun")


def result_of(sweep, number):
    """A row of the table."""
    row = {"trial": number, "status": "not begun", "why": "", "loss": None, "sdr": None, "best_epoch": None, "epochs": 0,
           "seconds": 0.0, "settings": sweep.plan["trials"][number - 1]}
    folder = sweep.run_folder(number)
    status = status_of(sweep, number)
    if status is not None:
        row["status"] = state_of(status, sweep.has_begun(number))
        row["why"] = status.get("why", "")
    elif sweep.has_begun(number):
        row["status"] = "stopped"
    epochs = folder / "epochs.jsonl"
    if epochs.exists():
        read_epochs(epochs.read_text(encoding="utf-8"), row)
    if sweep.is_done(number):
        summary = support.read_json(folder / "training_summary.json")
        row.update(status="done", why=summary["end"], seconds=summary["seconds"], epochs=summary["epochs"])
    return row


def read_epochs(text, row):
    """Of the epoch with the lowest loss, whose weights are kept: of validation, or of training where there is none."""
    for line in text.splitlines():
        try:
            epoch = json.loads(line)
        except ValueError:
            continue  # the last line while it is being written
        if epoch["kind"] != "epoch":
            continue
        row["epochs"] = epoch["epoch"]
        row["seconds"] += sum(epoch["seconds"].values())
        loss = epoch.get("val_loss", epoch["train_loss"])
        if loss is not None and (row["loss"] is None or loss < row["loss"]):
            row.update(loss=loss, sdr=epoch.get("val_sdr"), best_epoch=epoch["epoch"])


def write_table(sweep, by="loss"):
    """results.md and results.csv, best first. Under a lock: whoever writes last has seen what all others did."""
    with open(sweep.folder / ".table-lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        rows = [result_of(sweep, number) for number in range(1, len(sweep.plan["trials"]) + 1)]

        def place(row):
            value = row["loss"] if by == "loss" or row["sdr"] is None else -row["sdr"]
            return (row["status"] == "failed", value is None, value or 0.0, row["trial"])
        rows.sort(key=place)
        support.write_text(sweep.folder / "results.csv", csv_text(rows))
        support.write_text(sweep.folder / "results.md", f"{table_text(rows)}\n")
    return rows


def csv_text(rows):
    keys = sorted({word.partition("=")[0] for row in rows for word in row["settings"]})
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["trial", "status", "why", "best_loss", "sdr_db", "best_epoch", "epochs", "seconds", *keys])
    for row in rows:
        settings = dict(word.split("=", 1) for word in row["settings"])
        cells = [row["loss"], row["sdr"], row["best_epoch"], row["epochs"], round(row["seconds"], 3)]
        writer.writerow([row["trial"], row["status"], row["why"], *("" if c is None else c for c in cells),
                         *(settings.get(key, "") for key in keys)])
    return out.getvalue()


def duration(seconds):
    if seconds < 60:
        return f"{seconds:.1f} s"
    seconds = round(seconds)
    return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def table_text(rows):
    """Markdown that is also read as it is."""
    head = ["trial", "status", "best loss", "SDR dB", "at epoch", "epochs", "time", "settings", "why"]
    lines = [head] + [[
        str(row["trial"]), row["status"],
        "" if row["loss"] is None else f"{row['loss']:.6g}", "" if row["sdr"] is None else f"{row['sdr']:.2f}",
        str(row["best_epoch"] or ""), str(row["epochs"] or ""), duration(row["seconds"]) if row["seconds"] else "",
        shlex.join(row["settings"]), row["why"]] for row in rows]
    if all(row["sdr"] is None for row in rows):
        lines = [line[:3] + line[4:] for line in lines]
    lines = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    text = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |" for line in lines]
    return "\n".join([text[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *text[1:]])


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, run, what in (("check", check_command, "is every line valid? writes nothing"),
                            ("run", run_command, "trains one line after the other, here"),
                            ("submit", submit_command, "trains each line as a task of a Slurm array job")):
        command = commands.add_parser(name, help=what, description=what)
        command.set_defaults(run=run)
        command.add_argument("--trials", required=True, metavar="FILE", help="one trial per line")
        command.add_argument("--output-dir", required=True, metavar="OUT", type=pathlib.Path,
                             help="gets sweep.json, trial-NNN, logs, results")
        command.add_argument("--dataset-dir", required=True, metavar="DIR", type=pathlib.Path,
                             help="folder made by `stemfabric dataset`")
        command.add_argument("--config", metavar="FILE", type=pathlib.Path, help="configuration of all trials")
        command.add_argument("--set", metavar="KEY=VALUE", action="append", default=[],
                             help="setting of all trials (may be repeated); those of a line come after it")
        command.add_argument("--dry-run", action="store_true",
                             help="before anything else tries one step of each trial, on this machine")
    commands.choices["run"].add_argument("--launcher", metavar="COMMAND",
                                         help='what starts the ranks of a trial: "mpirun -n 4 --bind-to none"')
    submit = commands.choices["submit"]
    submit.add_argument("--at-once", type=int, metavar="K", help="at most so many trials run at the same time")
    submit.add_argument("--sbatch", metavar="OPTION", action="append", default=[],
                        help="option for sbatch (may be repeated): --sbatch=--ntasks=4 --sbatch=--time=08:00:00")
    table = commands.add_parser("table", help="writes the table of results, as far as they are there")
    table.add_argument("folder", metavar="OUT")
    table.add_argument("--by", choices=("loss", "sdr"), default="loss",
                       help="what comes first: lowest loss, or highest SDR of a validation on audio (default: loss)")
    table.set_defaults(run=table_command)
    trial = commands.add_parser("trial", help="trains one trial of OUT: what the tasks of the array job call")
    trial.add_argument("folder", metavar="OUT")
    trial.add_argument("number", type=int, metavar="N")
    trial.add_argument("--launcher", metavar="COMMAND")
    trial.set_defaults(run=trial_command)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    options = parse(sys.argv[1:])
    support.main(lambda: options.run(options))
