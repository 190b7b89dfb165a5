#!/usr/bin/env python3
"""make_mutants.py says which mutation cannot be made, and why; the others it makes."""

import pathlib
import subprocess
import sys
import tempfile
import unittest

SCRIPT = pathlib.Path(__file__).with_name("make_mutants.py")
SOURCE = "int f(int a) {\n  int b = a + 1;\n  g(b);\n  b = b * 2;\n  g(b);\n  return b;\n}\n"


def run(table):
    """The exit status, what it said, the mutated source and the table of the program."""
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        (root / "kernels").mkdir()
        (root / "kernels/f.cu").write_text(SOURCE, encoding="utf-8")
        (root / "table").write_text("file kernels/f.cu\ntests F*\n\n" + table, encoding="utf-8")
        done = subprocess.run([sys.executable, SCRIPT, root, root / "table", root / "out"],
                              capture_output=True, text=True, check=False)
        if done.returncode:
            return done.stderr, "", ""
        return ("", (root / "out/kernels/f.cu").read_text(encoding="utf-8"),
                (root / "out/mutations.inc").read_text(encoding="utf-8"))


class MakeMutants(unittest.TestCase):
    def test_mutates(self):
        _, source, table = run("mutation one\ntext a + 1\nbecomes a\n\n"
                               "mutation two\nafter b * 2;\ntext g(b);\nbecomes\n\n"
                               "mutation three\ntext a + 1\nbecomes a - 1\n")
        self.assertEqual(source.splitlines()[1:5], [
            "  int b = (SF_MUTATION(0) ? (a) : SF_MUTATION(2) ? (a - 1) : (a + 1));",
            "  g(b);",
            "  b = b * 2;",
            "  { if (SF_MUTATION(1)) {  } else { g(b); } }"])
        self.assertIn('{"one", "kernels/f.cu", "a + 1", "a", "F*", "", 2},', table)
        self.assertIn('{"two", "kernels/f.cu", "g(b);", "", "F*", "", 5},', table)

    def test_says_what_cannot_be_made(self):
        for mutation, why in (("text c + 1\nbecomes c", "the text 'c + 1' is not there"),
                              ("text g(b);\nbecomes", "the text 'g(b);' is there more than once"),
                              ("after return b;\ntext g(b);\nbecomes", "the text 'g(b);' is not there"),
                              ("after none\ntext a + 1\nbecomes a", "the text 'none' is not there"),
                              ("text a + 1\nbecomes", "only a statement"),
                              ("text b * 2\nbecomes 2\n\nmutation two\ntext b = b * 2;\nbecomes",
                               "overlaps")):
            error, source, table = run(f"mutation one\n{mutation}\n")
            self.assertEqual(error, "")
            self.assertIn(why, table)
            self.assertEqual(source.count("SF_MUTATION"), 1 if "overlaps" in why else 0)

    def test_says_what_is_wrong_with_the_table(self):
        for table, why in (("mutation one\ntext a", "table:5: the mutation above has no becomes"),
                           ("mutation one\ntekst a", "table:5: 'tekst' is none of"),
                           ("mutation one\ntext a\ntext b", "table:6: a second 'text'"),
                           ("mutation one\ntext a\nbecomes b\n\nmutation one\ntext b\nbecomes a",
                            "more than one mutation is called one")):
            self.assertIn(why, run(table)[0])


if __name__ == "__main__":
    unittest.main()
