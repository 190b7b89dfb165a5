#!/usr/bin/env python3
"""Continuous learning: one round takes the snapshots that are new, trains on from the current model, and promotes
the result if it is better on records that never train (docs/continuous.md).

  continuous.py --folder F --input SNAPSHOTS --config C    a round; the same command again goes on after a stop
  continuous.py --folder F --status                        which model is current, and how it came to be

SNAPSHOTS: a folder of *.json and *.jsonl, or the store of `stemfabric ingest`, which is read from where the last round
ended. F/registry.json says which model is current. Exit status: 0 a round was done, promoted or not, or nothing was
new; 2 usage; 3 input data; 75 stopped by a signal, run it again; else that of the command that failed. STEMFABRIC
names the program (default: the one on PATH)."""
import argparse
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import script_support as support
from script_support import DONE, INPUT, USAGE, Failure

FORMAT, VERSION = "stemfabric-registry", 1
METRICS = ("sdr", "sir", "sar", "overall")
# Of the configuration: what decides the form of tokens and targets, so that models stay comparable.
DATA_KEYS = ("data.snapshot_targets", "features.layout", "features.time_bins", "features.packed_width")
DATASET_OPTIONS = {"data.snapshot_targets": "--targets", "features.layout": "--layout",
                   "features.time_bins": "--time-bins", "features.packed_width": "--packed-width",
                   "loss.correction_weight": "--correction-weight", "data.train_ratio": "--train-ratio",
                   "data.split_seed": "--seed"}


def is_held_out(record_id, seed, share):
    """Whether a record is kept from training for ever: a hash of seed and id, as the split of a data set, but with
    another text before it, so that the two are independent."""
    digits = hashlib.sha256(f"held-out:{seed}:{record_id}".encode()).hexdigest()
    return (int(digits[:16], 16) >> 11) * 2.0**-53 < share


def id_of(line):
    """Of a sanitised record: its line begins {"id":"64 digits"."""
    return line[7:71]


class Folder:
    """Where everything lies."""

    def __init__(self, root):
        self.root = pathlib.Path(root).resolve()
        self.registry = self.root / "registry.json"
        self.models = self.root / "models"
        self.records = self.root / "records"
        self.validation = self.root / "validation"
        self.rounds = self.root / "rounds"

    def round(self, number):
        return self.rounds / f"{number:04d}"

    def piece(self, number):
        """Records that round `number` found new, and, written after them, what is known of them."""
        return self.records / f"{number:04d}.jsonl", self.records / f"{number:04d}.json"

    def model(self, number):
        return self.models / f"round-{number:04d}.safetensors"


def read_registry(folder):
    """None before the first round."""
    if not folder.registry.exists():
        if folder.rounds.exists():
            raise Failure(f"{folder.registry}: is missing, but there are rounds beside it; restore it from a backup, or "
                          "choose another --folder", INPUT)
        return None
    return support.read_versioned(folder.registry, FORMAT, VERSION)


def require_whole(folder, registry):
    """The current model and the validation records are those that the registry speaks of."""
    current = registry["current"]
    for what, file, digits in (("the current model", current and current["model"], current and current["sha256"]),
                               ("the manifest of the validation records", "validation/manifest.json",
                                registry["validation"]["manifestSha256"])):
        if file is None:
            continue
        path = folder.root / file
        if not path.is_file():
            raise Failure(f"{path}: {what} is missing; restore it from a backup (its SHA-256 is {digits})", INPUT)
        if support.sha256_of(path) != digits:
            raise Failure(f"{path}: {what} was changed or damaged; restore it from a backup (its SHA-256 is {digits})",
                          INPUT)


