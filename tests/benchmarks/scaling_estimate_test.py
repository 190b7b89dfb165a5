#!/usr/bin/env python3
"""benchmarks/scaling_estimate.py: its formula against sums made by hand, its options, and the pages that show it."""

import pathlib
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "scaling_estimate.py"


def run(*options):
    return subprocess.run([sys.executable, "-B", SCRIPT, *options], capture_output=True, text=True, check=False)


def row(text, gpus):
    line = next(line for line in text.splitlines() if line.startswith(f"| {gpus} ("))
    return [cell.strip() for cell in line.strip("|").split("|")]


class ScalingEstimate(unittest.TestCase):
    # Round numbers: gradients of 8 MB in buckets of 3 MB are two sums while the backward pass runs, and 2 MB after it.
    ROUND = ["--parameters", "2e6", "--bucket-bytes", "3e6", "--samples", "10", "--sample-us", "100", "--fixed-us", "0",
             "--backward-share", "0.5", "--gpus-per-node", "4", "--gpu-gbytes", "100", "--gpu-latency-us", "2",
             "--node-gbytes", "10", "--node-latency-us", "10", "--start-us", "1", "--all-samples", "16"]

    def test_one_gpu_sends_nothing(self):
        self.assertEqual(row(run(*self.ROUND).stdout, 1)[1:4], ["1.00", "0", "100 %"])

    def test_one_node(self):
        # A sum of B bytes: 1 + 2 * 3/4 * B / 100 GB/s + 2 * 3 * 2; of 3 MB 58 us, of 2 MB 43 us, of nothing 13 us.
        # The two of 3 MB take 116 us, which the backward pass of 500 us hides: 43 + 3 * 13 are left.
        self.assertEqual(row(run(*self.ROUND).stdout, 4)[1:4], ["1.08", "82", "92 %"])

    def test_four_nodes(self):
        # Beside that, of 2 MB a GPU sends 0.5 MB: 2 * 3/4 * 0.5 MB / 10 GB/s + 2 * 2 * 10 = 115 us; 40 us of nothing.
        # Of 3 MB 58 + 152.5; twice is 421 us, hidden. 43 + 115 + 3 * (13 + 40).
        self.assertEqual(row(run(*self.ROUND).stdout, 16)[1:4], ["1.32", "317", "76 %"])

    def test_what_the_backward_pass_does_not_hide(self):
        # One sample of each GPU: 50 us of backward pass, 371 us of the two buckets are left too. 16 samples on one
        # GPU take 1600 us.
        self.assertEqual(row(run(*self.ROUND).stdout, 16)[4:], ["1", "0.79", "2.0 (13 %)"])

    def test_options_without_meaning_are_refused(self):
        for options, word in ((["--samples", "0"], "--samples"), (["--backward-share", "1"], "--backward-share"),
                              (["--gpus", "0"], "--gpus"), (["--sample-us", "-1"], "--sample-us")):
            result = run(*options)
            self.assertEqual(result.returncode, 2, options)
            self.assertIn(word, result.stderr.splitlines()[-1])

    def test_the_page_shows_what_it_prints(self):
        with tempfile.TemporaryDirectory() as folder:
            chart = pathlib.Path(folder) / "chart.svg"
            printed = run("--svg", str(chart)).stdout
            self.assertEqual(printed.splitlines()[0], "calculated, not measured")
            tables = printed.split("\n", 1)[1].strip()
            self.assertIn(tables, (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8"))
            self.assertEqual(chart.read_text(encoding="utf-8"),
                             (ROOT / "docs" / "images" / "scaling_estimate.svg").read_text(encoding="utf-8"))


if __name__ == "__main__":
    unittest.main()
