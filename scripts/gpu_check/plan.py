"""What scripts/gpu_check.sh runs: one list of steps, in the order of what is worth knowing first."""
import collections
import os
import pathlib
import shutil
import sys

# name: of the output files raw/<name>.out and .err; command: argument list; limit_s: of its time;
# needs: steps that have to pass before; run: the folder of the training run that it makes, of which
# raw/ keeps the metrics and the hash of the final weights; kind: "gtest" (what follows a test that ended the
# process, or the device's context, runs in another process), "peer" (PyTorch, which finds its own libraries)
# or ""; env: variables of its own; library: what `doctor` has to find, or the step is left out.
Step = collections.namedtuple("Step", "name what command limit_s needs run kind env library",
                              defaults=((), None, "", {}, None))

PROGRAMS = {  # in a package, and in a build folder
    "stemfabric": "stemfabric",
    "runtime_tests": "tests/runtime_tests",
    "kernels_cuda_tests": "tests/kernels/kernels_cuda_tests",
    "trainer_cuda_tests": "tests/trainer_cuda_tests",
    "kernel_benchmarks": "benchmarks/kernel_benchmarks",
    "train_step_bench": "benchmarks/trainer/train_step_bench",
}
# A launch is waited for, so that an error of the device is that of the kernel that made it, and names it.
SYNC = {"STEMFABRIC_SYNC_LAUNCHES": "1"}

# One process per group: an error of the device spoils all that follows in its process. By the beginning of the
# suite's name; what belongs to none is in "rest".
TEST_GROUPS = {
    "attention": (["Attention"], ["AttentionBf16", "AttentionCudnn"]),
    "attention_bf16": (["AttentionBf16"], []),
    "attention_cudnn": (["AttentionCudnn"], []),
    "linear": (["Linear", "Bf16Linear"], []),
    "stem_loss": (["StemLoss"], []),
    "residual_norm": (["ResidualNorm", "Bf16Norm"], []),
    "adam": (["Adam", "SumSquares", "StepControl"], []),
    "stft": (["Stft", "Istft"], []),
    "elementwise": (["Activation", "Bf16Ops", "Cast", "Rotary", "Standardize", "ColumnSum", "Gather"], ["Attention"]),  # of Activations/
    "stem_mask": (["StemMask", "MaskBands"], []),
    "chunk_mix": (["ChunkMix"], []),
    "rest": None,
    "bss_eval": (["Bss", "BlockToeplitz"], []),
}


def suites(beginnings):
    return ":".join(f"{x}*.*:*/{x}*.*" for x in beginnings)


def test_filter(group):
    """GoogleTest's filter of a group."""
    if TEST_GROUPS[group] is None:
        return "-" + suites([x for parts in TEST_GROUPS.values() if parts for x in parts[0]])
    wanted, others = TEST_GROUPS[group]
    return suites(wanted) + ("-" + suites(others) if others else "")


# One process per op, by Google Benchmark's filter (POSIX's regular expressions; "-" before one: what it does not match).
# First the cases that say most: attention where it fills a GPU, and what only memory bounds.
LARGE = "(B32_T512|B8_T1024)_"
KERNEL_GROUPS_FIRST = {
    "attention": f"^attention_.*/{LARGE}.*/stemfabric(_bf16)?(/|$)",
    "attention_cudnn": "^attention_.*/stemfabric_cudnn",
    "stem_loss": "^stem_loss/",
    "residual_norm": "^residual_norm_",
    "adam": "^adam/",
    "stft_features": "^stft_features/",
}
KERNEL_GROUPS_LAST = {
    "linear": "^linear_",
    "attention_other": f"-^([^a]|a[^t])|/{LARGE}|/stemfabric_cudnn",  # no op but attention begins with at
    "relu_quantum": "^relu_quantum_",
    "stft": "^i?stft/",
    "mask": "^mask_",
    "rest": "-^(attention_|stem_loss/|residual_norm_|adam/|stft_features/|linear_|relu_quantum_|i?stft/|mask_|bss_eval/)",
    "bss_eval": "^bss_eval/",
}
# PyTorch's side: the same cases first, and those of them that are compiled too, which takes up to half a minute each.
PEERS_FIRST = f"^attention_.*/{LARGE}|^stem_loss/|^residual_norm_|^adam/|^stft_features/"
PEERS_COMPILED = ("^attention_(forward|backward)/centered/(B32_T512_D32|B8_T1024_D32)$|^stem_loss/b32_t512_o256$|"
                  "^residual_norm_(forward|backward)/m16384_c256_p10$")

