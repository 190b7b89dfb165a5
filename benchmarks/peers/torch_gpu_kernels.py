#!/usr/bin/env python3
"""The cases of kernel_benchmarks in PyTorch: eager, compiled, and fused library attention as a control.

    kernel_benchmarks --device=cuda --benchmark_list_tests >cases.txt
    python3 torch_gpu_kernels.py --cases cases.txt --device cuda --out peers.jsonl

Shapes come from the names of the cases. Prints one JSON line per case and implementation:
  eager     plain operations, float32 without TF32; Adam is PyTorch's fused one on a GPU
  compiled  the same under torch.compile(mode="max-autotune-no-cudagraphs"), PyTorch 2 on a GPU
  eager_bf16, compiled_bf16   the same with every tensor in bfloat16: of attention (T x T matrices in
            half the bytes), and of other ops whose case is named with /stemfabric_bf16 too
  sdpa, sdpa_bf16   scaled_dot_product_attention, for softmax attention only, by the kernels it picks
  sdpa_cudnn_bf16   the same by cuDNN's
Eager comes first, then sdpa, and what is compiled last. A case that fails or no longer fits --budget-s
is a line that says so, as is one that has no counterpart here (bss_eval, chunk_mix). A line of a case
whose backward is timed contains the backward pass alone, but stem_loss and mask_loss, which are the
loss with its gradient, as ours. On a GPU the first line is the rate of a large product in bfloat16.
"""
import argparse
import json
import re
import sys
import time

import torch
import torch.nn.functional as F

import audio_transforms
import mask_maths
from attention_maths import attention, quantum
from torch_timing import ColdTimer, exact_float32, pick_device

HEADS = 8


# What the names of cases say after "op/".
SHAPES = (
    (r"linear_\w+", r"\w+/(?P<m>\d+)x(?P<k>\d+)x(?P<n>\d+)"),
    (r"relu_quantum_\w+", r"(?P<rows>\d+)x(?P<columns>\d+)"),
    (r"attention_\w+", r"(?P<kind>[a-z]+)/B(?P<B>\d+)_T(?P<T>\d+)_D(?P<D>\d+)(?P<dropout>_dropout)?"),
    (r"residual_norm_\w+", r"m(?P<m>\d+)_c(?P<c>\d+)(?:_p(?P<dropout>\d+))?"),
    (r"stem_loss", r"b(?P<b>\d+)_t(?P<t>\d+)_o(?P<o>\d+)(?P<masked>_plain)?"),
    (r"adam", r"(?P<decoupled>torch|adamw)_(?P<n>\d+[kM]?)"),
)
MEANING = {  # of what is no number
    ("attention", "dropout"): lambda text: 0.1 if text else 0.0,
    ("residual", "dropout"): lambda text: int(text or 0) / 100,
    ("stem", "masked"): lambda text: text is None,
    ("adam", "decoupled"): lambda text: text == "adamw",
    ("adam", "n"): lambda text: int(text.rstrip("kM")) << {"k": 10, "M": 20}.get(text[-1], 0),
}


def shapes_of(name):
    """(op, what the name says) of a case of kernel_benchmarks, without its implementation. ValueError
    if there is no such op here."""
    op, _, rest = name.partition("/")
    try:
        if op in AUDIO:
            return op, audio_transforms.shape_of(rest)
        if op in MASKS:
            return op, mask_maths.shape_of(rest)
    except AttributeError:  # it is named otherwise
        raise ValueError(f"{name} is no case that is known here") from None
    for ops, form in SHAPES:
        found = re.fullmatch(form, rest) if re.fullmatch(ops, op) else None
        if found and (op in MAKERS or op == "adam"):
            return op, {key: MEANING.get((op.split("_")[0], key), lambda x: int(x) if x.isdigit() else x)(text)
                        for key, text in found.groupdict().items()}
    raise ValueError(f"{op} has no counterpart in PyTorch here")


# Each maker returns (function, arguments); the function is what is compiled, its call what is timed.
# Gradients are asked of autograd, so that compiled code is the compiler's own backward.
def uniform(device, *shape, low=-1.0, high=1.0, grad=False):
    return torch.empty(*shape, device=device).uniform_(low, high).requires_grad_(grad)


def make_linear_forward(device, m, k, n):
    return (lambda x, w, b: torch.relu(torch.addmm(b, x, w))), (
        uniform(device, m, k), uniform(device, k, n), uniform(device, n))


def make_linear_backward_input(device, m, k, n):
    return (lambda dy, w, saved: (dy @ w.t()) * (saved > 0)), (
        uniform(device, m, n), uniform(device, k, n), uniform(device, m, k))


def make_linear_backward_kernel(device, m, k, n):
    def run(x, dy, dw, db):
        dw.addmm_(x.t(), dy)
        db.add_(dy.sum(0))
    return run, (uniform(device, m, k), uniform(device, m, n), uniform(device, k, n), uniform(device, n))


