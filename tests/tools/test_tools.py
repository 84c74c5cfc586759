#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The tools that others are judged by: the count of tests, the rule of layers, and the reader of the headers."""

import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

TOP = pathlib.Path(__file__).resolve().parent.parent.parent
sys.dont_write_bytecode = True
sys.path.insert(0, str(TOP / "tools"))

import public_api  # noqa: E402 (found by the line above)


class Summary(unittest.TestCase):
    """tools/test-summary"""

    def count(self, *tests, status=0):
        """What it says of a log with these (result, output) tests: its last line, and its exit status."""
        with tempfile.TemporaryDirectory() as build:
            logs = pathlib.Path(build) / "meson-logs"
            logs.mkdir()
            always = {"returncode": 0, "command": ["x"]}
            lines = [
                json.dumps({"name": f"test {at}", "result": result, "stdout": output, **always})
                for at, (result, output) in enumerate(tests)
            ]
            (logs / "testlog.json").write_text("\n".join(lines) + "\n")
            done = subprocess.run(
                [sys.executable, TOP / "tools" / "test-summary", build, str(status)],
                check=False, capture_output=True, text=True,
            )
            return done.stdout.splitlines()[-1], done.returncode

    def test_subtests_count_each(self):
        tap = "1..3\nok 1 - a\nok 2 - b # SKIP no network\nok 3 - c\n"
        self.assertEqual(self.count(("OK", tap), ("OK", "words"), ("SKIP", "")), ("3 passed, 0 failed, 2 skipped", 0))

    def test_failed_subtest_fails(self):
        tap = "1..2\nnot ok 1 - a\nok 2 - b\n"
        self.assertEqual(self.count(("FAIL", tap)), ("1 passed, 1 failed, 0 skipped", 1))

    def test_subtests_that_did_not_come_fail(self):
        for result in ("TIMEOUT", "ERROR", "OK"):
            self.assertEqual(self.count((result, "1..3\nok 1 - a\n")), ("1 passed, 2 failed, 0 skipped", 1))

    def test_skips_have_reasons(self):
        with tempfile.TemporaryDirectory() as build:
            logs = pathlib.Path(build) / "meson-logs"
            logs.mkdir()
            test = {"name": "a", "result": "OK", "stdout": "1..2\nok 1 - b # SKIP no network\nok 2 - c\n"}
            (logs / "testlog.json").write_text(json.dumps(test) + "\n")
            command = [sys.executable, TOP / "tools" / "test-summary", build, "0"]
            done = subprocess.run(command, check=False, capture_output=True, text=True)
        self.assertEqual(done.stdout, "SKIPPED a: b # SKIP no network\n1 passed, 0 failed, 1 skipped\n")

    def test_a_crash_after_the_last_subtest_fails(self):
        self.assertEqual(self.count(("ERROR", "1..1\nok 1 - a\n")), ("1 passed, 1 failed, 0 skipped", 1))

    def test_what_is_not_a_pass_fails(self):
        for result in ("FAIL", "ERROR", "TIMEOUT", "INTERRUPT", "UNEXPECTEDPASS"):
            self.assertEqual(self.count(("OK", ""), (result, "")), ("1 passed, 1 failed, 0 skipped", 1))

    def test_nothing_that_ran_is_no_success(self):
        self.assertEqual(self.count(), ("0 passed, 0 failed, 0 skipped", 1))
        self.assertEqual(self.count(("OK", ""), status=1), ("1 passed, 1 failed, 0 skipped", 1))


class PytestTap(unittest.TestCase):
    """tools/pytest-tap"""

    TESTS = """
import pytest

def test_good():
    print("ok 7 - not from here")

@pytest.mark.parametrize("text", ["# a"])
def test_bad(text):
    assert False, "the reason"

@pytest.mark.skip(reason="no\\nneed")
def test_skipped():
    pass

@pytest.fixture
def thing():
    yield
    assert False

def test_ends_badly(thing):
    pass
"""

    def run_tests(self, **files):
        """What it says of files with these contents: its lines, all else that is written, and its exit status."""
        with tempfile.TemporaryDirectory() as folder:
            for name, text in files.items():
                (pathlib.Path(folder) / f"{name}.py").write_text(text)
            done = subprocess.run(
                [TOP / "tools" / "pytest-tap", "-s", folder], check=False, capture_output=True, text=True
            )
            return done.stdout.splitlines(), done.stderr, done.returncode

    def test_each_test_is_a_line(self):
        lines, errors, status = self.run_tests(test_a=self.TESTS)
        self.assertEqual(lines, [
            "1..4", "ok 1 - test_good", "not ok 2 - test_bad[= a]", "ok 3 - test_skipped # SKIP no need",
            "not ok 4 - test_ends_badly",
        ])  # fmt: skip
        self.assertIn("the reason", errors)
        self.assertIn("ok 7 - not from here", errors)
        self.assertEqual(status, 1)

    def test_files_that_are_skipped_or_broken(self):
        skipped = "import pytest; pytest.importorskip('no_such_module')"
        lines, _, status = self.run_tests(test_a=skipped)
        self.assertEqual((len(lines), lines[0], status), (2, "1..1", 0))
        self.assertIn("# SKIP could not import 'no_such_module'", lines[1])
        lines, _, status = self.run_tests(test_a="import no_such_module")
        self.assertEqual((lines, status), (["1..1", "not ok 1 - test_a.py"], 2))