# Small and of every kernel: a sanitizer makes them 10 to 100 times slower.
SANITIZED = ":".join([
    "Activation.*", "ColumnSum.*", "SumSquares.*", "Standardize.*", "StepControl.*", "Rotary.*", "ResidualNorm.*",
    "Adam.*", "StemLoss.*", "Cases/Linear.*", "AttentionDropout.*", "AttentionPolynomials.*", "Cast*.*", "Bf16*.*", "Gather.*",
    "*StemMask*", "*Stft*", "*Istft*", "AttentionBf16.*", "ChunkMix.*", "BssEval.NoBitDependsOnTheOrderOfThreads",
    "BssEval.ASignalOfOneSampleIsNotSilent", "BssEval.AllSilent",
    *[f"Cases/Attention{kind}Test.FollowsTheFormula/{case}" for kind in ("", "Bf16")
      for case in ("t2_d5_softmax", "t25_d32_superposition", "t33_d33_normalized", "t65_d32_centered")],
    *[f"Cases/AdamTest.FiveStepsFollowTheFormula/{case}" for case in ("torch_15", "keras_l2_255", "adamw_256")],
    *[f"Cases/ResidualNormTest.{way}/{case}" for way in ("Forward", "Backward")
      for case in ("m7_c3_p10", "m9_c124", "m66_c256_p10", "m3_c1025_p10")],
    *[f"Cases/StemLossTest.FollowsTheFormula/{case}" for case in ("o3", "plain_o16", "strided_o255", "weight_o33")]])
SANITIZER_TOOLS = ("memcheck", "racecheck", "synccheck")

CUDNN = "cudnn"
ATTENTIONS, PRECISIONS = ("superposition_centered", "softmax"), ("fp32", "bf16")
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


def toolkits():
    """Folders in which CUDA's toolkit is usually found."""
    named = [os.environ[x] for x in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(x)]
    return [pathlib.Path(x) for x in [*named, "/usr/local/cuda"]]


def find_sanitizer():
    """compute-sanitizer on PATH or in a toolkit; its bare name if it is nowhere."""
    name = "compute-sanitizer"
    for folder in [None, *(str(toolkit / "bin") for toolkit in toolkits())]:
        found = shutil.which(name, path=folder)
        if found:
            return found
    return name


def gtest(name, what, program, raw, limit_s, pattern="*", env=None):
    return Step(name, what, [program, f"--gtest_filter={pattern}", f"--gtest_output=json:{raw}/{name}.json"], limit_s,
                kind="gtest", env=env or {})


def kernel_tests(programs, raw, quick):
    return [gtest(f"kernels_cuda_tests.{group}", "ops against their float64 oracle", programs["kernels_cuda_tests"], raw,
                  30 if quick else 45, test_filter(group), SYNC) for group in TEST_GROUPS]


def training_step(programs, work, name, what, steps, options, library=None):
    command = [programs["stemfabric"], "train", "--config", str(programs.root / "configs/snapshot_base.yaml"),
               "--dataset-dir", f"{work}/data/check", "--output-dir", f"{work}/{name}", "--quiet",
               "--set", f"training.num_steps={steps}", "--set", "training.batch_size=4",
               "--set", "training.seed=1", "--set", "logging.tensorboard=false"]
    return Step(name, what, command + options, 90, ("dataset",), f"{work}/{name}", library=library)


def training(programs, work, quick):
    """Short real runs from the snapshots of the tests: curves to compare, bits to compare."""
    steps = 60 if quick else 100
    snapshots = str(programs.root / "tests/data/snapshots")
    def run(name, what, *options, library=None):
        return training_step(programs, work, name, what, steps, list(options), library)
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
        run("train_cuda_cudnn", "the same with cuDNN's attention", *SOFTMAX_BF16, library=CUDNN),
        run("train_cuda_cudnn_again", "once more: the same bits?", *SOFTMAX_BF16, library=CUDNN),
    ]


def counted_work(programs, size):
    """Operations and bytes of the steps that are timed: for their floor."""
    return [Step(f"work_{attention}_{precision}", "operations and bytes of the training step", [
        programs["stemfabric"], "bench", "--plan", "--json", "--tokens", size["tokens"],
        "--set", f"training.batch_size={size['batch']}", "--set", f"training.precision={precision}",
        "--set", f"model.attention.activation={attention}"], 20) for attention in ATTENTIONS for precision in PRECISIONS]