def make_relu_quantum_forward(device, rows, columns):
    return (lambda x: quantum(torch.relu(x))), (uniform(device, rows, columns, low=-4, high=4),)


def make_relu_quantum_backward(device, rows, columns):
    def run(x, dy):
        r = torch.relu(x)
        s, t = torch.sigmoid(r), torch.tanh(r)
        return dy * (x > 0) * (0.4 * s * (1 - s) + 0.4 * (1 - t * t) + 0.2)
    return run, (uniform(device, rows, columns, low=-4, high=4), uniform(device, rows, columns))


def attention_inputs(device, B, T, D, grad, dtype=torch.float32):
    return [torch.randn(B, HEADS, T, D, device=device, dtype=dtype).mul_(2 ** 0.5).requires_grad_(grad)
            for _ in range(3)]


def make_attention(device, kind, B, T, D, dropout, grad):
    return (lambda q, k, v: attention(q, k, v, kind, dropout)), attention_inputs(device, B, T, D, grad)


def make_residual_norm(device, m, c, dropout, grad):
    def run(x, residual, gamma, beta):
        return F.layer_norm(residual + F.dropout(x, dropout, dropout > 0), (c,), gamma, beta, 1e-5)
    return run, [uniform(device, m, c, grad=grad), uniform(device, m, c, grad=grad),
                 uniform(device, c, low=0.5, high=1.5, grad=grad), uniform(device, c, grad=grad)]


def stem_loss(prediction, target, mask, count):
    error = prediction - target
    if mask is not None:
        error = error * mask
    return ((error * error).sum((1, 2, 3)) / count).sum()


def make_stem_loss(device, b, t, o, masked):
    shape = (6, b, t, o)
    mask = (torch.rand(shape, device=device) < 0.7).to(torch.uint8) if masked else None
    count = mask.sum((1, 2, 3)).float() if masked else torch.full((6,), float(b * t * o), device=device)
    return stem_loss, [uniform(device, *shape, grad=True), uniform(device, *shape), mask, count]


def adam_call(device, n, decoupled):
    parameter = uniform(device, n, grad=True)
    parameter.grad = uniform(device, n)
    kind = torch.optim.AdamW if decoupled else torch.optim.Adam
    settings = {"lr": 1e-3, "weight_decay": 0.01 if decoupled else 0.0}
    if device.type == "cuda":
        settings["fused"] = True
    optimizer = kind([parameter], **settings)
    return optimizer.step


def backward_call(function, arguments):
    """A call of the backward pass of function(*arguments) alone."""
    out = function(*arguments)
    leaves = [a for a in arguments if a is not None and a.requires_grad]
    gradient = torch.randn_like(out)
    return lambda: torch.autograd.grad(out, leaves, gradient, retain_graph=True)


def sdpa_call(device, op, kind, B, T, D, dropout, dtype, cudnn):
    grad = op != "attention_inference"
    inputs = attention_inputs(device, B, T, D, grad, dtype)
    def run(q, k, v):
        if cudnn:  # and nothing else: an error if it takes no such shape
            with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.CUDNN_ATTENTION):
                return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
        return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
    return call_of(op, run, inputs)


def call_of(op, function, arguments):
    if op in ("attention_backward", "residual_norm_backward"):
        return backward_call(function, arguments)
    if op in ("stem_loss", "mask_loss"):
        return lambda: torch.autograd.grad(function(*arguments), arguments[0])
    if any(a is not None and a.requires_grad for a in arguments):
        return lambda: function(*arguments)
    def run():
        with torch.no_grad():
            return function(*arguments)
    return run


def maker(function, **fixed):
    return lambda device, **s: function(device, **s, **fixed)


AUDIO = {"stft": audio_transforms.make_stft, "istft": audio_transforms.make_istft,
         "stft_features": audio_transforms.make_stft_features}
MASKS = {"mask_apply": mask_maths.make_estimate, "mask_loss": mask_maths.make_mask_loss}
MAKERS = {
    "linear_forward": make_linear_forward, "linear_backward_input": make_linear_backward_input,
    "linear_backward_kernel": make_linear_backward_kernel,
    "relu_quantum_forward": make_relu_quantum_forward, "relu_quantum_backward": make_relu_quantum_backward,
    "attention_inference": maker(make_attention, grad=False), "attention_forward": maker(make_attention, grad=True),
    "attention_backward": maker(make_attention, grad=True),
    "residual_norm_forward": maker(make_residual_norm, grad=True),
    "residual_norm_backward": maker(make_residual_norm, grad=True),
    "stem_loss": make_stem_loss, **AUDIO, **MASKS}
BF16_OPS = ("linear_", "relu_quantum_", "residual_norm_")
NOT_COMPILED = ("adam", "mask_apply", "mask_loss")  # one kernel already; complex numbers


