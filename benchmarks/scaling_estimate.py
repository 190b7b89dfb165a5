#!/usr/bin/env python3
"""What n GPUs should give, calculated from a few numbers; nothing here is measured.

    benchmarks/scaling_estimate.py                                   # the tables of docs/scaling.md
    benchmarks/scaling_estimate.py --sample-us 80 --gpus-per-node 4 --node-gbytes 25
    benchmarks/scaling_estimate.py --svg docs/images/scaling_estimate.svg

A step of a rank with b samples takes
    step = fixed + b * sample + exposed
and of that the backward pass (--backward-share of b * sample) hides sums of gradients. A sum of B bytes on m
nodes of g GPUs takes, as a ring inside the nodes and as a tree between them, over which each GPU sends its g-th,
    sum(B) = start + 2 (g-1)/g B / gpu_bandwidth          + 2 (g-1) gpu_latency
                   + 2 (m-1)/m (B/g) / node_bandwidth     + 2 ceil(log2 m) node_latency
Gradients go in sums of --bucket-bytes while the backward pass runs; what is left goes when it is over, with the
sum of biases and norms, so that
    exposed = max(0, buckets * sum(bucket) - backward) + sum(rest) + sum(0) + 2 sum(0)
where the last two are the denominators before the step and the losses after it.
"""

import argparse
import math
import sys

GPUS = [1, 2, 4, 8, 16, 32, 64, 128]
SHARES = [128, 32, 8, 2]  # samples of a GPU, in the table of where it stops


def options(argv):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    number = lambda name, default, text: parser.add_argument(
        name, type=float, default=default, metavar="X", help=f"{text} (default: {default:g})")
    number("--parameters", 4.1e6, "of the model")
    number("--gradient-bytes", 4, "of one gradient: 4 for f32, 2 for bf16")
    number("--bucket-bytes", 4194304, "distributed.bucket_bytes")
    number("--samples", 32, "of a step and GPU, where each GPU adds its own (weak scaling)")
    number("--all-samples", 256, "of a step, where they are shared out (strong scaling)")
    number("--sample-us", 50, "us that a GPU computes for one sample")
    number("--fixed-us", 300, "us of a step whatever its samples: update, short kernels")
    number("--backward-share", 0.6, "of the computing time of a sample, which hides sums")
    number("--gpus-per-node", 8, "")
    number("--gpu-gbytes", 450, "GB/s from a GPU to others of its node, one direction: NVLink")
    number("--gpu-latency-us", 1, "us from a GPU to the next")
    number("--node-gbytes", 50, "GB/s from a GPU to other nodes: InfiniBand NDR, one port per GPU")
    number("--node-latency-us", 5, "us from a node to another")
    number("--start-us", 5, "us to start a sum")
    parser.add_argument("--gpus", type=int, nargs="+", default=GPUS, metavar="N")
    parser.add_argument("--svg", metavar="FILE", help="draw the efficiencies there")
    o = parser.parse_args(argv)
    for name, value in vars(o).items():
        if isinstance(value, float) and not (value > 0 or (name.endswith("_us") and value == 0)):
            parser.error(f"--{name.replace('_', '-')} is {value:g}; it must be above 0")
    if not 0 < o.backward_share < 1:
        parser.error("--backward-share is a share: above 0 and below 1")
    if min(o.gpus) < 1:
        parser.error("--gpus must be 1 or more")
    return o


def sum_us(o, gpus, size):
    """Time of one sum of `size` bytes over so many GPUs."""
    if gpus == 1:
        return 0.0
    g = min(gpus, int(o.gpus_per_node))
    m = math.ceil(gpus / g)
    inside = 2 * (g - 1) / g * size / (o.gpu_gbytes * 1e3) + 2 * (g - 1) * o.gpu_latency_us
    between = (2 * (m - 1) / m * size / g / (o.node_gbytes * 1e3)
               + 2 * math.ceil(math.log2(m)) * o.node_latency_us)
    return o.start_us + inside + between


def exposed_us(o, gpus, samples):
    """What of a step's sums no backward pass hides."""
    size = o.parameters * o.gradient_bytes
    buckets = math.floor(size / o.bucket_bytes)
    backward = o.backward_share * o.sample_us * samples
    behind = max(0.0, buckets * sum_us(o, gpus, o.bucket_bytes) - backward)
    return behind + sum_us(o, gpus, size - buckets * o.bucket_bytes) + 3 * sum_us(o, gpus, 0)