def step_benchmarks(programs, python, quick):
    """The whole training step at the sizes of docs/gpu.md, ours and PyTorch's: (what is soon done, what is compiled)."""
    numbers = {"batch": "32", "tokens": "512"}
    size = [x for key, value in numbers.items() for x in (f"--{key}", value)]
    count = ["--steps", "20" if quick else "50", "--warmup", "5"]
    peer_command = [python, str(programs.root / "benchmarks/peers/torch_train_step.py"), "--device", "cuda"] + size + count
    ours = [programs["train_step_bench"], "--device", "cuda"] + size + count
    centred, softmax, bf16 = ["--attention", ATTENTIONS[0]], ["--attention", "softmax"], ["--precision", "bf16"]
    def peer(name, what, options, limit_s=60):
        return Step(name, what, peer_command + options, limit_s, kind="peer")
    return [
        *counted_work(programs, numbers),
        Step("step_fp32", "training step, ours", ours + centred, 60),
        Step("step_bf16", "training step, ours, bf16", ours + centred + bf16, 60),
        Step("step_softmax", "training step with ordinary attention, ours", ours + softmax, 60),
        Step("step_softmax_bf16", "the same, bf16", ours + softmax + bf16, 60),
        Step("step_softmax_cudnn", "the same, its attention by cuDNN", ours + softmax + bf16 + ["--cudnn"], 60,
             library=CUDNN),
        Step("step_profile", "its parts", ours + centred + ["--profile"], 60),
        peer("torch_eager", "training step, PyTorch eager", centred),
        peer("torch_eager_bf16", "training step, PyTorch eager, bf16", centred + bf16),
        peer("torch_sdpa_bf16", "training step, PyTorch's fused ordinary attention, bf16", ["--attention", "sdpa"] + bf16),
    ], [
        peer("torch_compiled_bf16", "training step, torch.compile(max-autotune) with CUDA graphs, bf16",
             centred + ["--mode", "compiled"] + bf16, 120),
        peer("torch_compiled", "the same, float32", centred + ["--mode", "compiled"], 120),
    ]


def kernel_benchmarks(programs, groups, repeats, quick):
    return [Step(f"kernels.{group}", "kernels, verified and timed", [
        programs["kernel_benchmarks"], "--device=cuda", f"--repeats={repeats}", f"--benchmark_filter={pattern}",
        "--benchmark_format=json"], 30 if quick else 60, library=CUDNN if group == "attention_cudnn" else None)
        for group, pattern in groups.items()]


def kernel_peers(programs, python, raw, repeats, quick):
    """(the names of the cases and the first of them, the rest) in PyTorch"""
    def peers(name, what, budget_s, *options):
        return Step(name, what, [
            python, str(programs.root / "benchmarks/peers/torch_gpu_kernels.py"), "--cases", f"{raw}/cases.out",
            "--device", "cuda", "--repeats", repeats, "--budget-s", str(budget_s), *options], budget_s + 30, ("cases",), kind="peer")
    return [
        Step("cases", "names of all kernels' cases", [
            programs["kernel_benchmarks"], "--device=cuda", "--benchmark_list_tests=true"], 30),
        peers("torch_kernels", "the same kernels in PyTorch", 45 if quick else 80,
              "--filter", PEERS_FIRST, "--compile", PEERS_COMPILED),
    ], [
        peers("torch_kernels_rest", "the other kernels in PyTorch", 20 if quick else 60,
              "--exclude", PEERS_FIRST, "--compile", "^$"),
    ]


def sanitizer(programs, tool, quick):
    return Step(f"sanitizer_{tool}", f"small cases under compute-sanitizer {tool}", [
        find_sanitizer(), "--tool", tool, "--error-exitcode", "9", programs["kernels_cuda_tests"],
        f"--gtest_filter={SANITIZED}"], 45 if quick else 90, env=SYNC)


def make_plan(programs, raw, work, quick, python=sys.executable):
    """All steps. `raw` keeps their outputs, `work` is thrown away."""
    steps, compiled = step_benchmarks(programs, python, quick)
    repeats = "10" if quick else "50"
    peers, other_peers = kernel_peers(programs, python, raw, repeats, quick)
    tools = [sanitizer(programs, tool, quick) for tool in SANITIZER_TOOLS]
    return [
        Step("doctor", "what this build can do here", [programs["stemfabric"], "doctor", "--json"], 30),
        *kernel_tests(programs, raw, quick),
        gtest("trainer_cuda_tests", "the model's golden values and gradients", programs["trainer_cuda_tests"], raw,
              60 if quick else 120),
        gtest("runtime_tests", "files, memory, device choice, sums of one rank by NCCL", programs["runtime_tests"], raw, 60),
        *training(programs, work, quick),
        *steps,
        *kernel_benchmarks(programs, KERNEL_GROUPS_FIRST, repeats, quick),
        *compiled[:1],
        *peers,
        *kernel_benchmarks(programs, KERNEL_GROUPS_LAST, repeats, quick),
        *tools[:1],
        *compiled[1:],
        *other_peers,
        *([] if quick else tools[1:]),
    ]
