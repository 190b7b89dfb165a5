#!/usr/bin/env python3
"""The cases of kernel_benchmarks in PyTorch: eager, compiled, and fused library attention as a control.

    kernel_benchmarks --device=cuda --benchmark_list_tests >cases.txt
    python3 torch_gpu_kernels.py --cases cases.txt --device cuda --out peers.jsonl

Shapes come from the names of the cases. Prints one JSON line per case and implementation:
  eager     plain operations, float32 without TF32; Adam is PyTorch's fused one on a GPU
  compiled  the same under torch.compile(mode="max-autotune-no-cudagraphs"), PyTorch 2 on a GPU
  eager_bf16, compiled_bf16   the same in bfloat16, attention only: T x T matrices in half the bytes
  sdpa, sdpa_bf16   scaled_dot_product_attention, for softmax attention only, by the kernels it picks
  sdpa_cudnn_bf16   the same by cuDNN's
What is compiled comes last; a case that fails or no longer fits --budget-s is a line that says so.
A line of a case whose backward is timed contains the backward pass alone, but stem_loss, which is the
loss with its gradient, as ours.
"""
import argparse
import json
import re
import sys
import time

import torch
import torch.nn.functional as F

import audio_transforms
from attention_maths import attention, quantum
from torch_timing import ColdTimer, exact_float32, pick_device

HEADS = 8


def shapes_of(name):
    """(op, what the name says) of a case of kernel_benchmarks, without its implementation."""
    op, _, rest = name.partition("/")
    if op.startswith("linear_"):
        m, k, n = map(int, rest.rsplit("/", 1)[1].split("x"))
        return op, {"m": m, "k": k, "n": n}
    if op.startswith("relu_quantum_"):
        rows, columns = map(int, rest.split("x"))
        return op, {"rows": rows, "columns": columns}
    if op.startswith("attention_"):
        kind, b, t, d, dropout = re.fullmatch(r"(\w+)/B(\d+)_T(\d+)_D(\d+)(_dropout)?", rest).groups()
        return op, {"kind": kind, "B": int(b), "T": int(t), "D": int(d), "dropout": 0.1 if dropout else 0.0}
    if op.startswith("residual_norm_"):
        m, c, p = re.fullmatch(r"m(\d+)_c(\d+)(?:_p(\d+))?", rest).groups()
        return op, {"m": int(m), "c": int(c), "dropout": int(p or 0) / 100}
    if op == "stem_loss":
        b, t, o, plain = re.fullmatch(r"b(\d+)_t(\d+)_o(\d+)(_plain)?", rest).groups()
        return op, {"b": int(b), "t": int(t), "o": int(o), "masked": plain is None}
    if op in ("stft", "istft", "stft_features"):
        return op, audio_transforms.shape_of(rest)
    if op == "adam":
        form, n, unit = re.fullmatch(r"(\w+?)_(\d+)([kM]?)", rest).groups()
        return op, {"decoupled": form == "adamw", "n": int(n) * {"": 1, "k": 1 << 10, "M": 1 << 20}[unit]}
    raise ValueError(f"unknown case {name}")


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


def make_attention(device, kind, B, T, D, dropout, grad, dtype=torch.float32):
    return (lambda q, k, v: attention(q, k, v, kind, dropout)), attention_inputs(device, B, T, D, grad, dtype)


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
    if op == "stem_loss":
        return lambda: torch.autograd.grad(function(*arguments), arguments[0])
    if any(a is not None and a.requires_grad for a in arguments):
        return lambda: function(*arguments)
    def run():
        with torch.no_grad():
            return function(*arguments)
    return run


def maker_of(op, s, dtype):
    if op.startswith("attention_"):
        return lambda device: make_attention(device, grad=op != "attention_inference", dtype=dtype, **s)
    if op in ("residual_norm_forward", "residual_norm_backward"):
        return lambda device: make_residual_norm(device, grad=True, **s)
    makers = {"linear_forward": make_linear_forward, "linear_backward_input": make_linear_backward_input,
              "linear_backward_kernel": make_linear_backward_kernel,
              "relu_quantum_forward": make_relu_quantum_forward,
              "relu_quantum_backward": make_relu_quantum_backward, "stem_loss": make_stem_loss,
              "stft": audio_transforms.make_stft, "istft": audio_transforms.make_istft,
              "stft_features": audio_transforms.make_stft_features}
    return lambda device: makers[op](device, **s)


def implementations(op, s, compiled):
    out = ["eager"]
    attends = op.startswith("attention_")
    if attends:
        out.append("eager_bf16")
        if s["kind"] == "softmax" and hasattr(F, "scaled_dot_product_attention"):
            out += ["sdpa", "sdpa_bf16", "sdpa_cudnn_bf16"]
    if compiled and op != "adam":  # fused Adam is one kernel already
        out += ["compiled"] + (["compiled_bf16"] if attends else [])
    return out


def prepare(op, s, implementation, device):
    """The call to time."""
    if op == "adam":
        return adam_call(device, **s)
    dtype = torch.bfloat16 if implementation.endswith("_bf16") else torch.float32
    if implementation.startswith("sdpa"):
        return sdpa_call(device, op, dtype=dtype, cudnn="cudnn" in implementation, **s)
    function, arguments = maker_of(op, s, dtype)(device)
    if implementation.startswith("compiled"):
        torch.compiler.reset()
        # The backward pass alone is timed over and over from one forward pass.
        torch._functorch.config.donated_buffer = False
        function = torch.compile(function, mode="max-autotune-no-cudagraphs", dynamic=False)
    return call_of(op, function, arguments)


def case_names(lines, pattern):
    """Names without implementation, in order, once each."""
    names = []
    for line in lines:
        name = line.strip().split("/stemfabric")[0]
        if "/stemfabric" in line and name not in names and re.search(pattern, name):
            names.append(name)
    return names


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", required=True, help="file with names of cases, one per line; - for stdin")
    parser.add_argument("--filter", default="", help="regular expression: only these cases")
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
        names = case_names(lines, a.filter)
    if not names:
        raise SystemExit(f"{a.cases}: no case of kernel_benchmarks is named there")
    can_compile = device.type == "cuda" and hasattr(torch, "compile")
    plan = [(name, i) for name in names
            for i in implementations(*shapes_of(name), can_compile and re.search(a.compile, name))]
    plan.sort(key=lambda entry: entry[1].startswith("compiled"))
    timer = ColdTimer(device)
    out = open(a.out, "w") if a.out else None
    start = time.monotonic()
    for name, implementation in plan:
        row = {"case": name, "implementation": implementation, "device": device_name, "torch": torch.__version__}
        if time.monotonic() - start > a.budget_s:
            row["skipped"] = f"after {a.budget_s:.0f} s"
        else:
            try:
                op, s = shapes_of(name)
                median, best = timer.median_us(prepare(op, s, implementation, device), a.repeats)
                row.update(median_us=round(median, 2), best_us=round(best, 2), repeats=a.repeats)
            except Exception as error:  # the next case may well run
                row["error"] = f"{type(error).__name__}: {str(error)[:300]}"
        line = json.dumps(row)
        print(line, flush=True)
        if out:
            print(line, file=out, flush=True)


if __name__ == "__main__":
    main()
