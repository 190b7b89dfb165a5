#!/usr/bin/env python3
"""scripts/continuous.py: rounds that promote and do not, kills anywhere, damage, and what never trains."""
import hashlib
import json
import os
import signal
import subprocess
import sys
import types
import unittest
import urllib.request

import automation
from automation import PROGRAM, SCRIPTS, Case

sys.path.insert(0, str(SCRIPTS))
import continuous

NO_LEARNING = ("--set", "training.lr=0", "--set", "training.schedule=constant")
LONG = ("--set", "training.num_epochs=1000000", "--set", "training.patience=0")
# Runs continuous.py and kills it before the KILL-th renaming, or after the -KILL-th.
KILLED_AT_RENAME = f"""
import os, runpy, signal, sys
sys.path.insert(0, {str(SCRIPTS)!r})
kill, replace, count = int(os.environ["KILL"]), os.replace, 0
def killing(source, target):
    global count
    count += 1
    if count == kill: os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
    if count == -kill: os.kill(os.getpid(), signal.SIGKILL)
os.replace = killing
sys.argv[0] = "continuous.py"
runpy.run_path({str(SCRIPTS / "continuous.py")!r}, run_name="__main__")
"""


def held_out(number):
    """The definition in docs/continuous.md, said again."""
    record = hashlib.sha256(automation.snapshot(number)["id"].encode()).hexdigest()
    digits = hashlib.sha256(f"held-out:0:{record}".encode()).digest()
    return (int.from_bytes(digits[:8], "big") >> 11) / 2**53 < 0.3


def hashed(numbers):
    return {hashlib.sha256(automation.snapshot(number)["id"].encode()).hexdigest() for number in numbers}


