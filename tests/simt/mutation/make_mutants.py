#!/usr/bin/env python3
"""Writes the kernels' sources again, with every mutation of a table in them, each behind a test of
which mutation is chosen; so one program holds them all.

  make_mutants.py ROOT TABLE OUT      ROOT/kernels/**/*.cu, *.cuh -> OUT/kernels/..., and OUT/mutations.inc

The table: paragraphs of `key value` lines.

  file     source, relative to ROOT; holds for the following mutations too
  tests    GoogleTest filter of the tests that have to notice; holds for the following ones too
  mutation name
  after    text (found once) behind which `text` is looked for; without it `text` is found once in all
  text     an expression, or a statement (ends in ;), on one line
  becomes  what takes its place; a statement may become nothing

A mutation that cannot be made (its text is gone, or there twice) does not stop the others: the table of
the program says why, and its test fails with that.
"""

import json
import pathlib
import sys

KEYS = ("file", "tests", "mutation", "after", "text", "becomes")


def read_table(path):
    lasting, entry, mutations = {}, {}, []

    def close(line):
        if not entry:
            return
        missing = [key for key in ("mutation", "text", "becomes") if key not in entry]
        missing += [key for key in ("file", "tests") if key not in lasting]
        if missing:
            raise SystemExit(f"{path}:{line}: the mutation above has no {', '.join(missing)}")
        mutations.append({"after": "", **lasting, **entry})
        entry.clear()

    lines = pathlib.Path(path).read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        if line.startswith("#"):
            continue
        key, _, value = line.strip().partition(" ")
        if not key:
            close(number)
        elif key not in KEYS:
            raise SystemExit(f"{path}:{number}: '{key}' is none of {', '.join(KEYS)}")
        elif key in entry:
            raise SystemExit(f"{path}:{number}: a second '{key}'; mutations are parted by empty lines")
        else:
            (lasting if key in ("file", "tests") else entry)[key] = value.strip()
    close(len(lines))
    names = [mutation["mutation"] for mutation in mutations]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SystemExit(f"{path}: more than one mutation is called {', '.join(twice)}")
    return mutations


def find_once(source, text, start, what):
    at = source.find(text, start)
    if at < 0:
        raise ValueError(f"{what} '{text}' is not there")
    if start == 0 and source.find(text, at + 1) >= 0:
        raise ValueError(f"{what} '{text}' is there more than once")
    return at


def place(source, mutation):
    """The span that the mutation replaces."""
    start = 0
    if after := mutation["after"]:
        start = find_once(source, after, 0, "the text") + len(after)
    at = find_once(source, mutation["text"], start, "the text")
    return at, at + len(mutation["text"])


def choice(alternatives, text):
    """All `alternatives` (index, mutation) of one text, in one piece of source."""
    if text.endswith(";"):
        branches = "".join(f"if (SF_MUTATION({i})) {{ {m['becomes']} }} else " for i, m in alternatives)
        return f"{{ {branches}{{ {text} }} }}"
    branches = "".join(f"SF_MUTATION({i}) ? ({m['becomes']}) : " for i, m in alternatives)
    return f"({branches}({text}))"


def mutate(source, name, mutations):
    """Source with all `mutations` (index, mutation); those that cannot be made get an "error"."""
    spans = {}
    for index, mutation in mutations:
        try:
            if mutation["text"].endswith(";") != (mutation["becomes"].endswith(";") or not mutation["becomes"]):
                raise ValueError("only a statement can take the place of a statement")
            span = place(source, mutation)
            if any(span[0] < other[1] and other[0] < span[1] and span != other for other in spans):
                raise ValueError("its text overlaps that of another mutation")
        except ValueError as error:
            mutation["error"] = f"{name}: {error}"
            continue
        mutation["line"] = source.count("\n", 0, span[0]) + 1
        spans.setdefault(span, []).append((index, mutation))
    for (begin, end), alternatives in sorted(spans.items(), reverse=True):
        source = source[:begin] + choice(alternatives, source[begin:end]) + source[end:]
    return source


def write_if_other(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def main():
    root, table, out = (pathlib.Path(argument) for argument in sys.argv[1:4])
    mutations = read_table(table)
    sources = sorted([*root.glob("kernels/**/*.cu"), *root.glob("kernels/**/*.cuh")])
    names = {str(source.relative_to(root)) for source in sources}
    for mutation in mutations:
        if mutation["file"] not in names:
            mutation["error"] = f"there is no {mutation['file']}"
    for source in sources:
        name = str(source.relative_to(root))
        own = [(i, m) for i, m in enumerate(mutations) if m["file"] == name]
        write_if_other(out / name, mutate(source.read_text(encoding="utf-8"), name, own))
    rows = []
    for mutation in mutations:
        fields = [mutation[key] for key in ("mutation", "file", "text", "becomes", "tests")]
        fields.append(mutation.get("error", ""))
        rows.append("{" + ", ".join(json.dumps(f) for f in fields) + f", {mutation.get('line', 0)}}},\n")
    write_if_other(out / "mutations.inc", "".join(rows))


if __name__ == "__main__":
    main()
