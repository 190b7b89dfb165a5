#!/usr/bin/env python3
"""The training step of train_step_bench in PyTorch, eager, on the CPU: the same model, sizes and maths.

    OMP_NUM_THREADS=2 python3 torch_train_step.py --threads 2

A step is forward, loss, backward, gradient norm and Adam. What q, k and v share and what the six
heads share is one product each, as in our implementation. Prints one JSON line. PyTorch builds on
the system BLAS need a fast one: libopenblas0-openmp on Debian, with OMP_NUM_THREADS = --threads.
"""
import argparse
import json
import math
import resource
import statistics
import time

import torch
from torch import nn

F = D = OUT = 256
HEADS, BLOCKS, D_FF, STEMS = 8, 4, 1024, 6


def attention(q, k, v, kind):
    a = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]), -1)
    if kind == "softmax":
        return a @ v
    s = torch.sigmoid(a)
    if kind == "superposition_centered":
        s = 2 * s - 1
    g = 0.3 * s + 0.3 * torch.tanh(a) + 0.4 * torch.softmax(a, -1)
    if kind == "superposition_normalized":
        g = g / g.sum(-1, keepdim=True)
    return g @ v


class Block(nn.Module):
    def __init__(self, kind, dropout):
        super().__init__()
        self.kind = kind
        self.qkv, self.o = nn.Linear(D, 3 * D), nn.Linear(D, D)
        self.ff1, self.ff2 = nn.Linear(D, D_FF), nn.Linear(D_FF, D)
        self.ln1, self.ln2 = nn.LayerNorm(D), nn.LayerNorm(D)
        self.drop = nn.Dropout(dropout)

    def forward(self, z):
        b, t, _ = z.shape
        q, k, v = self.qkv(z).view(b, t, 3, HEADS, D // HEADS).permute(2, 0, 3, 1, 4)
        context = attention(q, k, v, self.kind).transpose(1, 2).reshape(b, t, D)
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
        r = torch.relu(self.hidden(z))
        h = 0.4 * torch.sigmoid(r) + 0.4 * torch.tanh(r) + 0.2 * r
        h = h.view(b * t, STEMS, D).transpose(0, 1)
        return (h @ self.out_kernel + self.out_bias).view(STEMS, b, t, OUT)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--attention", default="superposition",
                        choices=["softmax", "superposition", "superposition_centered", "superposition_normalized"])
    parser.add_argument("--dropout", type=float, default=0.0)
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(1)
    model = Separator(a.tokens, a.attention, a.dropout)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    x = torch.rand(a.batch, a.tokens, F) * 2 - 1
    y = torch.rand(STEMS, a.batch, a.tokens, OUT) * 2 - 1

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss = ((model(x) - y) ** 2).mean(dim=(1, 2, 3)).sum()
        loss.backward()
        norm = torch.norm(torch.stack([torch.norm(p.grad) for p in model.parameters()]))
        optimizer.step()
        return loss.item(), norm.item()

    for _ in range(a.warmup):
        step()
    times = []
    cpu_begin = time.process_time()
    for _ in range(a.steps):
        begin = time.perf_counter()
        loss, norm = step()
        times.append((time.perf_counter() - begin) * 1e3)
    cpu = (time.process_time() - cpu_begin) * 1e3 / a.steps
    median = statistics.median(times)
    print(json.dumps({
        "what": "train_step", "implementation": f"torch {torch.__version__}", "attention": a.attention,
        "batch": a.batch, "tokens": a.tokens, "threads": a.threads, "dropout": a.dropout, "steps": a.steps,
        "ms_median": round(median, 2), "ms_min": round(min(times), 2), "cpu_ms": round(cpu, 2),
        "tokens_per_s": round(a.batch * a.tokens / median * 1e3),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "loss": round(loss, 6), "gradient_norm": round(norm, 6)}))


if __name__ == "__main__":
    main()