class Round:
    """One round. Every stage leaves its result whole or not at all and is passed over if that is there, so a round
    that was ended anywhere goes on by doing all again."""

    def __init__(self, options, folder, runner, lock):
        self.options = options
        self.folder = folder
        self.runner = runner
        self.keep = () if lock is None else (lock.handle,)
        self.registry = read_registry(folder)
        self.number = len(self.registry["rounds"]) + 1 if self.registry else 1
        self.here = folder.round(self.number)
        self.configuration = support.printed_configuration(options.config, options.set)
        known = self.registry["data"] if self.registry else {}
        self.data = {
            **{key: self.configuration[key] for key in DATA_KEYS},
            "heldOut": known.get("heldOut", 0.2) if options.held_out is None else options.held_out,
            "seed": known.get("seed", 0) if options.seed is None else options.seed,
            "saltSha256": support.sha256_text(options.salt) if options.salt else None}
        self.require_same_data()

    def require_same_data(self):
        """What decided which records are held out, and what a score means, stays as in the first round."""
        if self.registry is None:
            return
        differ = [f"{key} was {self.registry['data'][key]}, is {self.data[key]}" for key in self.data
                  if self.registry["data"][key] != self.data[key]]
        initial = self.options.initial
        if initial and support.sha256_of(initial) != self.registry["initialSha256"]:
            differ.append(f"--initial was {'another model' if self.registry['initialSha256'] else 'not given'}")
        if differ:
            raise Failure(f"{self.folder.registry}: the first round went by other settings: {'; '.join(differ)}; set them "
                          "as they were or choose another --folder", USAGE)

    def say(self, text):
        print(f"round {self.number}: {text}", flush=True)

    # --- running stemfabric ---

    def stemfabric(self, *arguments, before=(), quiet=False):
        """stdout; Failure with the program's words if it fails."""
        argv = [*before, *support.program(), *map(str, arguments)]
        if quiet:
            status, out, err = self.runner.run(argv, self.keep, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        else:
            (status, *_), out, err = self.runner.run(argv, self.keep), "", ""
        if status != 0:
            self.runner.require_not_stopped()
            said = support.error_of(err)
            raise Failure(f"round {self.number}: `stemfabric {arguments[0]}` ended with exit status {status}"
                          + (f": {said}" if said else "; its message is above")
                          + ("; run the same command again to go on" if status in (75, 76) or status > 128 else ""),
                          status)
        return out

    def dataset(self, lines, name, parent, settings):
        """Makes the data set parent/name of records; its manifest."""
        target = parent / name
        if not target.exists():
            records = parent / f"{name}.records.jsonl"
            with open(records, "w", encoding="utf-8") as file:
                file.writelines(lines)
            try:
                options = [word for key, option in DATASET_OPTIONS.items() for word in (option, settings[key].strip('"'))]
                self.stemfabric("dataset", "--input", records, "--output-dir", parent, "--run-label", name, *options,
                                quiet=True)
            finally:
                records.unlink()
        return support.read_json(target / "manifest.json")

    def evaluate(self, output, model=()):
        """Scores on the validation records: {metric: median, or None if there is none}."""
        file = output / "evaluation_report.json"
        if not file.exists():
            self.stemfabric("evaluate", "--dataset-dir", self.folder.validation, *model, "--output-dir", output,
                            *support.config_arguments(self.options.config, self.options.set), quiet=True)
        medians = support.read_json(file)
        if not model:
            medians = medians["baselines"]["mixture"]
        return {metric: medians["aggregateMetrics"][metric] for metric in METRICS}

    # --- the stages ---

    def collect(self, piece_folder):
        """Sanitises what is new, leaves out what earlier rounds had, and what has no stems; what is known of it."""
        options = self.options
        known, after = set(), 0
        for number in range(1, self.number):
            _, about = self.folder.piece(number)
            if about.exists():
                piece = support.read_json(about)
                known.update(piece["ids"])
                after = max(after, piece["lastSequence"]) if piece["input"] == str(options.input) else after
        is_store = options.input.is_file() and options.input.open("rb").read(16) == b"SQLite format 3\0"
        records, report = piece_folder / "sanitized.jsonl", piece_folder / "report.json"
        arguments = ["--input", options.input, "--output", records, "--report", report]
        arguments += ["--after-sequence", after] if is_store and after else []
        arguments += ["--salt", options.salt] if options.salt else []
        try:
            self.stemfabric("sanitize", *arguments, quiet=True)
        except Failure as failure:
            if failure.status != INPUT or not report.exists():
                raise
        files = support.read_json(report)
        counts = files["counts"]
        about = {"input": str(options.input), "refused": counts["reject"], "withoutStems": 0, "heldOut": 0, "training": 0,
                 "lastSequence": files["files"][-1]["line"] if is_store and files["files"] else after, "ids": []}
        report.unlink()
        with open(piece_folder / "new.jsonl", "w", encoding="utf-8") as new:
            if counts["accept"] + counts["accept-with-repair"] > 0:
                with open(records, encoding="utf-8") as lines:
                    take_new(lines, known, about, new, self.data)
            new.flush()
            os.fsync(new.fileno())
        records.unlink(missing_ok=True)
        return about

    def enough(self, about):
        least = self.options.min_new
        self.say(describe(about))
        if about["training"] < least:
            self.say("nothing to do" + (f": a round takes {least} new records to train at least" if least > 1 else ""))
        return about["training"] >= least

    def open(self):
        """Finds out what is new, and begins the round; False if there is nothing to do."""
        file, about_file = self.folder.piece(self.number)
        # Until the validation records are frozen a first round that failed takes what has come meanwhile too.
        if self.registry is not None and about_file.exists():
            self.say("goes on where it was stopped")
            return True
        self.folder.records.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="collect.partial-", dir=self.folder.records) as place:
            about = self.collect(pathlib.Path(place))
            if not self.enough(about):
                return False
            os.replace(pathlib.Path(place) / "new.jsonl", file)
        support.write_json(about_file, about)  # after the records: if it is there, they are
        return True

    def lines(self, held_out, rounds):
        """The records that came in the first `rounds` rounds and are held out, or train."""
        for number in range(1, rounds + 1):
            file, about = self.folder.piece(number)
            if about.exists():
                with open(file, encoding="utf-8") as lines:
                    for line in lines:
                        if is_held_out(id_of(line), self.data["seed"], self.data["heldOut"]) == held_out:
                            yield line

    def freeze(self):
        """In the first round: makes the validation data set, which stays as it is, and the registry."""
        if self.registry is not None:
            return
        about = support.read_json(self.folder.piece(1)[1])
        held_out = about["heldOut"]
        advice = (f"; {held_out} of {len(about['ids'])} records are held out: wait for more snapshots, or give a larger "
                  "--held-out")
        if held_out < 2:
            raise Failure(f"there are no validation records{advice}", INPUT)
        with tempfile.TemporaryDirectory(prefix="validation.partial-", dir=self.folder.root) as place:
            place = pathlib.Path(place)
            # A data set always has a training split: with ratio 0 one record, which trains nothing here.
            manifest = self.dataset(self.lines(True, 1), "validation", place,
                                    {**self.configuration, "data.train_ratio": "0"})
            records = manifest["counts"]["validation"]
            if records == 0:
                raise Failure(f"there are no validation records: what is held out has no targets that can be "
                              f"supervised{advice}", INPUT)
            shutil.rmtree(self.folder.validation, ignore_errors=True)  # of a call that ended before the registry
            os.replace(place / "validation", self.folder.validation)
            mixture = self.evaluate(place / "mixture")
        if mixture[self.options.metric] is None:
            raise Failure(f"no stem of the {records} validation records can be scored in {self.options.metric}{advice}",
                          INPUT)
        self.registry = {
            "format": FORMAT, "version": VERSION, "createdAt": support.now(), "data": self.data,
            "validation": {"folder": "validation", "records": records, "dataHash": manifest["hash"],
                           "manifestSha256": support.sha256_of(self.folder.validation / "manifest.json"),
                           "mixture": mixture},
            "initialSha256": None, "current": None, "rounds": []}
        self.folder.models.mkdir(exist_ok=True)
        if self.options.initial:
            support.copy_file(self.options.initial, self.folder.model(0))
            self.registry["initialSha256"] = support.sha256_of(self.folder.model(0))
            self.registry["current"] = {"round": 0, "model": f"models/{self.folder.model(0).name}",
                                        "sha256": self.registry["initialSha256"]}
        support.write_sealed(self.folder.registry, self.registry)
        self.say(f"{records} records are frozen for validation")

    def begin(self):
        """What the round goes by, written down at its begin; another configuration is refused later."""
        file = self.here / "round.json"
        if not file.exists():
            self.here.mkdir(parents=True, exist_ok=True)
            support.write_json(file, {"startedAt": support.now(), "configuration": self.configuration})
        begun = support.read_json(file)
        differ = [key for key in self.configuration if begun["configuration"].get(key) != self.configuration[key]]
        if differ:
            raise Failure(f"round {self.number} was begun with another configuration: "
                          + "; ".join(f"{key} was {begun['configuration'].get(key)}, is {self.configuration[key]}"
                                      for key in differ)
                          + "; set it as it was, or begin the round anew with --restart-round", USAGE)
        return begun

    def train(self):
        """The candidate's weights, trained from the current model if there is one."""
        run = self.here / "run"
        manifest = self.dataset(self.lines(False, self.number), "data", self.here, self.configuration)
        if not (run / "training_summary.json").exists():
            current = self.registry["current"]
            self.say(f"training on {manifest['counts']['train']} records"
                     + (f", from the model of round {current['round']}" if current else ""))
            self.start_training(run, self.here / "data")
        return manifest, support.read_json(run / "training_summary.json")

    def start_training(self, run, data, *more):
        current = self.registry and self.registry["current"]
        settings = list(self.options.set)
        if current:
            settings.append(f"training.init_from={json.dumps(str(self.folder.root / current['model']))}")
        self.stemfabric("train", "--output-dir", run, "--dataset-dir", data, *more,
                        *support.config_arguments(self.options.config, settings),
                        before=support.launcher(self.options.launcher))

    def judge(self, candidate, current):
        """(whether to promote, why)."""
        metric, margin = self.options.metric, self.options.margin
        if current is None:
            return True, "the first model"
        new, old = candidate[metric], current[metric]
        if new is None or old is None:
            return False, f"{metric} of the {'candidate' if new is None else 'current model'} is undefined"
        better = new - old
        if better > 0 and better >= margin:
            return True, f"{metric} is better by {better:.4g}, at least {margin:g} was wanted"
        return False, (f"{metric} is better by {better:.4g}, {margin:g} was wanted" if better > 0 else
                       f"{metric} is worse by {-better:.4g}" if better < 0 else f"{metric} is the same")

    def decide(self, begun, manifest, summary):
        """Evaluates both models and writes the decision."""
        weights = self.here / "run" / "final_model.safetensors"
        candidate_sha = support.sha256_of(weights)
        if candidate_sha != summary["final_model"]["sha256"]:
            raise Failure(f"{weights}: was changed or damaged after training; begin the round anew with --restart-round",
                          INPUT)
        current = self.registry["current"]
        candidate = self.evaluate(self.here / "evaluation_candidate", ("--model", self.here / "run"))
        before = None
        if current:
            before = self.evaluate(self.here / "evaluation_current", ("--model", self.folder.root / current["model"]))
        promote, why = self.judge(candidate, before)
        model = self.folder.model(self.number)
        support.copy_file(weights, model)
        entry = {"model": f"models/{model.name}", "sha256": candidate_sha}
        about = support.read_json(self.folder.piece(self.number)[1])
        self.registry["rounds"].append({
            "round": self.number, "startedAt": begun["startedAt"], "endedAt": support.now(),
            "trainingSeconds": summary["seconds"], "parent": current,
            "records": {"new": len(about["ids"]), "heldOut": about["heldOut"], "refused": about["refused"],
                        "train": manifest["counts"]["train"], "validation": manifest["counts"]["validation"]},
            "dataHash": manifest["hash"],
            "configuration": {"file": f"rounds/{self.here.name}/run/config.yaml",
                              "sha256": support.sha256_of(self.here / "run" / "config.yaml"),
                              "codeRevision": summary["code_revision"]},
            "candidate": entry, "metric": self.options.metric, "margin": self.options.margin,
            "scores": {"candidate": candidate, "current": before},
            "decision": "promoted" if promote else "kept the current model", "why": why})
        if promote:
            self.registry["current"] = {"round": self.number, **entry}
        support.write_sealed(self.folder.registry, self.registry)  # with it the round is over
        metric = self.options.metric
        shown = " and ".join(f"{name} {'undefined' if scores[metric] is None else format(scores[metric], '.3f')}"
                             for name, scores in (("candidate", candidate), ("current", before)) if scores)
        self.say(f"{metric} on the validation records: {shown} (mixture {self.registry['validation']['mixture'][metric]:.3f})")
        self.say(f"{'promoted' if promote else 'not promoted'}: {why}")

    def play(self):
        if not self.open():
            return DONE
        self.freeze()
        begun = self.begin()
        self.decide(begun, *self.train())
        tidy(self.folder, self.registry, self.options.keep)
        print_current(self.folder, self.registry)
        return DONE

    def dry_run(self):
        """Says what a round would do; everything it makes is thrown away."""
        if self.registry is not None and self.folder.piece(self.number)[1].exists():
            self.say("was begun and not ended; it would go on")
            return DONE
        with tempfile.TemporaryDirectory(prefix="stemfabric-") as place:
            place = pathlib.Path(place)
            if not self.enough(self.collect(place)):
                return DONE
            with open(place / "new.jsonl", encoding="utf-8") as new:
                lines = [*new, *self.lines(False, self.number - 1)]
            lines = [line for line in lines if not is_held_out(id_of(line), self.data["seed"], self.data["heldOut"])]
            self.dataset(lines, "data", place, self.configuration)
            self.start_training(place / "run", place / "data", "--dry-run")
        self.say("would train as above; nothing was written")
        return DONE

    def restart(self):
        """Drops what an interrupted round has done; what it found new will be new again."""
        if self.registry is not None:
            shutil.rmtree(self.here, ignore_errors=True)
            for file in reversed(self.folder.piece(self.number)):
                file.unlink(missing_ok=True)


