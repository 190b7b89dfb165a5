#!/usr/bin/env python3
"""scripts/gpu_check: arguments and list, the runner, and the report from recorded outputs.

recorded/raw holds what the programs and PyTorch wrote on a CPU, under the names that a GPU check gives
them; the run "train_cuda" there was made with another beta2 than "train_cpu"."""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

HERE = pathlib.Path(__file__).resolve().parent
SCRIPTS = HERE.parents[1] / "scripts"
sys.path.insert(0, str(SCRIPTS / "gpu_check"))
import gpu_check
import plan
import report


def run(*arguments, path=None):
    env = dict(os.environ, PYTHON=sys.executable, PYTHONDONTWRITEBYTECODE="1")
    if path is not None:
        env["PATH"] = path
    return subprocess.run(["/bin/bash", SCRIPTS / "gpu_check.sh", *arguments], capture_output=True, text=True, env=env,
                          check=False)


def shell(name, command, limit_s=20, needs=(), run=None):
    return plan.Step(name, "", ["/bin/sh", "-c", command], limit_s, needs, run)


class Arguments(unittest.TestCase):
    def test_the_list_names_every_step_and_needs_no_gpu(self):
        for quick in (False, True):
            done = run("--list", *(["--quick"] if quick else []))
            self.assertEqual(done.returncode, 0, done.stderr)
            names = [line.split()[0] for line in done.stdout.splitlines()[1:] if not line.startswith(" ")]
            steps = plan.make_plan(plan.Programs(gpu_check.ROOT), "RAW", "WORK", quick)
            self.assertEqual(names, [step.name for step in steps])
            self.assertEqual(len(names), len(set(names)))
        for name in ("kernels_cuda_tests", "train_cuda", "kernels", "torch_compiled", "sanitizer_memcheck"):
            self.assertIn(name, names)

    def test_what_a_step_needs_comes_before_it(self):
        steps = plan.make_plan(plan.Programs(gpu_check.ROOT), "RAW", "WORK", True)
        known = set()
        for step in steps:
            self.assertTrue(known.issuperset(step.needs), step.name)
            known.add(step.name)

    def test_only_takes_what_is_needed_along(self):
        names = [line.split()[0] for line in run("--list", "--only", "^train_cpu$").stdout.splitlines()[1:]
                 if not line.startswith(" ")]
        self.assertEqual(names, ["sanitize", "dataset", "train_cpu"])

    def test_wrong_use(self):
        for arguments in (["--minutes", "0"], ["--minutes", "x"], ["--only", "("], ["--nonsense"]):
            self.assertEqual(run(*arguments).returncode, 2, arguments)

    def test_without_a_gpu_nothing_is_written(self):
        with tempfile.TemporaryDirectory() as folder:
            os.symlink(shutil.which("dirname"), f"{folder}/dirname")
            done = run("--output-dir", f"{folder}/out", path=folder)
            self.assertEqual(done.returncode, 1)
            self.assertIn("there is no GPU here (no nvidia-smi", done.stderr)
            self.assertEqual(os.listdir(folder), ["dirname"])

    def test_programs_of_a_package_are_found(self):
        with tempfile.TemporaryDirectory() as folder:
            self.assertIn("build/cuda", plan.Programs(folder).describe())
            os.mkdir(f"{folder}/bin")
            programs = plan.Programs(folder)
            self.assertEqual(programs["kernels_cuda_tests"], f"{folder}/bin/kernels_cuda_tests")
            self.assertEqual(programs.missing(), list(plan.PROGRAMS))
            self.assertEqual(plan.Programs(folder, "b")["runtime_tests"], "b/tests/runtime_tests")


