#!/usr/bin/env python3
"""What the compiler makes of every CUDA kernel: registers, shared memory, spills, and how many
threads a multiprocessor can hold at most. Needs nvcc, no GPU.

  scripts/kernel_report.py            prints the tables as Markdown
  scripts/kernel_report.py --write    puts them into docs/kernels.md between its two marks
  scripts/kernel_report.py --check    fails if a kernel spills registers

Occupancy bound: resident threads / most that the architecture holds, limited by registers, static
shared memory and the launch bounds of the kernel (CUDA C++ Programming Guide, "Compute
Capabilities"). Dynamic shared memory depends on the call and is not in it.
"""

import argparse
import collections
import concurrent.futures
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- kernel_report begin -->", "<!-- kernel_report end -->"
# Per multiprocessor: registers, threads, blocks, shared bytes; registers are given to warps in
# units of 256, shared memory to blocks in units of 128 with 1 KiB of the system's own.
Chip = collections.namedtuple("Chip", "registers threads blocks shared")
CHIPS = {"sm_80": Chip(65536, 2048, 32, 164 * 1024), "sm_90": Chip(65536, 2048, 32, 228 * 1024)}
Kernel = collections.namedtuple("Kernel", "name threads registers shared spills stack")


def compile_source(source, arch):
    """PTX for the launch bounds, then ptxas for what it makes of it."""
    with tempfile.TemporaryDirectory() as folder:
        ptx = pathlib.Path(folder) / "kernel.ptx"
        subprocess.run(["nvcc", "-ptx", "-O3", "-std=c++20", "-DSF_HAVE_CUDA=1", "-DFMT_USE_CONSTEXPR=1",
                        f"-arch={arch.replace('sm', 'compute')}", "-I", str(ROOT), "-o", str(ptx), str(source)],
                       check=True)
        log = subprocess.run(["ptxas", "-v", f"-arch={arch}", "-o", "/dev/null", str(ptx)], check=True,
                             capture_output=True, text=True).stderr
        return ptx.read_text(), log


def read_kernels(ptx, log):
    threads = {}
    for match in re.finditer(r"\.entry (\S+)\((?:[^{]*?)\)\s*([^{]*)\{", ptx):
        bound = re.search(r"\.maxntid (\d+)(?:, (\d+), (\d+))?", match.group(2))
        threads[match.group(1)] = int(bound.group(1)) if bound else 1024
    kernels = []
    pattern = re.compile(r"Function properties for (\S+)\s*\n\s*(\d+) bytes stack frame, (\d+) bytes spill stores, "
                         r"(\d+) bytes spill loads\s*\n.*?Used (\d+) registers([^\n]*)")
    for name, stack, stores, loads, registers, rest in pattern.findall(log):
        if name not in threads:
            continue
        shared = re.search(r"(\d+) bytes smem", rest)
        kernels.append(Kernel(name, threads[name], int(registers), int(shared.group(1)) if shared else 0,
                              int(stores) + int(loads), int(stack)))
    return kernels


def demangle(names):
    if not names:
        return {}
    out = subprocess.run(["c++filt"], input="\n".join(names), check=True, capture_output=True, text=True).stdout
    plain = {}
    for name, text in zip(names, out.splitlines()):
        text = re.sub(r"stemfabric::|cuda::|attention::|forward::|backward::|\(anonymous namespace\)::|"
                      r"_GLOBAL__N__\w+::|\(\w+\)(?=\d)", "", text)
        text = re.sub(r"^void ", "", text)
        depth, end = 0, len(text)  # the parameter list starts at the first bracket outside <>
        for i, c in enumerate(text):
            depth += (c == "<") - (c == ">")
            if c == "(" and depth == 0:
                end = i
                break
        plain[name] = text[:end].replace("> >", ">>")
    return plain


def resident_threads(kernel, chip):
    warps = -(-kernel.threads // 32)
    registers = -(-kernel.registers * 32 // 256) * 256 * warps
    shared = -(-kernel.shared // 128) * 128 + 1024
    blocks = min(chip.blocks, chip.threads // kernel.threads, chip.registers // max(registers, 1),
                 chip.shared // shared)
    return blocks * kernel.threads


def table(arch, kernels, names):
    chip = CHIPS[arch]
    lines = [f"### {arch}", "", "| kernel | threads | registers | static shared, bytes | spilled, bytes | occupancy bound |",
             "|---|---|---|---|---|---|"]
    for kernel in sorted(kernels, key=lambda k: names[k.name]):
        share = 100 * resident_threads(kernel, chip) / chip.threads
        lines.append(f"| `{names[kernel.name]}` | {kernel.threads} | {kernel.registers} | {kernel.shared} "
                     f"| {kernel.spills} | {share:.0f} % |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    sources = sorted(ROOT.glob("kernels/*/*.cu"))
    jobs = [(arch, source) for arch in CHIPS for source in sources]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda job: read_kernels(*compile_source(job[1], job[0])), jobs))
    by_arch = {arch: [k for (a, _), found in zip(jobs, results) if a == arch for k in found] for arch in CHIPS}
    names = demangle(sorted({k.name for kernels in by_arch.values() for k in kernels}))
    text = "\n\n".join(table(arch, kernels, names) for arch, kernels in by_arch.items())
    spilling = [f"{arch}: {names[k.name]}" for arch, kernels in by_arch.items() for k in kernels if k.spills]
    if options.write:
        page = ROOT / "docs/kernels.md"
        old = page.read_text()
        head, tail = old.split(BEGIN)[0], old.split(END)[1]
        page.write_text(f"{head}{BEGIN}\n\n{text}\n\n{END}{tail}")
    elif not options.check:
        print(text)
    if spilling:
        print("kernels that spill:\n  " + "\n  ".join(spilling), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
