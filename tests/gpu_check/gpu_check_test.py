#!/usr/bin/env python3
"""scripts/gpu_check: arguments and list, the runner, and the report from recorded outputs.

recorded/raw holds what the programs and PyTorch wrote on a CPU, under the names that a GPU check gives
them; the run "train_cuda" there was made with another beta2 than "train_cpu". The lists of tests and of
kernels' cases come from the programs themselves, where CTest names them (KERNELS_TESTS, KERNEL_BENCHMARKS)."""
import fnmatch
import json
import math
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
import unittest

HERE = pathlib.Path(__file__).resolve().parent
SCRIPTS = HERE.parents[1] / "scripts"
PEERS = HERE.parents[1] / "benchmarks/peers"
sys.path[:0] = [str(SCRIPTS / "gpu_check"), str(PEERS)]
import gpu_check
import gtest_output
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


def lives(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text(errors="replace").rsplit(") ", 1)[1][0] not in "ZX"
    except OSError:
        return False


def wait_until(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def program(variable):
    """A built program that CTest names, or None."""
    path = os.environ.get(variable, "")
    return path if os.path.isfile(path) else None


def built_tests():
    """Names of all tests of the kernels, as the program lists them."""
    names, suite = [], ""
    for line in subprocess.run([program("KERNELS_TESTS"), "--gtest_list_tests"], capture_output=True, text=True,
                               check=True).stdout.splitlines():
        text = line.split("#")[0].rstrip()
        if text.startswith("  "):
            names.append(suite + text.strip())
        elif text.endswith("."):
            suite = text
    return names


def built_cases():
    """Lines of the list of kernels' cases, of a GPU's too in a build with CUDA."""
    for device in ("cuda", "cpu"):
        done = subprocess.run([program("KERNEL_BENCHMARKS"), f"--device={device}", "--benchmark_list_tests=true"],
                              capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return [line for line in done.stdout.splitlines() if "/stemfabric" in line]
    raise AssertionError(done.stderr)


def recorded_cases():
    return [line for line in (HERE / "recorded/raw/cases.out").read_text().splitlines() if "/stemfabric" in line]


def takes(gtest_filter, name):
    """As GoogleTest."""
    wanted, _, others = gtest_filter.partition("-")
    return (any(fnmatch.fnmatchcase(name, x) for x in (wanted or "*").split(":")) and
            not any(fnmatch.fnmatchcase(name, x) for x in others.split(":")))


def times(benchmark_filter, name):
    """As Google Benchmark."""
    return (re.search(benchmark_filter[1:], name) is None if benchmark_filter.startswith("-")
            else re.search(benchmark_filter, name) is not None)


class Arguments(unittest.TestCase):
    def test_the_list_names_every_step_and_needs_no_gpu(self):
        for quick in (False, True):
            done = run("--list", *(["--quick"] if quick else []))
            self.assertEqual(done.returncode, 0, done.stderr)
            names = [line.split()[0] for line in done.stdout.splitlines()[1:] if not line.startswith(" ")]
            steps = plan.make_plan(plan.Programs(gpu_check.ROOT), "RAW", "WORK", quick)
            self.assertEqual(names, [step.name for step in steps])
            self.assertEqual(len(names), len(set(names)))
        for name in ("kernels_cuda_tests.attention", "train_cuda", "kernels.adam", "torch_compiled", "sanitizer_memcheck"):
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

    def test_what_needs_cudnn_takes_the_doctor_along(self):
        self.assertEqual([line.split()[0] for line in run("--list", "--only", "^kernels.attention").stdout.splitlines()[1:]
                          if not line.startswith(" ")],
                         ["doctor", "kernels.attention", "kernels.attention_cudnn", "kernels.attention_other"])

    def test_a_command_that_is_cut_at_ten_minutes_leaves_time_for_the_report(self):
        self.assertEqual((gpu_check.parse_arguments([]).minutes, gpu_check.parse_arguments(["--quick"]).minutes), (8, 4))
        self.assertEqual(gpu_check.parse_arguments(["--minutes", "2.5"]).minutes, 2.5)

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


class Plan(unittest.TestCase):
    def setUp(self):
        self.steps = plan.make_plan(plan.Programs(gpu_check.ROOT), "RAW", "WORK", False, "PYTHON")
        self.names = [step.name for step in self.steps]

    def test_what_says_most_comes_first(self):
        order = ["kernels_cuda_tests.attention", "kernels_cuda_tests.bss_eval", "trainer_cuda_tests", "train_cuda",
                 "work_softmax_bf16", "step_fp32", "torch_eager", "kernels.attention", "kernels.stem_loss",
                 "kernels.residual_norm", "kernels.adam", "kernels.stft_features", "torch_compiled_bf16", "torch_kernels", "kernels.linear",
                 "kernels.bss_eval", "sanitizer_memcheck", "torch_compiled", "torch_kernels_rest", "sanitizer_racecheck"]
        places = [self.names.index(name) for name in order]
        self.assertEqual(places, sorted(places))
        self.assertEqual([n for n in self.names if n.startswith("kernels.")][-1], "kernels.bss_eval")

    def test_every_case_is_in_one_group(self):
        groups = {**plan.KERNEL_GROUPS_FIRST, **plan.KERNEL_GROUPS_LAST}
        for lines in (recorded_cases(), built_cases() if program("KERNEL_BENCHMARKS") else [],
                      ["cast/4M/stemfabric_bf16/iterations:50/manual_time"]):
            for line in lines:
                self.assertEqual(sum(times(pattern, line) for pattern in groups.values()), 1, line)
        for group, pattern in groups.items():
            self.assertTrue(any(times(pattern, line) for line in recorded_cases()), group)

    def test_what_is_compiled_is_among_the_first_and_little(self):
        cases = {line.split("/stemfabric")[0] for line in recorded_cases()}
        compiled = {case for case in cases if re.search(plan.PEERS_COMPILED, case)}
        self.assertEqual(len(compiled), 7)
        self.assertTrue(all(re.search(plan.PEERS_FIRST, case) for case in compiled))
        options = {step.name: step.command for step in self.steps if step.name.startswith("torch_kernels")}
        self.assertIn(plan.PEERS_COMPILED, options["torch_kernels"])
        self.assertIn("^$", options["torch_kernels_rest"])

    @unittest.skipUnless(program("KERNELS_TESTS"), "CTest names the program")
    def test_every_test_is_in_one_group_and_every_sanitized_one_exists(self):
        names = built_tests()
        self.assertGreater(len(names), 500)
        for name in names:
            groups = [group for group in plan.TEST_GROUPS if takes(plan.test_filter(group), name)]
            self.assertEqual(len(groups), 1, (name, groups))
        for group in plan.TEST_GROUPS:
            self.assertTrue(any(takes(plan.test_filter(group), name) for name in names), group)
        for pattern in plan.SANITIZED.split(":"):
            self.assertTrue(any(fnmatch.fnmatchcase(name, pattern) for name in names), pattern)

    def test_errors_of_kernels_are_named(self):
        for step in self.steps:
            waits = step.name.startswith(("kernels_cuda_tests", "sanitizer"))
            self.assertEqual(step.env.get("STEMFABRIC_SYNC_LAUNCHES"), "1" if waits else None, step.name)

    def test_compute_sanitizer_is_found_in_a_toolkit(self):
        with tempfile.TemporaryDirectory() as folder:
            os.mkdir(f"{folder}/bin")
            path = pathlib.Path(folder, "bin/compute-sanitizer")
            path.write_text("#!/bin/sh\n")
            path.chmod(0o755)
            before = dict(os.environ)
            try:
                os.environ.update(PATH="/nowhere", CUDA_HOME=folder)
                self.assertEqual(plan.find_sanitizer(), str(path))
            finally:
                os.environ.clear()
                os.environ.update(before)


class Libraries(unittest.TestCase):
    def test_all_of_pytorchs_wheels_behind_what_is_given(self):
        with tempfile.TemporaryDirectory() as folder:
            for name in ("cudnn", "nccl", "cu13"):
                os.makedirs(f"{folder}/site/nvidia/{name}/lib")
            os.makedirs(f"{folder}/cuda/lib64")
            before, path = dict(os.environ), list(sys.path)
            try:
                os.environ.update(CUDA_HOME=f"{folder}/cuda", LD_LIBRARY_PATH="/given")
                sys.path.append(f"{folder}/site")
                found = gpu_check.environment()["LD_LIBRARY_PATH"].split(":")
            finally:
                os.environ.clear()
                os.environ.update(before)
                sys.path[:] = path
        self.assertEqual(found[:2], ["/given", f"{folder}/cuda/lib64"])
        self.assertEqual(found[-3:], [f"{folder}/site/nvidia/{name}/lib" for name in ("cu13", "cudnn", "nccl")])

    def test_without_cudnn_its_steps_are_left_out(self):
        steps = [step for step in plan.make_plan(plan.Programs(gpu_check.ROOT), "RAW", "WORK", False) if step.library]
        self.assertEqual([step.name for step in steps], ["train_cuda_cudnn", "train_cuda_cudnn_again", "step_softmax_cudnn",
                                                         "kernels.attention_cudnn"])
        with tempfile.TemporaryDirectory() as folder:
            raw = pathlib.Path(folder)
            def why(text):
                (raw / "doctor.out").write_text(json.dumps({"checks": [{"name": "cudnn", "text": text}]}))
                return gpu_check.why_not(steps[2], {}, raw, 99, gpu_check.Stop())
            self.assertEqual(why("libcudnn.so.9: not found"), "no cudnn: libcudnn.so.9: not found")
            self.assertIsNone(why("9.19.0: softmax attention in bf16"))
            self.assertTrue(report.doctor_finding(HERE / "recorded/raw", "cudnn").startswith("9.19.0: "))
            (raw / "doctor.out").unlink()  # nobody knows: the step will tell
            self.assertIsNone(gpu_check.why_not(steps[2], {}, raw, 99, gpu_check.Stop()))


class Peers(unittest.TestCase):
    def setUp(self):
        try:
            import torch_gpu_kernels
        except ImportError:
            self.skipTest("no PyTorch")
        self.peers = torch_gpu_kernels

    def test_every_name_is_a_shape_or_has_no_peer(self):
        for lines in (recorded_cases(), built_cases() if program("KERNEL_BENCHMARKS") else []):
            names = self.peers.case_names(lines)
            steps, without = self.peers.plan_of(names, lambda name: True)
            self.assertEqual({name for name, *_ in steps} | set(without), set(names))
            self.assertLessEqual({name.split("/")[0] for name in without} & {
                "adam", "stem_loss", "mask_apply", "mask_loss", "stft", "istft", "stft_features"}, set())
            self.assertFalse([name for name in without if name.startswith(("attention_", "linear_", "residual_norm_", "relu_"))])

    def test_unknown_names_are_no_error(self):
        names = self.peers.case_names([f"{case}/stemfabric_bf16/iterations:5/manual_time" for case in (
            "cast/4M", "rotary/b32_t512", "stft/odd", "mask_loss/b1", "adam/rms_3", "linear_sideways/a/1x2x3", "plain")])
        steps, without = self.peers.plan_of(names, lambda name: True)
        self.assertEqual((steps, list(without)), ([], list(names)))

    def test_numbers_of_the_names(self):
        for name, shape in {
                "attention_forward/softmax/B8_T256_D32_dropout": {"kind": "softmax", "B": 8, "T": 256, "D": 32, "dropout": 0.1},
                "residual_norm_backward/m16_c3_p10": {"m": 16, "c": 3, "dropout": 0.1}, "adam/adamw_4M": {"decoupled": True, "n": 4 << 20},
                "adam/torch_64k": {"decoupled": False, "n": 65536}, "stem_loss/b8_t2_o5_plain": {"b": 8, "t": 2, "o": 5, "masked": False},
                "linear_forward/head/4x5x6": {"m": 4, "k": 5, "n": 6},
                "mask_loss/b2_t3_k9_power": {"b": 2, "t": 3, "k": 9, "kind": "power"}}.items():
            self.assertEqual(self.peers.shapes_of(name), (name.split("/")[0], shape))

    def test_eager_then_fused_then_compiled_and_bf16_where_ours_is(self):
        names = self.peers.case_names([f"{case}/iterations:5" for case in (
            "linear_forward/x/4x5x6/stemfabric", "linear_forward/x/4x5x6/stemfabric_bf16", "residual_norm_forward/m4_c8/stemfabric",
            "attention_forward/softmax/B1_T8_D4/stemfabric_cudnn", "adam/torch_64k/stemfabric")])
        steps, _ = self.peers.plan_of(names, lambda name: name.startswith(("linear", "attention")))
        order = [(name.split("/")[0], implementation) for name, _, _, implementation in steps if not implementation.startswith("sdpa")]
        self.assertEqual(order, [
            ("linear_forward", "eager"), ("linear_forward", "eager_bf16"), ("residual_norm_forward", "eager"),
            ("attention_forward", "eager"), ("attention_forward", "eager_bf16"), ("adam", "eager"),
            ("linear_forward", "compiled"), ("linear_forward", "compiled_bf16"), ("attention_forward", "compiled"),
            ("attention_forward", "compiled_bf16")])

    def test_small_cases_run(self):
        import torch
        device = torch.device("cpu")
        for name in ("linear_forward/x/4x8x6", "linear_backward_input/x/4x8x6", "linear_backward_kernel/x/4x8x6",
                     "relu_quantum_forward/4x8", "relu_quantum_backward/4x8", "residual_norm_forward/m4_c8_p10",
                     "residual_norm_backward/m4_c8", "attention_backward/centered/B1_T4_D8"):
            op, s = self.peers.shapes_of(name)
            for implementation in ("eager", "eager_bf16"):
                self.peers.prepare(op, s, implementation, device)()
        for name in ("stem_loss/b1_t2_o4", "adam/torch_8", *(f"mask_{op}/b1_t2_k40_{kind}" for op in ("apply", "loss")
                                                             for kind in ("complex", "real", "power"))):
            op, s = self.peers.shapes_of(name)
            self.peers.prepare(op, s, "eager", device)()

    def test_masks_are_those_of_the_kernels(self):
        import mask_maths
        band, fraction = mask_maths.band_table(3, 5)  # centres are bins 0, r sinh(1 / r) and 4
        self.assertEqual((band[0], fraction[0], band[4]), (0, 0.0, 1))
        self.assertAlmostEqual(fraction[4], 1, places=6)
        self.assertEqual(band, sorted(band))
        at = [j + f for j, f in zip(band, fraction)]
        self.assertAlmostEqual(at[1] / at[2], math.asinh(1 / 0.9185) / math.asinh(2 / 0.9185), places=3)
        estimate, (prediction, mixture) = mask_maths.make_estimate("cpu", 1, 2, 300, "complex")
        out = estimate(prediction, mixture)
        self.assertEqual(tuple(out.shape), (6, 1, 2, 2, 300))
        band, fraction = mask_maths.band_table(128, 300)
        at = prediction.view(6, 1, 2, 2, 2, 128)[3, 0, 1, 1]  # stem 3, frame 1, channel 1: [parts, bands]
        real, imaginary = ((1 - fraction[77]) * at[i][band[77]] + fraction[77] * at[i][band[77] + 1] for i in (0, 1))
        expected = complex(real, imaginary) * complex(mixture[0, 1, 1, 77])
        self.assertAlmostEqual(abs(complex(out[3, 0, 1, 1, 77]) - expected), 0, places=5)

    def test_the_norm_of_all_gradients(self):
        import torch
        import torch_train_step
        tensors = [torch.tensor([[3.0, 0.0]]), torch.tensor([4.0])]
        self.assertAlmostEqual(float(torch_train_step.norm_of(tensors)), 5, places=6)


def gtest_text(*tests, expected=None, end="[==========] done\n"):
    """As GoogleTest prints: (name, OK or FAILED or SKIPPED or None, what the test printed)."""
    lines = [f"[==========] Running {expected or len(tests)} tests from 1 test suite.\n"]
    for name, outcome, text in tests:
        lines.append(f"[ RUN      ] {name}\n{text}")
        if outcome:
            lines.append(f"[{outcome:>9} ] {name} (0 ms)\n")
    failed = [f"[  FAILED  ] {name}\n" for name, outcome, _ in tests if outcome == "FAILED"]
    return "".join(lines + [end] + (failed if end else []))


class TestOutput(unittest.TestCase):
    def test_counts(self):
        text = gtest_text(("A.x", "OK", "[ SIMD     ] AVX3\n"), ("A.y/1", "SKIPPED", "why\n"), ("B.z", "FAILED", "wrong\n"))
        self.assertEqual(gtest_output.summary(text), {"ran": 2, "skipped": 1, "failed": ["B.z"]})
        self.assertIsNone(gtest_output.rest_of(["p"], text))
        self.assertIsNone(gtest_output.summary("no such library\n"))

    def test_a_program_that_died_names_its_last_test_and_leaves_the_rest(self):
        text = gtest_text(("A.x", "OK", ""), ("A.y", None, "half a li"), expected=5, end="")
        self.assertEqual(gtest_output.summary(text), {"ran": 2, "skipped": 0, "failed": ["A.y"], "unfinished": "A.y"})
        self.assertEqual(gtest_output.rest_of(["p", "--gtest_filter=A*:B*", "-x"], text), ["p", "--gtest_filter=A*:B*-A.x:A.y", "-x"])
        self.assertEqual(gtest_output.rest_of(["p", "--gtest_filter=A*-B*"], text), ["p", "--gtest_filter=A*-B*:A.x:A.y"])

    def test_after_an_error_of_the_device_no_outcome_counts(self):
        text = gtest_text(("A.x", "OK", ""), ("A.y", "FAILED", "k: an illegal memory access was encountered\n"),
                          ("A.z", "FAILED", "k: an illegal memory access was encountered\n"))
        self.assertEqual(gtest_output.summary(text), {"ran": 2, "skipped": 0, "failed": ["A.y"], "spoiled_by": "A.y"})
        self.assertEqual(gtest_output.rest_of(["--gtest_filter=*"], text), ["--gtest_filter=*-A.x:A.y"])

    def test_nothing_is_left_over_by_the_last_test(self):
        self.assertIsNone(gtest_output.rest_of(["p"], gtest_text(("A.x", "OK", ""), ("A.y", None, ""), end="")))


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
            shell("good", "echo fine"), shell("bad", "exit 3"), shell("says", "echo a >&2; echo why >&2; exit 1"), shell("killed", "kill -9 $$"),
            plan.Step("gone", "", ["/none/such"], 5), shell("slow", "sleep 30", 0.3),
            shell("after_bad", "true", needs=("bad",)), shell("after_good", "true", needs=("good",))])
        self.assertEqual(found, {
            "good": ("passed", None), "bad": ("failed", "exit status 3"),
            "says": ("failed", "exit status 1: why"), "killed": ("failed", "ended by signal 9"),
            "gone": ("failed", "/none/such: No such file or directory"), "slow": ("timed out", "not done after 0 s"),
            "after_bad": ("skipped", "needs bad, which did not pass"), "after_good": ("passed", None)})
        self.assertEqual((self.raw / "good.out").read_text(), "fine\n")

    def test_a_step_takes_its_children_along(self):
        pid = self.raw / "pid"
        self.outcomes([shell("parent", f"sleep 60 & echo $! >{pid}; sleep 60", 0.5)])
        self.assertTrue(wait_until(lambda: not lives(int(pid.read_text()))))  # a killed process may take a moment to die

    def test_no_step_starts_when_the_time_is_up(self):
        self.assertEqual(self.outcomes([shell("late", "true")], seconds=1), {"late": ("skipped", "the time was up")})

    def test_tests_that_a_broken_one_kept_from_running_run_in_another_process(self):
        program = self.raw / "program"
        program.write_text(f"""#!/bin/sh
case "$1" in
  *-A.x:A.y) printf '[==========] Running 1 test from 1 test suite.\\n[ RUN      ] A.z\\n[       OK ] A.z (0 ms)\\n' ;;
  *) printf '[==========] Running 3 tests from 1 test suite.\\n[ RUN      ] A.x\\n[       OK ] A.x (0 ms)\\n[ RUN      ] A.y\\n'
     kill -11 $$ ;;
esac
""")
        program.chmod(0o755)
        step = plan.gtest("tests", "", str(program), self.raw, 20)
        self.assertEqual(self.outcomes([step, shell("next", "true")]), {
            "tests": ("failed", "ended by signal 11"), "tests+1": ("passed", None), "next": ("passed", None)})
        results = report.collect(self.raw)
        self.assertEqual(results["tests"], {"tests": {"ran": 2, "skipped": 0, "failed": ["A.y"], "unfinished": "A.y"},
                                            "tests+1": {"ran": 1, "skipped": 0, "failed": []}})
        self.assertIn("2 ran, 0 skipped, 1 failed; it ended in A.y; ended by signal 11", report.markdown(results))

    def test_tests_that_break_again_and_again_are_left(self):
        program = self.raw / "program"
        program.write_text("""#!/bin/sh
echo "[==========] Running 9 tests from 1 test suite."
echo "[ RUN      ] A.$$"
kill -6 $$
""")
        program.chmod(0o755)
        self.assertEqual(list(self.outcomes([plan.gtest("tests", "", str(program), self.raw, 20)])), ["tests", "tests+1", "tests+2"])

    def test_a_program_of_tests_that_takes_too_long_names_the_test(self):
        step = shell("tests", "echo '[==========] Running 3 tests'; echo '[ RUN      ] A.x'; sleep 30", 0.5)._replace(kind="gtest")
        found = self.outcomes([step])
        self.assertEqual(found, {name: ("timed out", "not done after 0 s") for name in ("tests", "tests+1")})
        self.assertEqual(report.collect(self.raw)["tests"]["tests"]["unfinished"], "A.x")

    def test_variables_of_a_step(self):
        self.outcomes([shell("x", "echo $A $STEMFABRIC_B")._replace(env={"STEMFABRIC_B": "2"})])
        self.assertEqual((self.raw / "x.out").read_text(), "2\n")

    def test_of_a_training_run_losses_and_hash_are_kept(self):
        run = self.raw / "run"
        self.outcomes([shell("train_x", f"mkdir {run}; echo '{{}}' >{run}/metrics.jsonl; printf abc >{run}/final_model.safetensors",
                             run=str(run))])
        self.assertEqual((self.raw / "train_x.jsonl").read_text(), "{}\n")
        self.assertTrue((self.raw / "train_x.sha256").read_text().startswith("ba7816bf"))

    def test_a_training_run_that_leaves_nothing_behind_did_not_pass(self):
        self.assertEqual(self.outcomes([shell("train_x", "true", run=str(self.raw / "none"))])["train_x"][0], "failed")


class Check(unittest.TestCase):
    """The whole command, with a made-up nvidia-smi and made-up programs."""

    def setUp(self):
        self.temporary = tempfile.TemporaryDirectory()
        self.folder = pathlib.Path(self.temporary.name)
        for name in plan.PROGRAMS.values():
            self.program(f"build/{name}", "exit 0")
        self.program("path/nvidia-smi", "echo 'Made-up GPU, 1.2, 3 MiB, 9.0, 700 W, 1980 MHz'")
        self.out = self.folder / "out"

    def tearDown(self):
        self.temporary.cleanup()

    def program(self, name, text):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def start(self, *arguments):
        env = dict(os.environ, PYTHON=sys.executable, PYTHONDONTWRITEBYTECODE="1",
                   PATH=f"{self.folder}/path:{os.environ['PATH']}")
        return subprocess.Popen(["/bin/bash", SCRIPTS / "gpu_check.sh", "--build", self.folder / "build", "--output-dir",
                                 self.out, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env)

    def results(self):
        return json.loads((self.out / "results.json").read_text())

    def outcomes(self):
        return {step["name"]: step["outcome"] for step in self.results()["steps"]}

    def test_to_its_end(self):
        process = self.start("--only", "^(doctor|runtime_tests)$")
        text, _ = process.communicate()
        self.assertEqual(process.returncode, 0, text)
        self.assertEqual(self.outcomes(), {"doctor": "passed", "runtime_tests": "passed"})
        self.assertEqual(self.results()["state"], "finished")
        self.assertEqual(sorted(os.listdir(self.out)), ["README.md", "raw", "raw.tar.gz", "results.json"])
        with tarfile.open(self.out / "raw.tar.gz") as archive:
            self.assertEqual(sorted(archive.getnames()), ["raw"] + sorted(f"raw/{x}" for x in os.listdir(self.out / "raw")))
        self.assertNotIn("not run to its end", (self.out / "README.md").read_text())

    def test_the_outputs_may_lie_elsewhere(self):
        process = self.start("--only", "^doctor$", "--raw-dir", self.folder / "elsewhere")
        process.communicate()
        self.assertEqual(process.returncode, 0)
        self.assertEqual(sorted(os.listdir(self.out)), ["README.md", "raw.tar.gz", "results.json"])
        self.assertIn("doctor.out", os.listdir(self.folder / "elsewhere"))
        with tarfile.open(self.out / "raw.tar.gz") as archive:
            self.assertIn("raw/doctor.out", archive.getnames())

    def hang(self):
        """A check whose second step does not end: (process, the step's process id)."""
        self.program("build/tests/runtime_tests", f"echo $$ >{self.folder}/pid.new; mv {self.folder}/pid.new {self.folder}/pid; sleep 60 & wait")
        process = self.start("--only", "^(doctor|runtime_tests|step_fp32)$")
        self.assertTrue(wait_until((self.folder / "pid").exists))
        return process, int((self.folder / "pid").read_text())

    def test_a_signal_ends_the_step_and_writes_the_report(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            process, pid = self.hang()
            process.send_signal(number)
            begin = time.monotonic()
            text, _ = process.communicate(timeout=30)
            self.assertLess(time.monotonic() - begin, 20)
            self.assertEqual(process.returncode, 1, text)
            self.assertTrue(wait_until(lambda: not lives(pid)))
            self.assertEqual(self.outcomes(), {"doctor": "passed", "runtime_tests": "stopped", "step_fp32": "skipped"})
            self.assertIn(f"not run to its end: ended by {number.name}", (self.out / "README.md").read_text())
            self.assertTrue((self.out / "raw.tar.gz").is_file())
            (self.folder / "pid").unlink()
            shutil.rmtree(self.out)

    def test_one_that_is_killed_has_told_what_it_knew_and_leaves_nothing_running(self):
        process, pid = self.hang()
        process.kill()
        process.communicate()
        self.assertEqual(self.outcomes(), {"doctor": "passed"})
        self.assertIn("not run to its end: not finished", (self.out / "README.md").read_text())
        self.assertTrue(wait_until(lambda: not lives(pid)))

    def test_other_bits_are_a_failure(self):
        self.program("build/stemfabric", """
case "$*" in
  *--output-dir*/train_cuda_again*) bits=a ;;
  *) bits=b ;;
esac
while [ $# -gt 0 ]; do [ "$1" = --output-dir ] && folder=$2; shift; done
[ -z "$folder" ] && exit 0
mkdir -p "$folder"
echo '{"kind": "step", "loss": 2.0}' >"$folder/metrics.jsonl"
echo $bits >"$folder/final_model.safetensors"
""")
        for only, status in (("^train_cuda$|^train_cuda_kernels$", 0), ("^train_cuda$|^train_cuda_again$", 1)):
            process = self.start("--only", only)
            text, _ = process.communicate()
            self.assertEqual(process.returncode, status, text)
            self.assertEqual(len(self.results()["findings"]), status)
            self.assertEqual(set(self.outcomes().values()), {"passed"})
            shutil.rmtree(self.out)


class Report(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.raw = pathlib.Path(self.folder.name, "raw")
        shutil.copytree(HERE / "recorded/raw", self.raw)

    def tearDown(self):
        self.folder.cleanup()

    def results(self):
        text = report.markdown(report.write(self.folder.name))
        self.assertEqual(pathlib.Path(self.folder.name, "README.md").read_text(), text)
        self.assertEqual(list(pathlib.Path(self.folder.name).glob("*.partial")), [])
        return json.loads(pathlib.Path(self.folder.name, "results.json").read_text()), text

    def test_everything_that_was_recorded_is_told(self):
        results, text = self.results()
        self.assertEqual(results["tests"], {"kernels_cuda_tests.elementwise": {"ran": 12, "skipped": 0, "failed": []}})
        self.assertEqual(results["findings"], [])
        self.assertIn("Of the training runs 1 had to have the bits of another, and have them", text)
        cases = {case["case"]: case for case in results["kernels"]["cases"]}
        adam = cases["adam/torch_64k"]
        row = next(r for r in json.loads((self.raw / "kernels.rest.out").read_text())["benchmarks"] if "adam" in r["name"])
        self.assertEqual((adam["median_us"], adam["%floor"]), (row["median_us"], row["%floor"]))
        self.assertEqual(adam["torch_us"], {"eager": 447.7})
        self.assertIn(f"| `adam/torch_64k/stemfabric` | {row['median_us']:.1f} | {row['%floor']:.0f} |", text)
        self.assertIn(f"447.7 ({447.7 / row['median_us']:.2f})", text)
        step = results["train_step"]
        ratio = step["torch_eager"]["ms_median"] / step["step_fp32"]["ms_median"]
        self.assertIn(f"| {ratio:.2f} (step_fp32) |", text)
        self.assertIn("| kernels_cuda_tests.elementwise | passed | 12.5 | 12 ran, 0 skipped, 0 failed |", text)

    def rewrite_losses(self, name, change):
        path = self.raw / f"{name}.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps({**row, "loss": change(i, row["loss"])}) + "\n" for i, row in enumerate(rows)))

    def test_a_run_of_cudnn_that_ran_our_kernels_is_a_finding(self):
        for name, like in (("train_cuda_softmax", "train_cuda"), ("train_cuda_cudnn", "train_cpu")):
            for kind in ("jsonl", "sha256"):
                shutil.copyfile(self.raw / f"{like}.{kind}", self.raw / f"{name}.{kind}")
        self.assertFalse(any("cuDNN" in finding for finding in self.results()[0]["findings"]))
        shutil.copyfile(self.raw / "train_cuda_softmax.sha256", self.raw / "train_cuda_cudnn.sha256")
        self.assertTrue(any("cuDNN computed nothing" in finding for finding in self.results()[0]["findings"]))

    def test_losses_too_far_from_their_reference_are_findings(self):
        for change, finding in (
                (lambda i, x: x * (1 + 2e-5), "train_cuda: the first loss differ from those of train_cpu by up to 2.0e-05"),
                (lambda i, x: x * (1 + 2e-3 * (i > 0)), "train_cuda: the first 10 losses differ"),
                (lambda i, x: float("nan") if i == 3 else x, "train_cuda: the first 10 losses differ from those of train_cpu by up to nan"),
                (lambda i, x: None if i == 0 else x, "train_cuda: the first loss differ")):
            shutil.copyfile(HERE / "recorded/raw/train_cuda.jsonl", self.raw / "train_cuda.jsonl")
            self.rewrite_losses("train_cuda", change)
            results, text = self.results()
            self.assertEqual(len(results["findings"]), 1, results["findings"])
            self.assertTrue(results["findings"][0].startswith(finding), results["findings"])
            self.assertIn(f"- {finding}", text)

    def test_the_bound_of_all_losses_and_the_number_of_steps(self):
        def runs(values):
            return {"train_cpu": {"steps": 20}, "train_cuda": {"steps": 20, "compared_with": "train_cpu", **dict(zip((
                "first_relative_difference", "early_relative_difference", "largest_relative_difference"), values))}}
        self.assertEqual(report.findings(runs((1e-6, 1e-4, 1e-2))), [])
        self.assertIn("the losses differ", report.findings(runs((1e-6, 1e-4, 3e-2)))[0])
        short = runs((0, 0, 0))
        short["train_cuda"]["steps"] = 12
        self.assertEqual(report.findings(short), ["train_cuda has 12 steps, train_cpu 20"])

    def test_bf16_may_differ_by_more(self):
        for name in ("train_cuda_bf16", "train_cuda_cudnn"):
            for kind in ("jsonl", "sha256"):
                shutil.copyfile(self.raw / f"train_cuda.{kind}", self.raw / f"{name}.{kind}")
                shutil.copyfile(self.raw / f"train_cpu.{kind}", self.raw / f"train_cuda_softmax.{kind}")
            self.rewrite_losses(name, lambda i, x: x * (1 + 2e-3 + 0.05 * (i > 0)))
            self.assertEqual(self.results()[0]["findings"], [])
            self.rewrite_losses(name, lambda i, x: x * 1.2)
            self.assertIn(f"{name}: the first loss differ", self.results()[0]["findings"][0])
            (self.raw / f"{name}.jsonl").unlink()

    def test_the_floor_of_the_step(self):
        results, text = self.results()
        rates = results["kernels"]["rates"]
        self.assertEqual(rates["copy_GB_per_s"], 18.9)
        self.assertAlmostEqual(rates["product_TFLOP_per_s"]["fp32"], 0.2364)
        kernels = json.loads((self.raw / "work_superposition_centered_fp32.out").read_text())["kernels"]
        floor = 1e3 * sum(k["calls"] * max(k["flops"] / 0.2364e12, k["bytes"] / 18.9e9) for k in kernels)
        step = results["train_step"]["step_fp32"]
        self.assertAlmostEqual(step["floor_ms"], floor)
        self.assertAlmostEqual(step["floor_share"], floor / step["ms_median"])
        self.assertIn(f"| {floor:.3f} | {100 * floor / step['ms_median']:.0f} |", text)
        self.assertIn("0.2 TFLOP/s in products of fp32, 19 GB/s of a copy", text)
        self.assertNotIn("floor_ms", results["train_step"]["torch_eager"])
        self.assertEqual(results["work"]["superposition_centered_fp32"]["gflop"], round(sum(k["calls"] * k["flops"] for k in kernels) * 1e-9, 3))

    def test_products_of_bf16_come_from_the_benchmarks_or_from_pytorch(self):
        rows = [{"what": "product_bf16", "TFLOP/s": 700.5}]
        contexts = [{"copy_GB_per_s": "4000", "peak_GFLOP_per_s": "50000"}, {"copy_GB_per_s": "4100"}]
        self.assertEqual(report.rates(contexts, rows), {"copy_GB_per_s": 4100, "product_TFLOP_per_s": {"fp32": 50, "bf16": 700.5}})
        contexts[1]["peak_bf16_GFLOP_per_s"] = "790000"
        self.assertEqual(report.rates(contexts, rows)["product_TFLOP_per_s"]["bf16"], 790)
        self.assertEqual(report.rates([], []), {"copy_GB_per_s": None, "product_TFLOP_per_s": {"fp32": None, "bf16": None}})

    def add_step(self, name, **fields):
        steps = json.loads((self.raw / "steps.json").read_text())
        steps.append({"name": name, "what": "", "command": [], "outcome": "passed", "seconds": 1.0})
        (self.raw / "steps.json").write_text(json.dumps(steps))
        row = json.loads((self.raw / "step_fp32.out").read_text())
        (self.raw / f"{name}.out").write_text(json.dumps({**row, **fields}) + "\n")

    def test_steps_are_paired_by_attention_and_precision(self):
        self.add_step("step_bf16", precision="bf16", ms_median=4.0, ms_graph=2.0, attention_by="stemfabric")
        self.add_step("step_softmax_bf16", precision="bf16", attention="softmax", ms_median=3.0, attention_by="stemfabric")
        self.add_step("step_softmax_cudnn", precision="bf16", attention="softmax", ms_median=2.5, attention_by="cudnn 9.1.2")
        self.add_step("torch_compiled_bf16", implementation="torch 2", precision="bf16", ms_median=6.0)
        self.add_step("torch_sdpa_bf16", implementation="torch 2", precision="bf16", attention="sdpa", ms_median=5.0)
        self.add_step("torch_sdpa", implementation="torch 2", precision="fp32", attention="sdpa", ms_median=5.0)
        results, text = self.results()
        steps = results["train_step"]
        self.assertEqual((steps["torch_compiled_bf16"]["against"], steps["torch_compiled_bf16"]["times_ours"]), ("step_bf16", 3))
        self.assertEqual((steps["torch_sdpa_bf16"]["against"], steps["torch_sdpa_bf16"]["times_ours"]), ("step_softmax_cudnn", 2))
        self.assertEqual(steps["torch_eager"]["against"], "step_fp32")
        self.assertNotIn("against", steps["torch_sdpa"])
        self.assertIn("| step_bf16 | stemfabric | superposition_centered | bf16 | 4.000 | 2.000 |", text)
        self.assertIn("| step_softmax_cudnn | stemfabric | softmax (cudnn 9.1.2) | bf16 |", text)

    def test_kernels_are_paired_by_precision(self):
        whole = json.loads((self.raw / "kernels.rest.out").read_text())
        row = dict(whole["benchmarks"][0], median_us=10.0)
        case = "attention_forward/softmax/B8_T1024_D64"
        whole["benchmarks"] = [dict(row, name=f"{case}/{ours}/iterations:3/manual_time") for ours in ("stemfabric", "stemfabric_bf16", "stemfabric_cudnn")]
        (self.raw / "kernels.rest.out").write_text(json.dumps(whole))
        times = {"eager": 100.0, "compiled": 50.0, "sdpa": 40.0, "eager_bf16": 30.0, "sdpa_bf16": 20.0, "sdpa_cudnn_bf16": 15.0}
        lines = [{"case": case, "implementation": name, "median_us": us} for name, us in times.items()]
        lines += [{"case": case, "implementation": "compiled_bf16", "error": "RuntimeError: no"},
                  {"case": "bss_eval/x", "implementation": "none", "no_peer": "bss_eval has none"}]
        (self.raw / "torch_kernels.out").write_text("".join(json.dumps(line) + "\n" for line in lines))
        results, text = self.results()
        peers = [case["torch_us"] for case in results["kernels"]["cases"]]
        fp32 = {name: us for name, us in times.items() if "bf16" not in name}
        self.assertEqual(peers, [fp32, {n: us for n, us in times.items() if n not in fp32}, {n: us for n, us in times.items() if n not in fp32}])
        self.assertIn("| torch eager | torch compiled | torch sdpa | torch sdpa_cudnn |", text)
        self.assertIn("| 100.0 (10.00) | 50.0 (5.00) | 40.0 (4.00) |  |", text)
        self.assertEqual(text.count("| 30.0 (3.00) | not timed | 20.0 (2.00) | 15.0 (1.50) |"), 2)
        self.assertEqual(text.count(f"- `{case}` compiled_bf16: RuntimeError: no"), 1)
        self.assertIn("Without a counterpart in PyTorch: bss_eval.", text)

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
        whole = (self.raw / "kernels.rest.out").read_text()
        (self.raw / "kernels.rest.out").write_text(whole[:whole.index("adam/torch_64k") + 200])
        peers = (self.raw / "torch_kernels.out").read_text()
        (self.raw / "torch_kernels.out").write_text(peers[:-20])
        cases = self.results()[0]["kernels"]["cases"]
        self.assertEqual([case["case"] for case in cases], ["relu_quantum_forward/2048x1536", "relu_quantum_backward/2048x1536"])
        for length in range(0, len(whole), 37):
            report.google_benchmark(whole[:length])

    def test_failed_cases_have_no_numbers(self):
        whole = json.loads((self.raw / "kernels.rest.out").read_text())
        whole["benchmarks"][0].update(error_occurred=True, error_message="wrong result")
        (self.raw / "kernels.rest.out").write_text(json.dumps(whole))
        results, text = self.results()
        self.assertNotIn("median_us", results["kernels"]["cases"][0])
        self.assertIn("error: wrong result", text)

    def test_failed_tests_are_listed(self):
        path = self.raw / "kernels_cuda_tests.elementwise.out"
        name = "Gather.NoRowsAndEmptyRowsAreNothing"
        self.assertIn(f"[       OK ] {name}", path.read_text())
        path.write_text(path.read_text().replace(f"[       OK ] {name}", f"wrong\n[  FAILED  ] {name}"))
        results, text = self.results()
        self.assertEqual(results["tests"]["kernels_cuda_tests.elementwise"], {"ran": 12, "skipped": 0, "failed": [name]})
        self.assertIn(f"- `kernels_cuda_tests.elementwise` {name}", text)

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
