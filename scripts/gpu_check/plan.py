"""What scripts/gpu_check.sh runs: one list of steps, in the order of what is worth knowing first."""
import collections
import pathlib
import sys

# name: of the output files raw/<name>.out and .err; command: argument list; limit_s: of its time;
# needs: steps that have to pass before; run: the folder of the training run that it makes, of which
# raw/ keeps the metrics and the hash of the final weights.
Step = collections.namedtuple("Step", "name what command limit_s needs run", defaults=((), None))

PROGRAMS = {  # in a package, and in a build folder
    "stemfabric": "stemfabric",
    "runtime_tests": "tests/runtime_tests",
    "kernels_cuda_tests": "tests/kernels/kernels_cuda_tests",
    "trainer_cuda_tests": "tests/trainer_cuda_tests",
    "kernel_benchmarks": "benchmarks/kernel_benchmarks",
    "train_step_bench": "benchmarks/trainer/train_step_bench",
}
# Small and of every kernel: a sanitizer makes them 10 to 100 times slower.
SANITIZED = ":".join([
    "Activation.*", "ColumnSum.*", "SumSquares.*", "Standardize.*", "StepControl.*", "Rotary.*", "ResidualNorm.*",
    "Adam.*", "StemLoss.*", "Cases/Linear.*", "AttentionDropout.*", "AttentionPolynomials.*", "Cast*.*", "Bf16*.*", "Gather.*",
    "*StemMask*", "*Stft*", "*Istft*", "AttentionBf16.*", "ChunkMix.*", "BssEval.NoBitDependsOnTheOrderOfThreads",
    "BssEval.ASignalOfOneSampleIsNotSilent", "BssEval.AllSilent"])
SANITIZER_TOOLS = ("memcheck", "racecheck", "synccheck")


SOFTMAX_BF16 = ("--device", "cuda", "--set", "training.precision=bf16", "--set", "model.attention.activation=softmax")


class Programs:
    """Where the programs are: bin/ of a package, or a build folder. Says which."""

    def __init__(self, root, build=None):
        self.root = pathlib.Path(root)
        self.package = build is None and (self.root / "bin").is_dir()
        self.build = pathlib.Path(build) if build else self.root / "build/cuda"

    def __getitem__(self, name):
        return str(self.root / "bin" / name if self.package else self.build / PROGRAMS[name])

    def missing(self):
        return [name for name in PROGRAMS if not pathlib.Path(self[name]).is_file()]

    def describe(self):
        return "the relocatable package" if self.package else f"the build in {self.build}"


def gtest(name, what, programs, raw, limit_s):
    return Step(name, what, [programs[name], f"--gtest_output=json:{raw}/{name}.json", "--gtest_brief=1"], limit_s)


def training_step(programs, work, name, what, steps, options):
    command = [programs["stemfabric"], "train", "--config", str(programs.root / "configs/snapshot_base.yaml"),
               "--dataset-dir", f"{work}/data/check", "--output-dir", f"{work}/{name}", "--quiet",
               "--set", f"training.num_steps={steps}", "--set", "training.batch_size=4",
               "--set", "training.seed=1", "--set", "logging.tensorboard=false"]
    return Step(name, what, command + options, 120, ("dataset",), f"{work}/{name}")


def training(programs, work, quick):
    """Short real runs from the snapshots of the tests: curves to compare, bits to compare."""
    steps = 60 if quick else 200
    snapshots = str(programs.root / "tests/data/snapshots")
    def run(name, what, *options):
        return training_step(programs, work, name, what, steps, list(options))
    return [
        Step("sanitize", "snapshots of the tests", [
            programs["stemfabric"], "sanitize", "--input", snapshots, "--output", f"{work}/clean.jsonl"], 30),
        Step("dataset", "a data set of them", [
            programs["stemfabric"], "dataset", "--input", f"{work}/clean.jsonl", "--output-dir", f"{work}/data",
            "--run-label", "check"], 30, ("sanitize",)),
        run("train_cuda", "a training run on the GPU", "--device", "cuda"),
        run("train_cpu", "the same on the CPU", "--device", "cpu"),
        run("train_cuda_again", "the GPU's run once more: the same bits?", "--device", "cuda"),
        run("train_cuda_kernels", "the GPU's run without CUDA graphs: the same bits?",
            "--device", "cuda", "--set", "training.cuda_graph=off"),
        run("train_cuda_bf16", "the GPU's run with bf16 activations", "--device", "cuda",
            "--set", "training.precision=bf16"),
        run("train_cuda_softmax", "a run with ordinary attention in bf16", *SOFTMAX_BF16, "--set", "training.cudnn=off"),
        run("train_cuda_cudnn", "the same with cuDNN's attention, where it is installed", *SOFTMAX_BF16),
        run("train_cuda_cudnn_again", "once more: the same bits?", *SOFTMAX_BF16),
    ]


