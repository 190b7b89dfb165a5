"""What a GoogleTest program printed, also one that died or was ended: the outcome of each test, and what is left to run."""
import re

MARK = re.compile(r"\[ *(RUN|OK|FAILED|SKIPPED) *\] ([^\s,]+)")
# After these the context of the device is of no more use: every later call of the process fails too.
SPOILED = re.compile(r"illegal (memory access|instruction|address)|misaligned address|unspecified launch failure|"
                     r"device-side assert|hardware stack error|invalid program counter|launch timed out|"
                     r"operation not supported on global/shared address space|uncorrectable ECC")


def parse(text):
    """{"expected": tests that were to run, "outcomes": {test: "ok", "skipped" or "failed"}, "unfinished": the
    test that had begun and did not end, "spoiled_by": the test with an error of the device, after which no outcome
    counts}. None if it is no such program's output."""
    expected = re.search(r"\[=+\] Running (\d+) tests?", text)
    if expected is None:
        return None
    outcomes, running, begin = {}, None, 0
    for mark in MARK.finditer(text):
        what, name = mark.groups()
        if what == "RUN":
            running, begin = name, mark.end()
        elif name == running:  # others are the lists at the end
            outcomes[name] = what.lower()
            running = None
            if what == "FAILED" and SPOILED.search(text, begin, mark.start()):
                return {"expected": int(expected.group(1)), "outcomes": outcomes, "unfinished": None, "spoiled_by": name}
    if running:
        outcomes[running] = "failed"
    return {"expected": int(expected.group(1)), "outcomes": outcomes, "unfinished": running, "spoiled_by": None}


def rest_of(command, text):
    """The command for the tests that a test of this output kept from running, or None."""
    done = parse(text)
    if done is None or not (done["unfinished"] or done["spoiled_by"]) or len(done["outcomes"]) >= done["expected"]:
        return None
    def without(argument):
        if not argument.startswith("--gtest_filter="):
            return argument
        return argument + (":" if "-" in argument.split("=", 1)[1] else "-") + ":".join(done["outcomes"])
    return [without(argument) for argument in command]


def summary(text):
    """Counts, and the names of what failed; None if the program did not come to run tests."""
    done = parse(text)
    if done is None:
        return None
    outcomes = list(done["outcomes"].values())
    found = {"ran": len(outcomes) - outcomes.count("skipped"), "skipped": outcomes.count("skipped"),
             "failed": [name for name, outcome in done["outcomes"].items() if outcome == "failed"]}
    for key in ("unfinished", "spoiled_by"):
        if done[key]:
            found[key] = done[key]
    return found