class Runner(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.raw = pathlib.Path(self.folder.name)

    def tearDown(self):
        self.folder.cleanup()

    def outcomes(self, steps, seconds=60):
        records = gpu_check.run_plan(steps, self.raw, dict(os.environ), seconds, lambda line: None)
        self.assertEqual(json.loads((self.raw / "steps.json").read_text()), records)
        return {record["name"]: (record["outcome"], record.get("reason")) for record in records}

    def test_failures_are_recorded_and_do_not_stop_the_others(self):
        found = self.outcomes([
            shell("good", "echo fine"), shell("bad", "exit 3"), shell("killed", "kill -9 $$"),
            plan.Step("gone", "", ["/none/such"], 5), shell("slow", "sleep 30", 0.3),
            shell("after_bad", "true", needs=("bad",)), shell("after_good", "true", needs=("good",))])
        self.assertEqual(found, {
            "good": ("passed", None), "bad": ("failed", "exit status 3"), "killed": ("failed", "ended by signal 9"),
            "gone": ("failed", "/none/such: No such file or directory"), "slow": ("timed out", "not done after 0 s"),
            "after_bad": ("skipped", "needs bad, which did not pass"), "after_good": ("passed", None)})
        self.assertEqual((self.raw / "good.out").read_text(), "fine\n")

    def test_a_step_takes_its_children_along(self):
        pid = self.raw / "pid"
        self.outcomes([shell("parent", f"sleep 60 & echo $! >{pid}; sleep 60", 0.5)])
        stat = pathlib.Path(f"/proc/{int(pid.read_text())}/stat")

        def lives():
            try:
                return stat.read_text(errors="replace").rsplit(") ", 1)[1][0] not in "ZX"
            except OSError:
                return False

        deadline = time.monotonic() + 20  # a killed process may take a moment to die
        while lives() and time.monotonic() < deadline:
            time.sleep(0.01)
        self.assertFalse(lives())

    def test_no_step_starts_when_the_time_is_up(self):
        self.assertEqual(self.outcomes([shell("late", "true")], seconds=1), {"late": ("skipped", "the time was up")})

    def test_of_a_training_run_losses_and_hash_are_kept(self):
        run = self.raw / "run"
        self.outcomes([shell("train_x", f"mkdir {run}; echo '{{}}' >{run}/metrics.jsonl; printf abc >{run}/final_model.safetensors",
                             run=str(run))])
        self.assertEqual((self.raw / "train_x.jsonl").read_text(), "{}\n")
        self.assertTrue((self.raw / "train_x.sha256").read_text().startswith("ba7816bf"))

    def test_a_training_run_that_leaves_nothing_behind_did_not_pass(self):
        self.assertEqual(self.outcomes([shell("train_x", "true", run=str(self.raw / "none"))])["train_x"][0], "failed")


class Report(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.raw = pathlib.Path(self.folder.name, "raw")
        shutil.copytree(HERE / "recorded/raw", self.raw)

    def tearDown(self):
        self.folder.cleanup()

    def results(self):
        text = report.write(self.folder.name)
        self.assertEqual(pathlib.Path(self.folder.name, "README.md").read_text(), text)
        self.assertEqual(list(pathlib.Path(self.folder.name).glob("*.partial")), [])
        return json.loads(pathlib.Path(self.folder.name, "results.json").read_text()), text

    def test_everything_that_was_recorded_is_told(self):
        results, text = self.results()
        self.assertEqual(results["tests"]["kernels_cuda_tests"], {"ran": 10, "skipped": 0, "failed": []})
        cases = {case["case"]: case for case in results["kernels"]["cases"]}
        adam = cases["adam/torch_64k"]
        row = next(r for r in json.loads((self.raw / "kernels.out").read_text())["benchmarks"] if "adam" in r["name"])
        self.assertEqual((adam["median_us"], adam["%floor"]), (row["median_us"], row["%floor"]))
        self.assertEqual(adam["torch_us"], {"eager": 447.7})
        self.assertIn(f"| `adam/torch_64k/stemfabric` | {row['median_us']:.1f} | {row['%floor']:.0f} |", text)
        self.assertIn(f"447.7 ({447.7 / row['median_us']:.2f})", text)
        step = results["train_step"]
        ratio = step["torch_eager"]["ms_median"] / step["step_fp32"]["ms_median"]
        self.assertIn(f"| {ratio:.2f} |", text)
        self.assertIn("| kernels_cuda_tests | passed | 12.5 | 10 ran, 0 skipped, 0 failed |", text)

    def test_training_runs_are_compared(self):
        runs = self.results()[0]["training"]
        losses = {n: [json.loads(line)["loss"] for line in (self.raw / f"{n}.jsonl").read_text().splitlines()]
                  for n in ("train_cpu", "train_cuda")}
        worst = max(abs(a - b) / abs(b) for a, b in zip(losses["train_cuda"], losses["train_cpu"]))
        self.assertGreater(worst, 0)
        self.assertEqual(runs["train_cuda"]["largest_relative_difference"], worst)
        self.assertEqual(runs["train_cuda"]["first_relative_difference"], 0)
        self.assertTrue(runs["train_cuda_again"]["same_weights"])
        shutil.copyfile(self.raw / "train_cpu.sha256", self.raw / "train_cuda_again.sha256")
        results, text = self.results()
        self.assertFalse(results["training"]["train_cuda_again"]["same_weights"])
        self.assertIn("| NO (train_cuda) |", text)

    def test_runs_with_another_attention_are_not_compared_with_the_cpus(self):
        for name, like in (("train_cuda_softmax", "train_cpu"), ("train_cuda_cudnn", "train_cuda"),
                           ("train_cuda_cudnn_again", "train_cuda")):
            for kind in ("jsonl", "sha256"):
                shutil.copyfile(self.raw / f"{like}.{kind}", self.raw / f"{name}.{kind}")
        results, text = self.results()
        runs = results["training"]
        self.assertNotIn("compared_with", runs["train_cuda_softmax"])
        self.assertEqual(runs["train_cuda_cudnn"]["compared_with"], "train_cuda_softmax")
        self.assertGreater(runs["train_cuda_cudnn"]["largest_relative_difference"], 0)
        self.assertEqual((runs["train_cuda_cudnn_again"]["twin"], runs["train_cuda_cudnn_again"]["same_weights"]),
                         ("train_cuda_cudnn", True))
        self.assertIn("| yes (train_cuda_cudnn) |", text)

    def test_an_output_that_was_cut_off_gives_what_is_whole(self):
        whole = (self.raw / "kernels.out").read_text()
        (self.raw / "kernels.out").write_text(whole[:whole.index("adam/torch_64k") + 200])
        peers = (self.raw / "torch_kernels.out").read_text()
        (self.raw / "torch_kernels.out").write_text(peers[:-20])
        cases = self.results()[0]["kernels"]["cases"]
        self.assertEqual([case["case"] for case in cases], ["relu_quantum_forward/2048x1536", "relu_quantum_backward/2048x1536"])
        for length in range(0, len(whole), 37):
            report.google_benchmark(whole[:length])

    def test_failed_cases_have_no_numbers(self):
        whole = json.loads((self.raw / "kernels.out").read_text())
        whole["benchmarks"][0].update(error_occurred=True, error_message="wrong result")
        (self.raw / "kernels.out").write_text(json.dumps(whole))
        done = json.loads((self.raw / "kernels_cuda_tests.json").read_text())
        done["testsuites"][0]["testsuite"][0]["failures"] = [{"failure": "x", "type": ""}]
        done["testsuites"][0]["testsuite"][1]["result"] = "SKIPPED"
        (self.raw / "kernels_cuda_tests.json").write_text(json.dumps(done))
        results, text = self.results()
        self.assertNotIn("median_us", results["kernels"]["cases"][0])
        self.assertIn("error: wrong result", text)
        name = f"{done['testsuites'][0]['name']}.{done['testsuites'][0]['testsuite'][0]['name']}"
        self.assertEqual(results["tests"]["kernels_cuda_tests"], {"ran": 9, "skipped": 1, "failed": [name]})
        self.assertIn(f"- `kernels_cuda_tests` {name}", text)

    def test_sanitizers(self):
        (self.raw / "sanitizer_memcheck.out").write_text("========= ERROR SUMMARY: 0 errors\n")
        (self.raw / "sanitizer_racecheck.out").write_text("killed\n")
        self.assertEqual(self.results()[0]["sanitizers"], {"sanitizer_memcheck": "0 errors", "sanitizer_racecheck": "no summary"})

    def test_a_check_that_measured_nothing_says_so(self):
        shutil.rmtree(self.raw)
        self.raw.mkdir()
        results, text = self.results()
        self.assertEqual((results["steps"], results["train_step"], results["kernels"]["cases"]), ([], {}, []))
        self.assertEqual(text.count("nothing was measured"), 4)


if __name__ == "__main__":
    unittest.main()