def implementations(op, s, compiled, bf16):
    """Which there are of a case; bf16: ours has one."""
    attends = op.startswith("attention_")
    bf16 = attends or (bf16 and op.startswith(BF16_OPS))
    out = ["eager"] + (["eager_bf16"] if bf16 else [])
    if attends and s["kind"] == "softmax" and hasattr(F, "scaled_dot_product_attention"):
        out += ["sdpa", "sdpa_bf16", "sdpa_cudnn_bf16"]
    if compiled and op not in NOT_COMPILED:
        out += ["compiled"] + (["compiled_bf16"] if bf16 else [])
    return out


def prepare(op, s, implementation, device):
    """The call to time."""
    if op == "adam":
        return adam_call(device, **s)
    dtype = torch.bfloat16 if implementation.endswith("_bf16") else torch.float32
    if implementation.startswith("sdpa"):
        return sdpa_call(device, op, dtype=dtype, cudnn="cudnn" in implementation, **s)
    function, arguments = MAKERS[op](device, **s)
    if dtype != torch.float32:
        arguments = [a.detach().to(dtype).requires_grad_(a.requires_grad) for a in arguments]
    if implementation.startswith("compiled"):
        torch.compiler.reset()
        # The backward pass alone is timed over and over from one forward pass.
        torch._functorch.config.donated_buffer = False
        function = torch.compile(function, mode="max-autotune-no-cudagraphs", dynamic=False)
    return call_of(op, function, arguments)


def case_names(lines, pattern="", exclude=None):
    """Names without implementation, in order, with the set of ours: {"stemfabric", "stemfabric_bf16", ...}."""
    names = {}
    for line in lines:
        found = re.match(r"(\S+?)/(stemfabric\w*)", line.strip())
        if found and re.search(pattern, found.group(1)) and not (exclude and re.search(exclude, found.group(1))):
            names.setdefault(found.group(1), set()).add(found.group(2))
    return names


def plan_of(names, compiled):
    """(what to time, in order: [(case, op, shape, implementation)]; why others have no peer: {case: reason})"""
    plan, without = [], {}
    for name, ours in names.items():
        try:
            op, s = shapes_of(name)
        except ValueError as error:
            without[name] = str(error)
            continue
        plan += [(name, op, s, i) for i in implementations(op, s, compiled(name), "stemfabric_bf16" in ours)]
    order = ("eager", "sdpa", "compiled")
    plan.sort(key=lambda entry: order.index(entry[3].split("_")[0]))
    return plan, without


def product_rate(timer, device, size=8192):
    """TFLOP/s of a product in bfloat16, the best of some."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * size ** 3 / timer.median_us(lambda: a @ b, 10)[1] * 1e-6


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", required=True, help="file with names of cases, one per line; - for stdin")
    parser.add_argument("--filter", default="", help="regular expression: only these cases")
    parser.add_argument("--exclude", metavar="REGEX", help="but not these")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--compile", default="", metavar="REGEX", help="which cases also compiled (default: all)")
    parser.add_argument("--budget-s", type=float, default=1e9, help="start no further case after so long")
    parser.add_argument("--out", help="also write the lines into this file")
    a = parser.parse_args()
    device, device_name = pick_device(a.device)
    exact_float32()
    torch.manual_seed(1)
    with sys.stdin if a.cases == "-" else open(a.cases) as lines:
        names = case_names(lines, a.filter, a.exclude)
    if not names:
        raise SystemExit(f"{a.cases}: no case of kernel_benchmarks is named there")
    can_compile = device.type == "cuda" and hasattr(torch, "compile")
    plan, without = plan_of(names, lambda name: can_compile and re.search(a.compile, name))
    out = open(a.out, "w") if a.out else None
    about = {"device": device_name, "torch": torch.__version__}

    def tell(row):
        line = json.dumps(row)
        print(line, flush=True)
        if out:
            print(line, file=out, flush=True)

    timer = ColdTimer(device)
    start = time.monotonic()
    if device.type == "cuda":
        try:
            tell({"what": "product_bf16", **about, "TFLOP/s": round(product_rate(timer, device), 1)})
        except Exception as error:
            tell({"what": "product_bf16", **about, "error": f"{type(error).__name__}: {str(error)[:300]}"})
    for name, reason in without.items():
        tell({"case": name, "implementation": "none", **about, "no_peer": reason})
    for name, op, s, implementation in plan:
        row = {"case": name, "implementation": implementation, **about}
        if time.monotonic() - start > a.budget_s:
            row["skipped"] = f"after {a.budget_s:.0f} s"
        else:
            try:
                median, best = timer.median_us(prepare(op, s, implementation, device), a.repeats)
                row.update(median_us=round(median, 2), best_us=round(best, 2), repeats=a.repeats)
            except Exception as error:  # the next case may well run
                row["error"] = f"{type(error).__name__}: {str(error)[:300]}"
        tell(row)


if __name__ == "__main__":
    main()