def take_new(lines, known, about, new, data):
    for line in lines:
        if '"groundTruthFeatures":' not in line:
            about["withoutStems"] += 1
            continue
        record = id_of(line)
        if record in known:
            continue
        about["ids"].append(record)
        about["heldOut" if is_held_out(record, data["seed"], data["heldOut"]) else "training"] += 1
        new.write(line)


def describe(about):
    text = f"{len(about['ids'])} new records: {about['training']} to train, {about['heldOut']} held out"
    for key, what in (("withoutStems", "without stems"), ("refused", "refused")):
        text += f"; {about[key]} {what}" if about[key] else ""
    return text


def tidy(folder, registry, keep):
    """Removes what ended rounds no longer need: models but for the last `keep` and the current one, data sets,
    checkpoints. Settings, logs and reports stay."""
    rounds = len(registry["rounds"])
    current = registry["current"]
    kept = {folder.model(number).name for number in range(rounds - keep + 1, rounds + 1)}
    kept |= {pathlib.Path(current["model"]).name} if current else set()
    for path in folder.models.glob("round-*.safetensors"):
        if path.name not in kept and path != folder.model(rounds + 1):
            path.unlink()
    for number in range(1, rounds + 1):
        here = folder.round(number)
        for path in (here / "data", here / "run" / "checkpoints"):
            shutil.rmtree(path, ignore_errors=True)
        for path in (here / "run").glob("final_model.*"):
            path.unlink()


