#!/usr/bin/env python3
"""scripts/check_layers.py finds each kind of violation, at its line, and nothing in a good tree."""

import pathlib
import subprocess
import sys
import tempfile
import unittest

SCRIPT = pathlib.Path(__file__).parents[2] / "scripts" / "check_layers.py"

GOOD = {
    "runtime/core/log.h": "#pragma once\n#include <string>\n",
    "runtime/core/log.cpp": '#include "runtime/core/log.h"\nvoid f() { fputs("", stderr); }\n',
    "kernels/op.h": '#pragma once\n#include "runtime/core/log.h"\n',
    "kernels/op-inl.h": "#include <hwy/highway.h>\n",
    "kernels/op.cpp": '#include "kernels/op.h"\n'
                      "// printf(1); exit(1) in a comment; #include \"kernels/none.h\"\n"
                      'const char* a = "std::cout << exit(1)";\n'
                      'const char* b = R"(\nprintf(1); stderr\n)";\n'
                      "int million = 1'000'000; void g(X& x) { x.abort(); snprintf(p, 1, \"\"); }\n"
                      'void h(FILE* f) { fmt::print(f, "text"); exit_status(1); }\n',
    "trainer/cli/main.cpp": '#include "trainer/cli/command.h"\n'
                            "int main() { printf(\"\"); std::exit(1); }\n",
    "trainer/cli/command.h": "#include <CLI/CLI.hpp>\n",
    "trainer/report.cpp": '#include "stemfabric_revision.h"\n#include <nlohmann/json.hpp>\n',
    "tests/op_test.cpp": '#include "kernels/op.h"\n#include <gtest/gtest.h>\n',
}


def run(files):
    with tempfile.TemporaryDirectory() as folder:
        for name, text in files.items():
            path = pathlib.Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        done = subprocess.run([sys.executable, SCRIPT, folder], capture_output=True, text=True,
                              check=False)
    return done.returncode, done.stdout.splitlines(), done.stderr


class CheckLayers(unittest.TestCase):
    def expect(self, name, text, line, part):
        """The good tree with one file more gives one violation, at this line."""
        status, lines, _ = run({**GOOD, name: text})
        self.assertEqual(status, 1, lines)
        self.assertEqual(len(lines), 1, lines)
        self.assertTrue(lines[0].startswith(f"{name}:{line}: "), lines[0])
        self.assertIn(part, lines[0])

    def test_a_good_tree_is_silent(self):
        self.assertEqual(run(GOOD), (0, [], ""))

    def test_layers(self):
        self.expect("runtime/a.cpp", '\n#include "kernels/op.h"\n', 2, "runtime/ must not include")
        self.expect("runtime/a.h", '#include "trainer/cli/command.h"\n', 1, "must not include")
        self.expect("kernels/a.cpp", '#include "trainer/cli/command.h"\n', 1, "kernels/ must not")
        self.expect("kernels/a.cu", "#include <trainer/cli/command.h>\n", 1, "kernels/ must not")
        self.expect("trainer/a.cpp", '#include "trainer/cli/command.h"\n', 1, "trainer/ must not")
        self.expect("trainer/a.cpp", '#include "tests/op_test.cpp"\n', 1, "trainer/ must not")

    def test_paths(self):
        self.expect("kernels/a.cpp", '/* two\nlines */\n#include "op.h"\n', 3, "no path")
        self.expect("tests/a_test.cpp", '#include "kernels/gone.h"\n', 1, "no path")
        self.expect("benchmarks/a.cpp", '#include "../kernels/gone.h"\n', 1, "no path")

    def test_heavy_headers(self):
        for header in ("nlohmann/json.hpp", "spdlog/spdlog.h", "simdjson.h", "hwy/highway.h",
                       "cuda_runtime.h", "CLI/CLI.hpp"):
            self.expect("trainer/a.h", f"#pragma once\n#include <{header}>\n", 2, header)

    def test_printing(self):
        for call in ("std::cout << 1;", "printf(1);", "std::fputs(text, stderr);", 'fmt::print("");',
                     "fmt::println (\n\"\");", "write(STDERR_FILENO, p, 1);", "puts(text);"):
            self.expect("trainer/a.cpp", f"int x;\nvoid f() {{ {call} }}\n", 2, "do not print")

    def test_ending_the_process(self):
        for call in ("exit(1);", "std::abort();", "_exit (2);", "std::terminate();"):
            self.expect("runtime/a.h", f"// one\nvoid f() {{ {call} }}\n", 2, "throw an Error")

    def test_every_violation_is_listed(self):
        status, lines, _ = run({**GOOD, "runtime/a.cpp": "void f() { puts(t);\nexit(1); }\n",
                                "kernels/b.h": "#include <hwy/highway.h>\n"})
        self.assertEqual(status, 1)
        self.assertEqual([line.split(" ")[0] for line in lines],
                         ["runtime/a.cpp:1:", "runtime/a.cpp:2:", "kernels/b.h:1:"])

    def test_another_folder_is_refused(self):
        status, lines, error = run({"kernels/op.h": ""})
        self.assertEqual((status, lines), (2, []))
        self.assertIn("no folder runtime/", error)


if __name__ == "__main__":
    unittest.main()
