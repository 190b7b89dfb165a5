"""Attention of docs/attention.md in plain tensor operations, as the PyTorch peers compute it."""
import math

import torch


def attention(q, k, v, kind, dropout=0.0):
    """q, k, v [..., T, D]; kind: softmax, superposition, centered or normalized."""
    a = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]), -1)
    g = a
    if kind != "softmax":
        s = torch.sigmoid(a)
        if kind == "centered":
            s = 2 * s - 1
        g = 0.3 * s + 0.3 * torch.tanh(a) + 0.4 * torch.softmax(a, -1)
        if kind == "normalized":
            g = g / g.sum(-1, keepdim=True)
    return torch.dropout(g, dropout, dropout > 0) @ v


def quantum(r):
    """Of r >= 0."""
    return 0.4 * torch.sigmoid(r) + 0.4 * torch.tanh(r) + 0.2 * r