def step_us(o, gpus, samples):
    return o.fixed_us + o.sample_us * samples + exposed_us(o, gpus, samples)


def weak(o, gpus, samples):
    """Efficiency where each GPU adds its samples: one GPU's step over this one's."""
    return step_us(o, 1, samples) / step_us(o, gpus, samples)


def strong(o, gpus):
    """Samples of a GPU, step and speed-up where the samples of a step are shared out."""
    share = math.ceil(o.all_samples / gpus)  # a step takes as long as its largest share
    step = step_us(o, gpus, share)
    return share, step, step_us(o, 1, o.all_samples) / step


def tables(o):
    lines = [f"| GPUs (nodes) | {o.samples:g} samples each: ms per step | of it sums, µs | efficiency "
             f"| {o.all_samples:g} samples in all: of a GPU | ms per step | speed-up (efficiency) |",
             "|---|---|---|---|---|---|---|"]
    for n in o.gpus:
        share, step, speedup = strong(o, n)
        lines.append(
            f"| {n} ({math.ceil(n / o.gpus_per_node)}) | {step_us(o, n, o.samples) / 1e3:.2f} "
            f"| {exposed_us(o, n, o.samples):.0f} | {100 * weak(o, n, o.samples):.0f} % "
            f"| {share} | {step / 1e3:.2f} | {speedup:.1f} ({100 * speedup / n:.0f} %) |")
    several = [n for n in o.gpus if n > 1]
    lines += ["", "| samples of a GPU | efficiency on " + " | ".join(f"{n} GPUs" for n in several) + " |",
              "|---" * (1 + len(several)) + "|"]
    for samples in SHARES:
        lines.append(f"| {samples} | " + " | ".join(f"{100 * weak(o, n, samples):.0f} %" for n in several) + " |")
    return "\n".join(lines)


def svg(o):
    left, top, width, height = 70, 50, 560, 240
    last = math.log2(max(max(o.gpus), 2))
    x = lambda n: left + width * math.log2(n) / last
    y = lambda share: top + height * (1 - share)
    out = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 900 350" font-family="sans-serif" font-size="13">',
           '<rect width="900" height="350" fill="#ffffff"/>',
           '<text x="70" y="28" fill="#222">efficiency of n GPUs (100 %: n times one GPU); calculated, not measured</text>']
    for percent in range(0, 101, 25):
        at = y(percent / 100)
        out.append(f'<line x1="{left}" y1="{at:.1f}" x2="{left + width}" y2="{at:.1f}" stroke="#ddd"/>')
        out.append(f'<text x="{left - 8}" y="{at + 4:.1f}" text-anchor="end" fill="#222">{percent} %</text>')
    for n in o.gpus:
        out.append(f'<text x="{x(n):.1f}" y="{top + height + 20}" text-anchor="middle" fill="#222">{n}</text>')
    out.append(f'<text x="{left + width / 2}" y="{top + height + 42}" text-anchor="middle" fill="#222">'
               f'GPUs, {o.gpus_per_node:g} per node</text>')
    shades = ["#1f5fa8", "#3b82c4", "#7fb0dc", "#b3d1ec"]
    curves = [(colour, f"{samples} samples each", lambda n, b=samples: weak(o, n, b))
              for colour, samples in zip(shades, SHARES)]
    curves.append(("#b5541c", f"{o.all_samples:g} samples in all", lambda n: strong(o, n)[2] / n))
    for i, (colour, name, efficiency) in enumerate(curves):
        points = " ".join(f"{x(n):.1f},{y(efficiency(n)):.1f}" for n in o.gpus)
        style = f'stroke="{colour}" stroke-width="2"'
        out.append(f'<polyline points="{points}" fill="none" {style}/>')
        at = top + 20 + 24 * i
        out.append(f'<line x1="660" y1="{at}" x2="700" y2="{at}" {style}/>')
        out.append(f'<text x="708" y="{at + 4}" fill="#222">{name}</text>')
    return "\n".join(out + ["</svg>", ""])


def main(argv):
    o = options(argv)
    print("calculated, not measured")
    print(tables(o))
    if o.svg:
        with open(o.svg, "w", encoding="utf-8") as file:
            file.write(svg(o))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