class Layers(unittest.TestCase):
    """tools/check-layers"""

    def verdict(self, **files):
        """What it says of a tree with these files, whose names have __ for / and end in _h or _c."""
        with tempfile.TemporaryDirectory() as top:
            top = pathlib.Path(top)
            for folder in ("tools", "include/tendril", "src/base", "src/value"):
                (top / folder).mkdir(parents=True)
            shutil.copy(TOP / "tools" / "check-layers", top / "tools")
            for name, text in files.items():
                path = top / (name.replace("__", "/")[:-2] + "." + name[-1])
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
            return subprocess.run(
                [sys.executable, top / "tools" / "check-layers"], check=False, capture_output=True, text=True
            ).stdout

    def test_down_is_allowed(self):
        self.assertEqual(self.verdict(src__value__a_c='#include "base/list.h"\n#include <tendril/status.h>\n'), "")

    def test_up_is_not(self):
        self.assertIn("src/base/a.c:1:", self.verdict(src__base__a_c='#include "value/codec.h"\n'))
        self.assertIn("src/value/a.c:2:", self.verdict(src__value__a_c="\n#include <tendril/agent.h>\n"))

    def test_users_have_the_public_headers_alone(self):
        self.assertEqual(self.verdict(cli__a_c='#include <tendril.h>\n#include "b.h"\n', cli__b_h=""), "")
        self.assertIn("cli/a.c:1:", self.verdict(cli__a_c='#include "base/list.h"\n'))


class Listed(unittest.TestCase):
    """Files that a meson.build has to name."""

    def test_tests_of_the_python_package(self):
        folder = TOP / "tests" / "python"
        build = (folder / "meson.build").read_text()
        names = [path.stem.removeprefix("test_") for path in folder.glob("test_*.py")]
        missing = [name for name in names if f"'{name}'" not in build]
        self.assertEqual(missing, [], "add them to tests/python/meson.build")


class PublicApi(unittest.TestCase):
    """tools/public_api.py"""

    def parse(self, text):
        """Reads a header of that text."""
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "x.h"
            path.write_text("/* SPDX-License-Identifier: Apache-2.0 */\n/* About it. */\n" + text)
            return public_api.parse(path)

    def test_groups_sections_and_kinds(self):
        header = self.parse(
            "/* ---- life ---- */\n\n/* Both. */\nTDR_API int tdr_a(void);\nTDR_API int tdr_b(void); /* b */\n\n"
            "typedef struct tdr_c tdr_c;\n\n/* Calls. */\ntypedef int (*tdr_d)(void *context);\n"
            "enum {\n\tTDR_E = 1,\n\tTDR_F\n};\n"
        )
        self.assertEqual([section.title for section in header.sections], ["life"])
        self.assertEqual([[item.name for item in group.items] for group in header.groups()],
                         [["tdr_a", "tdr_b"], ["tdr_c"], ["tdr_d", ""]])
        self.assertEqual(header.items()[-1].constants, ["TDR_E", "TDR_F"])

    def test_lists(self):
        header = self.parse(
            '/* X(name, text) */\n#define TDR_A_LIST(X) \\\n\tX(TDR_A, "a, b (c)") \\\n\tX(TDR_B, "d")\n'
        )
        item = header.items()[0]
        self.assertEqual((item.columns, [row.cells for row in item.rows]),
                         (["name", "text"], [["TDR_A", "a, b (c)"], ["TDR_B", "d"]]))

    def test_what_it_does_not_know_is_refused(self):
        with self.assertRaises(SystemExit):
            self.parse("int tdr_without_export(void);\n")

    def test_the_headers_are_read(self):
        names = {item.name for header in public_api.headers() for item in header.items()}
        self.assertLessEqual({"tdr_rpc_async", "tdr_status", "TDR_STATUS_LIST", "tdr_worker", "TDR_ARGS"}, names)


if __name__ == "__main__":
    unittest.main()
