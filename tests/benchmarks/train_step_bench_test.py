#!/usr/bin/env python3
"""What benchmarks/trainer/train_step_bench prints on the CPU: one JSON line, then the parts."""

import json
import subprocess
import sys
import unittest

BENCH = sys.argv.pop(1)


def bench(*options):
    return subprocess.run([BENCH, "--batch", "1", "--tokens", "4", "--steps", "2", "--warmup", "1", *options],
                          capture_output=True, text=True, check=False)


class TrainStepBench(unittest.TestCase):
    def test_one_line_of_json(self):
        result = bench()
        self.assertEqual(result.returncode, 0, result.stderr)
        row = json.loads(result.stdout)
        self.assertEqual((row["what"], row["batch"], row["tokens"], row["steps"]), ("train_step", 1, 4, 2))
        self.assertEqual(row["attention_by"], "stemfabric")
        self.assertNotIn("ms_graph", row)  # the CPU captures nothing
        self.assertGreaterEqual(row["ms_median"], row["ms_min"])
        self.assertGreater(row["ms_min"], 0)
        self.assertGreater(row["gradient_norm"], 0)

    def test_softmax_that_cudnn_is_asked_for_is_ours_on_the_cpu(self):
        result = bench("--attention", "softmax", "--precision", "bf16", "--cudnn")
        self.assertEqual(json.loads(result.stdout)["attention_by"], "stemfabric", result.stderr)

    def test_profile_is_of_steps_of_their_own(self):
        result = bench("--profile")
        line, *parts = result.stdout.splitlines()
        json.loads(line)
        calls = {part[2:38].strip(): part.split()[-2] for part in parts if part.endswith("calls")}
        self.assertEqual((calls["loss"], calls["adam"]), ("1", "1"))
        self.assertTrue(parts[-1].startswith("  sum "))


if __name__ == "__main__":
    unittest.main()
