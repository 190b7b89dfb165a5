"""What the tests of sweep.py and continuous.py share: small data, and a stemfabric that notes how it is called."""
import json
import os
import pathlib
import shlex
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest
import uuid

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "scripts"
SNAPSHOTS = sorted((ROOT / "tests/data/snapshots").glob("*.json"))
PROGRAM = os.environ["STEMFABRIC"]
SMALL = """features: {time_bins: 8}
data: {train_ratio: 0.7, snapshot_targets: bands}
model: {dim: 16, depth: 1, heads: 2, dim_ff: 16}
training: {batch_size: 4, num_epochs: 2, lr: 0.01, threads: 1}
logging: {tensorboard: false}
"""


def snapshot(number):
    """A shipped snapshot under an id of its own, with stems that can be learned: powers of its band energies."""
    value = json.loads(SNAPSHOTS[number % len(SNAPSHOTS)].read_text())
    value["id"] = str(uuid.UUID(int=number + 1))
    spectral = value["quantumFeatures"]["spectral"]
    bands = spectral[::2] if len(spectral) > 500 else spectral
    value["groundTruthStems"] = {stem: [band**power for band in bands] for stem, power in
                                 (("vocals", 1), ("drums", 0.5), ("bass", 0.25))}
    return value


def write_snapshots(folder, numbers):
    folder.mkdir(exist_ok=True)
    for number in numbers:
        (folder / f"{number:03d}.json").write_text(json.dumps(snapshot(number)))


def ids_of(dataset, split):
    """Ids of the records in a split of a data set."""
    ids = []
    for shard in sorted((dataset / split).glob("shard-*.safetensors")):
        with open(shard, "rb") as file:
            size = struct.unpack("<Q", file.read(8))[0]
            ids += json.loads(json.loads(file.read(size))["__metadata__"]["ids"])
    return ids


def arguments_of(process):
    """Of a process by its folder in /proc; "" if it has ended."""
    try:
        return (process / "cmdline").read_text()
    except OSError:
        return ""


class Case(unittest.TestCase):
    def setUp(self):
        place = tempfile.TemporaryDirectory()
        self.addCleanup(place.cleanup)
        self.place = pathlib.Path(place.name)
        self.config = self.place / "small.yaml"
        self.config.write_text(SMALL)

    def run_script(self, name, *arguments, expect=0, program=PROGRAM):
        """stdout and stderr of scripts/<name>, which must end with that exit status."""
        done = subprocess.run([sys.executable, "-B", SCRIPTS / name, *map(str, arguments)], capture_output=True, text=True,
                              env=dict(os.environ, STEMFABRIC=str(program)), cwd=self.place, check=False)
        self.assertEqual(done.returncode, expect, done.stdout + done.stderr)
        return done.stdout + done.stderr

    def start_script(self, run, name, *arguments):
        """scripts/<name> as a process of its own, whose training in the folder `run` has a checkpoint; both are killed
        at the end of the test if they are still there."""
        process = subprocess.Popen([sys.executable, "-B", SCRIPTS / name, *map(str, arguments)], stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, text=True, cwd=self.place)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(self.kill_trainer, run)
        self.addCleanup(process.kill)
        while process.poll() is None and not list(run.glob("checkpoints/step-*")):
            time.sleep(0.02)
        return process

    def kill_trainer(self, run):
        """Kills the training in that run folder, if there is one, and waits for its end."""
        if not (run / ".lock").exists():
            return
        trainer = pathlib.Path("/proc", (run / ".lock").read_text().strip())
        if str(run) in arguments_of(trainer):
            os.kill(int(trainer.name), signal.SIGKILL)
        while str(run) in arguments_of(trainer):
            time.sleep(0.02)

    def spy(self, actions=""):
        """A stemfabric that writes its arguments to `calls`, does `actions` (bash), and goes on."""
        program = self.place / "stemfabric"
        program.write_text(f"""#!/bin/bash
echo "$*" >>{self.place}/calls
number=$(wc -l <{self.place}/calls)
{actions}
exec {shlex.quote(PROGRAM)} "$@"
""")
        program.chmod(0o755)
        return program

    def calls(self):
        file = self.place / "calls"
        return file.read_text().splitlines() if file.exists() else []