def print_current(folder, registry):
    current = registry["current"]
    print(f"current model: {folder.root / current['model']} (round {current['round']})" if current else
          "current model: none yet")


def number_text(value):
    return "" if value is None else f"{value:.3f}"


def status(folder):
    registry = read_registry(folder)
    if registry is None:
        raise Failure(f"{folder.root}: holds no registry.json: no round has begun here", USAGE)
    lines = [["round", "ended", "new", "train", "candidate", "current", "decision"]]
    for entry in registry["rounds"]:
        scores, metric = entry["scores"], entry["metric"]
        lines.append([str(entry["round"]), entry["endedAt"], str(entry["records"]["new"]), str(entry["records"]["train"]),
                      f"{metric} {number_text(scores['candidate'][metric])}",
                      number_text(scores["current"][metric]) if scores["current"] else "",
                      f"{entry['decision']}: {entry['why']}"])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())
    print(f"records of validation, fixed: {registry['validation']['records']}")
    print_current(folder, registry)
    require_whole(folder, registry)
    return DONE


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", required=True, metavar="F", help="registry, models, records and rounds")
    parser.add_argument("--input", metavar="PATH", type=pathlib.Path, help="folder of snapshots, or store of an ingest")
    parser.add_argument("--config", metavar="FILE", type=pathlib.Path, help="configuration of training and data")
    parser.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], help="one setting (may be repeated)")
    parser.add_argument("--metric", choices=METRICS, default="sdr",
                        help="median over the validation records that decides (default: sdr)")
    parser.add_argument("--margin", type=float, default=0.1, metavar="X",
                        help="by how much the candidate must be better, in the metric's unit (default: 0.1)")
    parser.add_argument("--held-out", type=float, metavar="SHARE",
                        help="share of the records that never train; fixed by the first round (default: 0.2)")
    parser.add_argument("--seed", type=int, metavar="N", help="which records those are (default: 0)")
    parser.add_argument("--salt", metavar="TEXT", help="as of `stemfabric sanitize`; the same in all rounds")
    parser.add_argument("--min-new", type=int, default=1, metavar="N",
                        help="a round takes so many new records to train at least (default: 1)")
    parser.add_argument("--keep", type=int, default=5, metavar="K", help="models of so many last rounds stay (default: 5)")
    parser.add_argument("--initial", metavar="MODEL", type=pathlib.Path,
                        help="weights (.safetensors) that are current before the first round")
    parser.add_argument("--launcher", metavar="COMMAND", help='what starts the ranks: "mpirun -n 4 --bind-to none"')
    parser.add_argument("--dry-run", action="store_true", help="say what a round would do, and try one step; write nothing")
    parser.add_argument("--restart-round", action="store_true", help="begin an interrupted round anew")
    parser.add_argument("--status", action="store_true", help="show the rounds and the current model")
    options = parser.parse_args(arguments)
    if not options.status and options.input is None:
        parser.error("--input is missing: a folder of snapshots, or the store of `stemfabric ingest`")
    if options.held_out is not None and not 0 < options.held_out < 1:
        parser.error("--held-out must lie between 0 and 1")
    if options.keep < 1 or options.min_new < 1 or not options.margin >= 0:
        parser.error("--keep and --min-new must be 1 or more, --margin 0 or more")
    if options.input is not None:
        if not options.input.exists():
            parser.error(f"--input {options.input}: no such file or folder")
        options.input = options.input.resolve()
    if options.initial is not None and not options.initial.is_file():
        parser.error(f"--initial {options.initial}: no such file")
    return options


def run(options):
    folder = Folder(options.folder)
    if options.status:
        return status(folder)
    runner = support.Runner()
    if options.dry_run:
        return prepared(options, folder, runner, None).dry_run()
    folder.root.mkdir(parents=True, exist_ok=True)
    lock = support.FolderLock(folder.root, "another round")
    one = prepared(options, folder, runner, lock)
    for place in (folder.root, folder.models, folder.records, one.here):
        support.remove_partial(place)
    if options.restart_round:
        one.restart()
    if one.registry is not None:
        tidy(folder, one.registry, options.keep)
    return one.play()


def prepared(options, folder, runner, lock):
    one = Round(options, folder, runner, lock)
    if one.registry is not None:
        require_whole(folder, one.registry)
    return one


if __name__ == "__main__":
    arguments = parse(sys.argv[1:])
    support.main(lambda: run(arguments))
