#!/usr/bin/env python3
"""Checks the rules of the source tree that a compiler does not.

  scripts/check_layers.py [ROOT]

  layers     runtime/ includes nothing of kernels/ or trainer/, kernels/ nothing of trainer/, no
             library anything of trainer/cli/, tests/ or benchmarks/
  paths      every #include "..." is a path from the root of the repository that exists
  headers    no header of the libraries includes a heavy third-party header
  printing   only the files named in PRINTERS, and trainer/cli/, use standard output and error
  exits      no library calls exit, abort or the like

Prints file:line: what is wrong. Exit status: 0 in order, 1 violations, 2 not a source tree.
"""

import pathlib
import re
import sys

LAYERS = ("runtime", "kernels", "trainer")
OTHER_FOLDERS = ("tests", "benchmarks")
SUFFIXES = {".h", ".cuh", ".cpp", ".cu"}
FORBIDDEN_INCLUDES = {
    "runtime": ("kernels/", "trainer/", "tests/", "benchmarks/"),
    "kernels": ("trainer/", "tests/", "benchmarks/"),
    "trainer": ("trainer/cli/", "tests/", "benchmarks/"),
}
COMMAND_LINE = "trainer/cli/"
PRINTERS = {"runtime/core/log.cpp", "runtime/core/progress.cpp"}
GENERATED = {"stemfabric_revision.h"}  # written by the build, beside no source
# Third-party headers that cost every includer seconds or drag in macros. Headers that are compiled
# once per SIMD target (*-inl.h) belong to the .cpp that includes them and may use Highway.
HEAVY = ("nlohmann/", "spdlog/", "yaml-cpp/", "CLI/", "simdjson", "hdf5", "H5", "openssl/",
         "gtest/", "gmock/", "benchmark/", "hwy/", "cuda", "cublas", "cudnn", "cufft", "nccl", "mpi.h")
LIGHT = ("nlohmann/json_fwd.hpp",)  # declarations only

COMMENT_OR_LITERAL = re.compile(
    r'''//[^\n]*|/\*.*?\*/'''
    r'''|R"(?P<mark>[^()\\\s]{0,16})\(.*?\)(?P=mark)"'''
    r'''|"(?:\\.|[^"\\\n])*"'''
    r'''|(?<![0-9A-Za-z_])'(?:\\.|[^'\\\n])*\'''', re.DOTALL)
INCLUDE = re.compile(r'^\s*#\s*include\s*(?:"([^"]*)"|<([^>]*)>)', re.MULTILINE)
PRINTING = re.compile(
    r'''\b(?:stdout|stderr|STDOUT_FILENO|STDERR_FILENO)\b'''
    r'''|\bstd::(?:cout|cerr|clog|wcout|wcerr)\b'''
    r'''|(?<!\.)(?<!->)\b(?:printf|vprintf|puts|putchar|perror)\s*\('''
    r'''|\b(?:fmt|std)::print(?:ln)?\s*\(\s*"''')
EXITING = re.compile(r'(?<!\.)(?<!->)\b(?:exit|_exit|_Exit|quick_exit|abort|terminate)\s*\(')


def blank(text, literals):
    """Comments, and string and character literals if asked, replaced by blanks; lines stay."""
    def replacement(match):
        token = match.group(0)
        if token.startswith(("//", "/*")):
            return re.sub(r"[^\n]", " ", token)
        if not literals:
            return token
        quote = "'" if token.startswith("'") else '"'
        return quote + re.sub(r"[^\n]", " ", token[1:-1]) + quote
    return COMMENT_OR_LITERAL.sub(replacement, text)


def line_of(text, offset):
    return text.count("\n", 0, offset) + 1


def check_includes(root, name, text):
    folder = name.split("/")[0]
    in_command_line = name.startswith(COMMAND_LINE)
    is_header = name.endswith(".h") and not name.endswith("-inl.h")
    for match in INCLUDE.finditer(text):
        quoted, angled = match.groups()
        path = quoted if quoted is not None else angled
        line = line_of(text, match.start(match.lastindex))
        if quoted is not None and quoted not in GENERATED and not (root / quoted).is_file():
            yield line, f'"{quoted}" is no path from the root of the repository'
        if folder not in LAYERS:
            continue
        for prefix in FORBIDDEN_INCLUDES[folder]:
            if path.startswith(prefix) and not (in_command_line and prefix == COMMAND_LINE):
                yield line, f"{folder}/ must not include {path}"
        # A path of our own (trainer/..., runtime/device/device_cuda.h) never starts like a library.
        if is_header and not in_command_line and path.startswith(HEAVY) and path not in LIGHT:
            yield line, f"a header must not include {path}: include it in the .cpp"


def check_calls(name, text):
    if name.split("/")[0] not in LAYERS or name.startswith(COMMAND_LINE):
        return
    if name not in PRINTERS:
        for match in PRINTING.finditer(text):
            yield line_of(text, match.start()), (
                f"'{' '.join(match.group(0).split())}': libraries do not print; use runtime/core/log.h")
    for match in EXITING.finditer(text):
        yield line_of(text, match.start()), (
            f"'{match.group(0).strip()})': libraries do not end the process; throw an Error")


def violations(root):
    for folder in LAYERS + OTHER_FOLDERS:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix not in SUFFIXES or not path.is_file():
                continue
            name = path.relative_to(root).as_posix()
            source = path.read_text(encoding="utf-8", errors="replace")
            found = list(check_includes(root, name, blank(source, literals=False)))
            found += check_calls(name, blank(source, literals=True))
            for line, message in sorted(found):
                yield f"{name}:{line}: {message}"


def main(arguments):
    if len(arguments) > 1 or (arguments and arguments[0].startswith("-")):
        print(__doc__.strip())
        return 0 if arguments[0] in ("-h", "--help") else 2
    root = pathlib.Path(arguments[0] if arguments else pathlib.Path(__file__).parent.parent)
    missing = [layer for layer in LAYERS if not (root / layer).is_dir()]
    if missing:
        print(f"{root}: no folder {missing[0]}/; give the root of the repository", file=sys.stderr)
        return 2
    found = list(violations(root))
    for violation in found:
        print(violation)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