def step_benchmarks(programs, python, quick):
    """The whole training step at the sizes of docs/gpu.md, ours and PyTorch's."""
    size = ["--batch", "32", "--tokens", "512"]
    count = ["--steps", "20" if quick else "50", "--warmup", "5"]
    peer = [python, str(programs.root / "benchmarks/peers/torch_train_step.py"), "--device", "cuda"] + size + count
    ours = [programs["train_step_bench"], "--device", "cuda"] + size + count
    centred, softmax = ["--attention", "superposition_centered"], ["--attention", "softmax"]
    return [
        Step("step_fp32", "training step, ours", ours + centred, 60),
        Step("step_bf16", "training step, ours, bf16", ours + centred + ["--precision", "bf16"], 60),
        Step("step_softmax", "training step with ordinary attention, ours", ours + softmax, 60),
        Step("step_softmax_bf16", "the same, bf16", ours + softmax + ["--precision", "bf16"], 60),
        Step("step_softmax_cudnn", "the same, its attention by cuDNN",
             ours + softmax + ["--precision", "bf16", "--cudnn"], 60),
        Step("step_profile", "its parts", ours + centred + ["--profile"], 60),
        Step("torch_eager", "training step, PyTorch eager", peer + centred, 60),
        Step("torch_eager_bf16", "training step, PyTorch eager, bf16", peer + centred + ["--precision", "bf16"], 60),
        Step("torch_sdpa_bf16", "training step, PyTorch's fused ordinary attention, bf16",
             peer + ["--attention", "sdpa", "--precision", "bf16"], 60),
    ], [
        Step("torch_compiled", "training step, torch.compile(max-autotune) with CUDA graphs",
             peer + centred + ["--mode", "compiled"], 150),
        Step("torch_compiled_bf16", "the same, bf16", peer + centred + ["--mode", "compiled", "--precision", "bf16"], 150),
    ]


def make_plan(programs, raw, work, quick, python=sys.executable):
    """All steps. `raw` keeps their outputs, `work` is thrown away."""
    cuda, slow = step_benchmarks(programs, python, quick)
    repeats = "10" if quick else "50"
    kernels = str(programs.root / "benchmarks/peers/torch_gpu_kernels.py")
    peer_budget = "60" if quick else "180"
    plan = [
        Step("doctor", "what this build can do here", [programs["stemfabric"], "doctor", "--json"], 30),
        gtest("kernels_cuda_tests", "every op against its float64 oracle", programs, raw, 90 if quick else 240),
        gtest("trainer_cuda_tests", "the model's golden values and gradients", programs, raw, 60 if quick else 180),
        gtest("runtime_tests", "files, memory, device choice, sums of one rank by NCCL", programs, raw, 60),
        *training(programs, work, quick),
        *cuda,
        Step("kernels", "every kernel, verified and timed", [
            programs["kernel_benchmarks"], "--device=cuda", f"--repeats={repeats}", "--benchmark_format=json"],
            100 if quick else 240),
        Step("cases", "names of its cases", [
            programs["kernel_benchmarks"], "--device=cuda", "--benchmark_list_tests=true"], 30),
        Step("torch_kernels", "the same kernels in PyTorch", [
            python, kernels, "--cases", f"{raw}/cases.out", "--device", "cuda", "--repeats", repeats,
            "--budget-s", peer_budget], int(peer_budget) + 60, ("cases",)),
    ]
    for tool in SANITIZER_TOOLS[:1] if quick else SANITIZER_TOOLS:
        plan.append(Step(f"sanitizer_{tool}", f"small cases under compute-sanitizer {tool}", [
            "compute-sanitizer", "--tool", tool, "--error-exitcode", "9", programs["kernels_cuda_tests"],
            f"--gtest_filter={SANITIZED}", "--gtest_brief=1"], 60 if quick else 90))
    return plan + slow
