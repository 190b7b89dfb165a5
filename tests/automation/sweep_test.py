#!/usr/bin/env python3
"""scripts/sweep.py without Slurm: what is refused, a sweep with a broken trial, going on, the table."""
import csv
import json
import os
import signal
import subprocess
import sys
import unittest

import automation
from automation import SCRIPTS, Case

sys.path.insert(0, str(SCRIPTS))
import sweep as sweep_module


class Sweep(Case):
    def setUp(self):
        super().setUp()
        self.out = self.place / "out"
        automation.write_snapshots(self.place / "snapshots", range(8))
        for arguments in (["sanitize", "--input", "snapshots", "--output", "records.jsonl"],
                          ["dataset", "--input", "records.jsonl", "--output-dir", ".", "--run-label", "data",
                           "--time-bins", "8", "--targets", "bands"]):
            subprocess.run([automation.PROGRAM, "--quiet", *arguments], cwd=self.place, check=True, capture_output=True)

    def trials(self, *lines):
        (self.place / "trials.txt").write_text("\n".join(lines) + "\n")

    def sweep(self, command, *more, expect=0, **how):
        return self.run_script("sweep.py", command, "--trials", "trials.txt", "--output-dir", self.out, "--dataset-dir",
                               "data", "--config", self.config, *more, expect=expect, **how)

    def rows(self):
        with open(self.out / "results.csv", newline="") as file:
            return list(csv.DictReader(file))

    def test_every_broken_line_is_named_before_anything_is_trained(self):
        self.trials("# learning rates", "training.lr=0.01", "", "training.lrr=0.01", "lr", "training.lr=0.01  # again",
                    "model.dim=7")
        said = self.sweep("run", expect=2)
        self.assertIn("line 5: 'lr' is no key=value", said)
        self.assertIn("line 6: is the same as line 2", said)
        self.trials("training.lr=0.01", "training.lrr=0.01", "model.dim=7 model.heads=2", "'")
        self.assertIn("trials.txt, line 4: No closing quotation", self.sweep("check", expect=2))
        self.trials("training.lr=0.01", "training.lrr=0.01", "model.dim=7 model.heads=2")
        said = self.sweep("run", expect=2)
        self.assertIn("line 2: --set: training.lrr: unknown key", said)
        self.assertIn("line 3: model.heads = 2", said)
        self.assertNotIn("line 1", said)
        self.trials("# nothing")
        self.assertIn("holds no trial", self.sweep("run", expect=2))
        self.assertFalse(self.out.exists())

    def test_a_line_may_be_tried_for_a_step(self):
        self.trials("training.lr=0.1", "training.init_from=nowhere.safetensors")
        self.assertIn("2 trials, all valid", self.sweep("check"))
        said = self.sweep("check", "--dry-run", expect=2)
        self.assertIn("line 2: training.init_from: there is no model nowhere.safetensors", said)
        self.assertNotIn("line 1", said)

    def test_the_table_has_the_best_first_and_says_what_failed(self):
        self.trials("training.lr=0.0001", "training.init_from=nowhere.safetensors",
                    'training.lr=0.01 loss.stem_weights="[1, 1, 1, 1, 1, 2]"')
        self.sweep("run", expect=1)
        rows = self.rows()
        self.assertEqual([row["status"] for row in rows], ["done", "done", "failed"])
        self.assertEqual(rows[2]["trial"], "2")
        self.assertIn("nowhere.safetensors", rows[2]["why"])
        self.assertLess(float(rows[0]["best_loss"]), float(rows[1]["best_loss"]))
        for row in rows[:2]:
            epochs = [json.loads(line) for line in
                      (self.out / f"trial-00{row['trial']}" / "epochs.jsonl").read_text().splitlines()]
            best = min((e for e in epochs if e["kind"] == "epoch"), key=lambda e: e["val_loss"])
            self.assertEqual((float(row["best_loss"]), int(row["best_epoch"])), (best["val_loss"], best["epoch"]))
            self.assertEqual(row["epochs"], "2")
            self.assertGreater(float(row["seconds"]), 0)
        by_trial = {row["trial"]: row for row in rows}
        self.assertEqual(by_trial["3"]["loss.stem_weights"], "[1, 1, 1, 1, 1, 2]")
        self.assertEqual(by_trial["1"]["training.lr"], "0.0001")
        table = (self.out / "results.md").read_text()
        self.assertRegex(table, r"\| 2 +\| failed +\|.*there is no model nowhere.safetensors")
        self.assertIn("'loss.stem_weights=[1, 1, 1, 1, 1, 2]'", table)
        self.assertNotIn("SDR", table)  # snapshots have none

    def test_a_row_is_of_the_epoch_whose_weights_are_kept(self):
        lines = [{"kind": "validation", "epoch": 1, "val_loss": 0.1, "seconds": 9},
                 *({"kind": "epoch", "epoch": epoch, "train_loss": 5, "val_loss": loss, "val_sdr": sdr,
                    "seconds": {"forward": 1, "backward": 2}}
                   for epoch, (loss, sdr) in enumerate([(3, 1.0), (None, None), (1, 2.0), (2, 4.0)], 1))]
        row = {"loss": None, "seconds": 0.0}
        sweep_module.read_epochs("\n".join(map(json.dumps, lines)) + '\n{"kind": "epo', row)
        self.assertEqual(row, {"loss": 1, "sdr": 2.0, "best_epoch": 3, "epochs": 4, "seconds": 12.0})
        row = {"loss": None, "seconds": 0.0}
        sweep_module.read_epochs('{"kind": "epoch", "epoch": 1, "train_loss": 7, "seconds": {}}', row)
        self.assertEqual((row["loss"], row["sdr"]), (7, None))  # there is no validation split

    def test_what_is_done_stays_and_what_was_begun_is_not_changed(self):
        self.trials("training.lr=0.01")
        self.sweep("run")
        spy = self.spy()
        self.trials("training.lr=0.01", "training.lr=0.001")
        self.assertIn("1 of 2 trials are done already", self.sweep("run", program=spy))
        trained = [call for call in self.calls() if call.startswith("train ")]
        self.assertEqual(len(trained), 1)
        self.assertIn("trial-002", trained[0])
        self.trials("training.lr=0.02", "training.lr=0.001")
        said = self.sweep("run", expect=2)
        self.assertIn("trial 1 is training.lr=0.02, but", said)
        self.assertNotIn("trial 2 is", said)
        self.trials("training.lr=0.01")
        self.assertIn("trial 2 is not there", self.sweep("run", expect=2))
        self.trials("training.lr=0.01", "training.lr=0.001")
        self.assertIn("model.dim is 32, but", self.sweep("run", "--set", "model.dim=32", expect=2))

    def test_a_changed_configuration_is_noticed_by_a_task(self):
        self.trials("training.lr=0.01")
        plan = sweep_module.check(sweep_module.parse(
            ["run", "--trials", str(self.place / "trials.txt"), "--output-dir", str(self.out), "--dataset-dir",
             str(self.place / "data"), "--config", str(self.config)]))
        sweep_module.write_plan(plan)
        self.config.write_text(automation.SMALL.replace("dim: 16", "dim: 32"))
        said = self.run_script("sweep.py", "trial", self.out, "1", expect=2)
        self.assertIn("has changed since the sweep was begun", said)
        self.assertRegex((self.out / "results.md").read_text(), r"\| 1 +\| failed .*has changed since")
        self.assertIn("not 2", self.run_script("sweep.py", "trial", self.out, "2", expect=2))

    def test_a_damaged_plan_is_refused(self):
        self.trials("training.lr=0.01", "training.lr=0.001")
        self.sweep("run")
        plan = self.out / "sweep.json"
        plan.write_text(plan.read_text().replace("0.001", "0.002"))
        self.assertIn("sweep.json: was changed or damaged", self.run_script("sweep.py", "table", self.out, expect=3))
        self.assertIn("holds no sweep", self.run_script("sweep.py", "table", self.place, expect=2))

    def start(self, *lines):
        """A `sweep.py run` of its own, whose first trial has a checkpoint."""
        self.trials(*lines)
        return self.start_script(self.out / "trial-001", "sweep.py", "run", "--trials", "trials.txt", "--output-dir",
                                 self.out, "--dataset-dir", "data", "--config", self.config, "--set",
                                 "training.patience=0")

    def test_a_signal_stops_it_with_a_checkpoint(self):
        process = self.start("training.num_epochs=1000000", "training.num_epochs=1")
        running = self.run_script("sweep.py", "table", self.out)
        self.assertRegex(running, r"\| 1 +\| running ")
        process.send_signal(signal.SIGTERM)
        said = process.communicate()[0]
        self.assertEqual(process.returncode, 75, said)
        self.assertIn("stopped by SIGTERM; run the same command again", said)
        self.assertIn("stopped by SIG", (self.out / "logs/trial-001.log").read_text())
        table = (self.out / "results.md").read_text()
        self.assertRegex(table, r"\| 1 +\| stopped ")
        self.assertRegex(table, r"\| 2 +\| not begun ")

    def test_a_killed_one_is_not_called_running(self):
        process = self.start("training.num_epochs=1000000")
        process.kill()
        process.wait()
        self.assertRegex(self.run_script("sweep.py", "table", self.out), r"\| 1 +\| stopped ")

    def test_submit_without_slurm_says_so(self):
        self.trials("training.lr=0.01")
        env_path = os.environ["PATH"]
        os.environ["PATH"] = str(self.place)
        try:
            self.assertIn("there is no sbatch here", self.sweep("submit", expect=2))
        finally:
            os.environ["PATH"] = env_path


if __name__ == "__main__":
    unittest.main()
