#!/usr/bin/env python3
"""The training step of train_step_bench in PyTorch: the same model, sizes and maths.

    OMP_NUM_THREADS=2 python3 torch_train_step.py --threads 2
    python3 torch_train_step.py --device cuda --batch 32 --tokens 512 --mode compiled

A step is forward, loss, backward, gradient norm and Adam (PyTorch's fused one on a GPU). What q, k
and v share and what the six heads share is one product each, as in our implementation. Prints one
JSON line. The batch lies on the device and no step waits for it; on a GPU times come from events
between the steps. --mode compiled is torch.compile(mode="max-autotune"), with CUDA graphs, of forward
and loss with their backward. PyTorch builds on the system BLAS need a fast one for the CPU:
libopenblas0-openmp on Debian, with OMP_NUM_THREADS = --threads.
"""
import argparse
import json
import resource
import statistics
import time

import torch
from torch import nn

from attention_maths import attention, quantum
from torch_timing import exact_float32, pick_device

F = D = OUT = 256
HEADS, BLOCKS, D_FF, STEMS = 8, 4, 1024, 6


class Block(nn.Module):
    def __init__(self, kind, dropout):
        super().__init__()
        self.kind = kind
        self.qkv, self.o = nn.Linear(D, 3 * D), nn.Linear(D, D)
        self.ff1, self.ff2 = nn.Linear(D, D_FF), nn.Linear(D_FF, D)
        self.ln1, self.ln2 = nn.LayerNorm(D), nn.LayerNorm(D)
        self.drop = nn.Dropout(dropout)

    def attend(self, q, k, v):
        if self.kind == "sdpa":  # ordinary softmax attention by the library's fused kernels
            return nn.functional.scaled_dot_product_attention(q, k, v)
        return attention(q, k, v, self.kind)

    def forward(self, z):
        b, t, _ = z.shape
        q, k, v = self.qkv(z).view(b, t, 3, HEADS, D // HEADS).permute(2, 0, 3, 1, 4)
        context = self.attend(q, k, v).transpose(1, 2).reshape(b, t, D)
        y = self.ln1(z + self.drop(self.o(context)))
        return self.ln2(y + self.drop(self.ff2(torch.relu(self.ff1(y)))))


class Separator(nn.Module):
    def __init__(self, tokens, kind, dropout):
        super().__init__()
        self.input = nn.Linear(F, D)
        self.pos = nn.Parameter(torch.empty(tokens, D).uniform_(-0.05, 0.05))
        self.blocks = nn.Sequential(*[Block(kind, dropout) for _ in range(BLOCKS)])
        self.hidden = nn.Linear(D, STEMS * D)
        self.out_kernel = nn.Parameter(torch.empty(STEMS, D, OUT).uniform_(-0.1, 0.1))
        self.out_bias = nn.Parameter(torch.zeros(STEMS, 1, OUT))

    def forward(self, x):
        b, t, _ = x.shape
        z = self.blocks(self.input(x) + self.pos)
        h = quantum(torch.relu(self.hidden(z)))
        h = h.view(b * t, STEMS, D).transpose(0, 1)
        return (h @ self.out_kernel + self.out_bias).view(STEMS, b, t, OUT)


def norm_of(tensors):
    """Of all their values together: a few kernels for all tensors where PyTorch has them."""
    each = torch._foreach_norm(tensors) if hasattr(torch, "_foreach_norm") else [torch.norm(t) for t in tensors]
    return torch.norm(torch.stack(list(each)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--attention", default="superposition",
                        choices=["softmax", "sdpa", "superposition", "superposition_centered", "superposition_normalized"])
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--mode", choices=["eager", "compiled"], default="eager")
    parser.add_argument("--precision", choices=["fp32", "tf32", "bf16"], default="fp32",
                        help="ours is fp32; the others are what PyTorch can do with less")
    a = parser.parse_args()
    if a.mode == "compiled" and not hasattr(torch, "compile"):
        raise SystemExit(f"--mode compiled needs PyTorch 2; this is {torch.__version__}")
    device, device_name = pick_device(a.device)
    cuda = device.type == "cuda"
    exact_float32()
    if a.precision == "tf32":
        torch.backends.cuda.matmul.allow_tf32 = True
    torch.set_num_threads(a.threads)
    torch.manual_seed(1)
    kind = a.attention.replace("superposition_", "")
    model = Separator(a.tokens, kind, a.dropout).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, **({"fused": True} if cuda else {}))
    x = torch.rand(a.batch, a.tokens, F, device=device) * 2 - 1
    y = torch.rand(STEMS, a.batch, a.tokens, OUT, device=device) * 2 - 1

    def forward_loss(x, y):
        if a.precision != "bf16":
            return ((model(x) - y) ** 2).mean(dim=(1, 2, 3)).sum()
        with torch.autocast(device.type, dtype=torch.bfloat16):
            prediction = model(x)
        return ((prediction.float() - y) ** 2).mean(dim=(1, 2, 3)).sum()

    loss_of = torch.compile(forward_loss, mode="max-autotune") if a.mode == "compiled" else forward_loss

    def step():
        if a.mode == "compiled":
            torch.compiler.cudagraph_mark_step_begin()
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(x, y)
        loss.backward()
        norm = norm_of([p.grad for p in model.parameters()])
        optimizer.step()
        return loss.detach(), norm

    for _ in range(a.warmup):
        step()
    if cuda:
        torch.cuda.synchronize()
        marks = [torch.cuda.Event(enable_timing=True) for _ in range(a.steps + 1)]
    else:
        marks = [0.0] * (a.steps + 1)

    def mark(i):
        if cuda:
            marks[i].record()
        else:
            marks[i] = time.perf_counter()

    cpu_begin = time.process_time()
    mark(0)
    for i in range(a.steps):
        loss, norm = step()
        mark(i + 1)
    if cuda:
        torch.cuda.synchronize()
    cpu = (time.process_time() - cpu_begin) * 1e3 / a.steps
    times = [begin.elapsed_time(end) if cuda else (end - begin) * 1e3 for begin, end in zip(marks, marks[1:])]
    median = statistics.median(times)
    row = {
        "what": "train_step", "implementation": f"torch {torch.__version__}", "device": device_name, "mode": a.mode,
        "precision": a.precision, "attention": a.attention,
        "batch": a.batch, "tokens": a.tokens, "threads": a.threads, "dropout": a.dropout, "steps": a.steps,
        "ms_median": round(median, 3), "ms_min": round(min(times), 3), "cpu_ms": round(cpu, 2),
        "tokens_per_s": round(a.batch * a.tokens / median * 1e3),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "loss": round(loss.item(), 6), "gradient_norm": round(norm.item(), 6)}
    if cuda:
        row["memory_mb"] = round(torch.cuda.max_memory_allocated() / (1 << 20), 1)
    print(json.dumps(row))


if __name__ == "__main__":
    main()