class Continuous(Case):
    def setUp(self):
        super().setUp()
        self.folder = self.place / "f"
        self.input = self.place / "snapshots"
        automation.write_snapshots(self.input, range(12))

    def arguments(self, *more):
        return ["--folder", str(self.folder), "--input", str(self.input), "--config", str(self.config), "--held-out", "0.3",
                *map(str, more)]

    def round(self, *more, **how):
        return self.run_script("continuous.py", *self.arguments(*more), **how)

    def registry(self):
        return json.loads((self.folder / "registry.json").read_text())

    def add(self, numbers):
        automation.write_snapshots(self.input, numbers)

    def outcome(self):
        """What must not depend on interruptions."""
        registry = self.registry()
        registry.pop("createdAt")
        registry.pop("contentsSha256")
        registry["validation"].pop("manifestSha256")  # it states when it was made
        for entry in registry["rounds"]:
            for key in ("startedAt", "endedAt", "trainingSeconds"):
                entry.pop(key)
            entry["configuration"].pop("sha256")  # paths
        return registry

    def test_rounds_promote_only_what_is_better(self):
        said = self.round()
        self.assertIn("promoted: the first model", said)
        first = self.registry()
        self.assertEqual(first["current"]["round"], 1)
        model = self.folder / first["current"]["model"]
        self.assertEqual(hashlib.sha256(model.read_bytes()).hexdigest(), first["current"]["sha256"])
        self.assertIsNone(first["rounds"][0]["parent"])
        self.assertIn("0 new records", self.round())
        self.assertEqual(self.registry(), first)

        self.add(range(12, 16))
        said = self.round(*NO_LEARNING)
        self.assertIn("not promoted: sdr is the same", said)
        second = self.registry()
        self.assertEqual(second["current"], first["current"])
        entry = second["rounds"][1]
        self.assertEqual(entry["scores"]["candidate"], entry["scores"]["current"])
        self.assertEqual(entry["parent"], first["current"])
        self.assertEqual(entry["records"]["new"], 4)
        self.assertNotEqual(entry["dataHash"], second["rounds"][0]["dataHash"])

        self.add(range(16, 20))
        self.round("--margin", "0", "--set", "training.num_epochs=10")
        last = self.registry()
        scores = last["rounds"][2]["scores"]
        self.assertGreater(scores["candidate"]["sdr"], scores["current"]["sdr"])  # else the test shows nothing
        self.assertEqual(last["rounds"][2]["decision"], "promoted")
        self.assertEqual(last["current"]["round"], 3)
        self.assertEqual(last["validation"], first["validation"])
        table = self.run_script("continuous.py", "--folder", self.folder, "--status")
        self.assertIn("promoted: the first model", table)
        self.assertIn("current model: " + str(self.folder / "models/round-0003.safetensors"), table)

    def test_the_margin_decides(self):
        for candidate, current, margin, promoted in ((2.0, 1.5, 0.5, True), (2.0, 1.5, 0.6, False), (1.5, 1.5, 0.0, False),
                                                     (1.5, 2.0, 0.0, False), (1.6, 1.5, 0.0, True), (None, 1.5, 0.0, False),
                                                     (1.5, None, 0.0, False), (-3.0, "no model", 9.0, True)):
            one = types.SimpleNamespace(options=types.SimpleNamespace(metric="sar", margin=margin))
            decision, why = continuous.Round.judge(one, {"sar": candidate},
                                                   None if current == "no model" else {"sar": current})
            self.assertEqual(decision, promoted, why)

    def test_held_out_records_never_train(self):
        spy = self.spy(f'[[ $1 == train ]] && cp -r "$5" {self.place}/seen-$number; true')
        self.round(program=spy)
        frozen = self.folder / "validation"
        self.assertEqual(set(automation.ids_of(frozen, "validation") + automation.ids_of(frozen, "train")),
                         hashed(n for n in range(12) if held_out(n)))
        before = {path.name: path.read_bytes() for path in frozen.rglob("*") if path.is_file()}
        self.add(range(12, 24))
        self.round(program=spy)
        self.assertEqual({path.name: path.read_bytes() for path in frozen.rglob("*") if path.is_file()}, before)
        seen = sorted(self.place.glob("seen-*"), key=lambda path: int(path.name.partition("-")[2]))
        self.assertEqual(len(seen), 2)
        for dataset, numbers in zip(seen, (range(12), range(24))):
            ids = automation.ids_of(dataset, "train") + automation.ids_of(dataset, "validation")
            self.assertEqual(len(ids), len(set(ids)))
            self.assertEqual(set(ids), hashed(n for n in numbers if not held_out(n)))
        self.assertTrue(any(held_out(n) for n in range(12, 24)))  # new ones too

    def test_killed_anywhere_it_goes_on_to_the_same_end(self):
        self.round()
        expected = self.outcome()
        calls = 7  # of stemfabric in a first round
        for number in range(2, calls + 1):
            with self.subTest(call=number):
                self.begin_anew()
                self.round(program=self.spy(f'((number == {number})) && {{ {PROGRAM} "$@"; kill -9 $PPID; exit 1; }}'),
                           expect=-9)
                self.assertEqual(len(self.calls()), number)
                self.round()
                self.assertEqual(self.outcome(), expected)
        self.begin_anew()
        self.round(program=self.spy())
        self.assertEqual(len(self.calls()), calls)

    def begin_anew(self):
        for name in ("f", "calls"):
            subprocess.run(["rm", "-rf", self.place / name], check=True)

    def test_killed_at_any_renaming_the_registry_is_whole(self):
        self.round()
        expected = self.outcome()
        renamings = 7  # records and what is known of them, validation, registry, round, model, registry
        for kill in (*range(1, renamings + 1), -renamings, renamings + 1):
            self.begin_anew()
            done = subprocess.run([sys.executable, "-B", "-c", KILLED_AT_RENAME, *self.arguments()], check=False,
                                  env=dict(os.environ, KILL=str(kill)), capture_output=True, text=True, cwd=self.place)
            self.assertEqual(done.returncode, 0 if kill > renamings else -signal.SIGKILL, done.stderr)
            self.round()
            self.assertEqual(self.outcome(), expected, kill)
            self.assertFalse(list(self.folder.rglob("*.partial-*")), kill)

    def test_a_second_one_waits_for_the_trainer_of_a_killed_one(self):
        run = self.folder / "rounds/0001/run"
        process = self.start_script(run, "continuous.py", *self.arguments(*LONG))
        self.assertIn("another round is at work here (process " + str(process.pid), self.round(expect=1))
        process.kill()
        process.wait()
        self.assertIn("another round is at work here", self.round(expect=1))
        self.kill_trainer(run)
        said = self.round(*LONG, "--set", "training.device=cpu", expect=2)
        self.assertIn("round 1 was begun with another configuration: training.device was auto, is cpu", said)
        self.assertIn("promoted: the first model", self.round("--restart-round"))

    def test_a_signal_stops_it_and_it_goes_on(self):
        process = self.start_script(self.folder / "rounds/0001/run", "continuous.py", *self.arguments(*LONG))
        process.send_signal(signal.SIGUSR1)
        said = process.communicate()[0]
        self.assertEqual(process.returncode, 75, said)
        self.assertIn("stopped by SIGUSR1; run the same command again to go on", said)
        spy = self.spy('[[ $1 == train ]] && kill -USR1 $PPID; true')
        said = self.round(*LONG, program=spy, expect=75)
        self.assertIn("goes on where it was stopped", said)

    def test_a_changed_registry_is_refused(self):
        self.round()
        file = self.folder / "registry.json"
        text = file.read_text()
        for changed, message in (
                (text.replace('"round": 1', '"round": 2', 1), "was changed or damaged"),
                (text.replace('"version": 1', '"version": 2'), "has version 2 of stemfabric-registry, this script reads 1"),
                (text[:100], "cannot be read as JSON"), ("{}", "is no file of the format stemfabric-registry")):
            file.write_text(changed)
            self.assertIn(message, self.round(expect=3))
            self.assertEqual(file.read_text(), changed)
        file.unlink()
        self.assertIn("registry.json: is missing, but there are rounds beside it", self.round(expect=3))
        file.write_text(text)
        model = self.folder / "models/round-0001.safetensors"
        weights = model.read_bytes()
        model.write_bytes(weights[:-1] + b"\1")
        self.assertIn("the current model was changed or damaged", self.round(expect=3))
        model.unlink()
        self.assertIn("the current model is missing", self.round(expect=3))
        model.write_bytes(weights)
        manifest = self.folder / "validation/manifest.json"
        manifest.write_text(manifest.read_text().replace("validation", "Validation", 1))
        self.assertIn("the manifest of the validation records was changed", self.round(expect=3))

    def test_settings_of_the_first_round_stay(self):
        self.round()
        self.add(range(12, 14))
        for more, message in ((("--seed", "1"), "seed was 0, is 1"), (("--salt", "x"), "saltSha256 was None"),
                              (("--set", "features.time_bins=4"), "features.time_bins was 8, is 4"),
                              (("--initial", self.folder / "models/round-0001.safetensors"), "--initial was not given")):
            self.assertIn(message, self.round(*more, expect=2))

    def test_too_few_records_are_no_round(self):
        automation.write_snapshots(self.place / "few", [n for n in range(30) if not held_out(n)][:3])
        self.input = self.place / "few"
        self.assertIn("there are no validation records; 0 of 3 records are held out: wait for more", self.round(expect=3))
        self.assertFalse((self.folder / "registry.json").exists())
        self.add([n for n in range(30) if held_out(n)][:3])
        self.assertIn("nothing to do: a round takes 4", self.round("--min-new", "4"))
        self.assertIn("promoted", self.round("--min-new", "3"))

    def test_a_dry_run_writes_nothing(self):
        said = self.round("--dry-run")
        self.assertIn("would train as above; nothing was written", said)
        self.assertFalse(self.folder.exists())
        self.round()
        before = sorted(self.folder.rglob("*"))
        self.add(range(12, 16))
        self.assertIn("4 new records", self.round("--dry-run"))
        self.assertEqual(sorted(self.folder.rglob("*")), before)

    def test_models_of_the_last_rounds_are_kept_and_the_current_one(self):
        self.round()
        for number in range(3):
            self.add([12 + number])
            self.round(*NO_LEARNING, "--keep", "1", "--held-out", "0.3")
        rounds = len(self.registry()["rounds"])
        self.assertGreater(rounds, 2)
        self.assertEqual(sorted(path.name for path in (self.folder / "models").iterdir()),
                         ["round-0001.safetensors", f"round-{rounds:04d}.safetensors"])
        self.assertEqual(list(self.folder.glob("rounds/*/data")), [])
        self.assertEqual(list(self.folder.glob("rounds/*/run/checkpoints")), [])
        self.assertEqual(len(list(self.folder.glob("rounds/*/run/config.yaml"))), rounds)

    def test_an_initial_model_is_the_first_parent(self):
        self.round()
        model = self.folder / "models/round-0001.safetensors"
        self.folder = self.place / "g"
        said = self.round("--initial", model, *NO_LEARNING)
        self.assertIn("not promoted: sdr is the same", said)
        self.assertEqual(self.registry()["current"]["round"], 0)
        self.add(range(12, 16))
        self.round("--initial", model, *NO_LEARNING)
        self.assertEqual(self.registry()["rounds"][1]["parent"]["sha256"], hashlib.sha256(model.read_bytes()).hexdigest())

    def test_a_store_is_read_from_where_the_last_round_ended(self):
        self.input = self.place / "store.db"
        self.send(range(12))
        spy = self.spy()
        self.round(program=spy)
        self.assertEqual(self.registry()["rounds"][0]["records"]["new"], 12)
        self.send(range(12, 16))
        self.round(*NO_LEARNING, program=spy)
        self.assertEqual(self.registry()["rounds"][1]["records"]["new"], 4)
        self.assertIn("0 new records", self.round(program=spy))
        sanitized = [call for call in self.calls() if call.startswith("sanitize")]
        self.assertEqual([call.partition("--after-sequence ")[2] for call in sanitized], ["", "12", "16"])

    def send(self, numbers):
        collector = subprocess.Popen([PROGRAM, "ingest", "--store", self.input, "--listen", "127.0.0.1:0"],
                                     stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        address = collector.stdout.readline().split()[-1]
        for number in numbers:
            request = urllib.request.Request(address, json.dumps(automation.snapshot(number)).encode(),
                                             {"Content-Type": "application/json"})
            with urllib.request.urlopen(request) as answer:
                self.assertEqual(answer.status, 200)
        collector.terminate()
        collector.communicate()


if __name__ == "__main__":
    unittest.main()
