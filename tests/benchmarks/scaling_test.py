#!/usr/bin/env python3
"""benchmarks/scaling.sh: how it starts the ranks, and the table, with stand-ins for the launcher and ranks_bench."""

import os
import pathlib
import subprocess
import tempfile
import unittest

SCRIPT = pathlib.Path(__file__).parents[2] / "benchmarks" / "scaling.sh"

# Says how it was started, and runs the program once with the number of ranks in the environment.
LAUNCHER = """#!/usr/bin/env bash
echo "$(basename "$0") $*" >>"$CALLS"
while [[ $1 != -n ]]; do shift; done
RANKS_NOW=$2 exec "${@:3}"
"""
# Two ranks take 1.25 and 0.75 times the time of one, four 2 and 0.5 times.
BENCH = """#!/usr/bin/env bash
[[ " $* " != *" --bogus "* ]] || { echo "ranks_bench: '--bogus' is unknown" >&2; exit 1; }
echo "steps of the default model (4018432 parameters), 128 tokens a sample, one thread a rank"
echo " ranks        scaling  buckets   samples   ms/step  waiting %  CPU ms, all  CPU ms/sample"
case $RANKS_NOW in
  1) echo "     1           weak     many         8     100.0        0.0        100.0          12.50" ;;
  2) echo "     2           weak     many         8     125.0       10.0        250.0          15.60"
     echo "     2           weak      one         8     999.0       10.0        250.0          15.60"
     echo "     2         strong     many         4      75.0       20.0        150.0          18.80" ;;
  4) echo "     4           weak     many         8     200.0       30.0        800.0          25.00"
     echo "     4         strong     many         2      50.0       40.5        200.0          25.00" ;;
esac
"""


class Scaling(unittest.TestCase):
    def setUp(self):
        self.temporary = tempfile.TemporaryDirectory()
        self.folder = pathlib.Path(self.temporary.name)
        for name, text in (("mpirun", LAUNCHER), ("srun", LAUNCHER), ("bench", BENCH)):
            (self.folder / name).write_text(text)
            (self.folder / name).chmod(0o755)

    def tearDown(self):
        self.temporary.cleanup()

    def run_script(self, *options, **variables):
        environment = {"PATH": f"{self.folder}:{os.environ['PATH']}", "CALLS": str(self.folder / "calls"),
                       "BENCH": str(self.folder / "bench"), "OUT": str(self.folder / "out"), **variables}
        return subprocess.run([SCRIPT, *options], env=environment, capture_output=True, text=True, check=False)

    def calls(self):
        return (self.folder / "calls").read_text().splitlines()

    def test_one_table_of_all_runs(self):
        result = self.run_script("--batch", "8", RANKS="1 2 4", LAUNCHER_OPTIONS="--hostfile hosts")
        self.assertEqual(result.returncode, 0, result.stderr)
        bench = self.folder / "bench"
        self.assertEqual(self.calls(), [f"mpirun --bind-to none --hostfile hosts -n {n} {bench} --batch 8" for n in (1, 2, 4)])
        rows = [line for line in result.stdout.splitlines() if line.startswith("| ")][1:]
        self.assertEqual(rows, ["| 1 |  | 8 | 100.0 | 80.0 | 100 % | 0.0 % |",
                                "| 2 | weak | 8 | 125.0 | 128.0 | 80 % | 10.0 % |",
                                "| 4 | weak | 8 | 200.0 | 160.0 | 50 % | 30.0 % |",
                                "| 2 | strong | 4 | 75.0 | 106.7 | 67 % | 20.0 % |",
                                "| 4 | strong | 2 | 50.0 | 160.0 | 50 % | 40.5 % |"])
        self.assertEqual((self.folder / "out" / "table.md").read_text(), result.stdout)

    def test_in_a_job_of_slurm_srun_starts_as_many_as_it_has_tasks(self):
        result = self.run_script(SLURM_JOB_ID="7", SLURM_NTASKS="4")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(self.calls(), [f"srun --mpi=pmix --kill-on-bad-exit=1 -n {n} {self.folder / 'bench'}" for n in (1, 2, 4)])

    def test_what_is_wrong_is_said(self):
        for options, variables, message in (
                ([], {"RANKS": "2 4"}, "must begin with 1"), ([], {"RANKS": "1 x"}, "'x'"),
                ([], {"LAUNCHER": "ssh"}, "LAUNCHER is 'ssh'"), ([], {"BENCH": "/none"}, "/none is missing"),
                (["--bogus", "1"], {"RANKS": "1"}, "'--bogus' is unknown")):
            result = self.run_script(*options, **variables)
            self.assertEqual(result.returncode, 2, message)
            self.assertIn(message, result.stderr)


if __name__ == "__main__":
    unittest.main()
