# SPDX-License-Identifier: Apache-2.0
"""The file store and PyTorch's FileStore on one file: each reads what the other writes, and both lock each other out.

Usage: test_file_interop.py FILE_DRIVER. Exits with 77 (skipped) where PyTorch is not installed.
"""

import datetime
import os
import subprocess
import sys
import tempfile
import threading
import unittest

try:
    from torch.distributed import FileStore
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

DRIVER = ""
ROUNDS = 300


class Driver:
    """Our store, in a process of its own."""

    def __init__(self, path: str, world_size: int) -> None:
        self.process = subprocess.Popen(
            [DRIVER, path, str(world_size)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def send(self, *words: object) -> None:
        self.process.stdin.write(" ".join(str(word) for word in words) + "\n")
        self.process.stdin.flush()

    def answer(self) -> str:
        status, _, rest = self.process.stdout.readline().rstrip("\n").partition(" ")
        if status != "ok":
            raise RuntimeError(f"{status} {rest}")
        return rest

    def ask(self, *words: object) -> str:
        self.send(*words)
        return self.answer()

    def set(self, key: str, value: bytes) -> None:
        self.ask("set", key, value.hex() or "-")

    def get(self, key: str) -> bytes:
        return bytes.fromhex(self.ask("get", key))

    def compare_set(self, key: str, expected: bytes, desired: bytes) -> bytes:
        return bytes.fromhex(self.ask("compare_set", key, expected.hex() or "-", desired.hex() or "-"))

    def close(self) -> None:
        self.process.stdin.close()
        try:
            status = self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            self.process.stdout.close()
        if status != 0:
            raise RuntimeError(f"the driver exited with {status}")


class Interop(unittest.TestCase):
    def setUp(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.addCleanup(self.directory.cleanup)
        self.path = os.path.join(self.directory.name, "store")

    def open_both(self) -> tuple[FileStore, Driver]:
        theirs, ours = FileStore(self.path, 2), Driver(self.path, 2)
        theirs.set_timeout(datetime.timedelta(seconds=60))
        return theirs, ours

    def test_ours_reads_theirs(self) -> None:
        theirs, ours = self.open_both()
        theirs.set("text", "hello")
        theirs.set("bytes", bytes(range(256)).decode("latin-1"))
        theirs.set("empty", "")
        theirs.add("number", 41)
        theirs.set("gone", "soon")
        theirs.delete_key("gone")
        self.assertEqual(ours.get("text"), b"hello")
        self.assertEqual(ours.get("bytes"), theirs.get("bytes"))
        self.assertEqual(ours.get("empty"), b"")
        self.assertEqual(ours.ask("add", "number", 1), "42")
        self.assertEqual(ours.ask("num_keys"), "4")
        self.assertEqual(ours.ask("delete", "gone"), "0")
        self.assertEqual(ours.compare_set("text", b"hello", b"changed"), b"changed")
        self.assertEqual(theirs.get("text"), b"changed")
        ours.close()

    def test_theirs_reads_ours(self) -> None:
        theirs, ours = self.open_both()
        ours.set("text", b"hello")
        ours.set("bytes", bytes(range(256)))
        ours.ask("append", "bytes", b"end".hex())
        ours.ask("add", "number", -7)
        ours.set("gone", b"soon")
        self.assertEqual(theirs.get("gone"), b"soon")
        self.assertEqual(ours.ask("delete", "gone"), "1")
        self.assertEqual(theirs.get("text"), b"hello")
        self.assertEqual(theirs.get("bytes"), bytes(range(256)) + b"end")
        self.assertEqual(theirs.add("number", 8), 1)
        self.assertEqual(theirs.num_keys(), 3)
        self.assertEqual(theirs.compare_set("gone", "", "again"), b"again")
        self.assertEqual(ours.compare_set("gone", b"other", b"x"), b"again")
        ours.close()

    def test_each_waits_for_the_other(self) -> None:
        theirs, ours = self.open_both()
        ours.send("get", "from_theirs")
        theirs.set("from_theirs", "1")
        self.assertEqual(ours.answer(), b"1".hex())
        setter = threading.Timer(0.05, ours.set, ("from_ours", b"2"))
        setter.start()
        self.assertEqual(theirs.get("from_ours"), b"2")
        setter.join()
        ours.close()

    def test_both_count_at_once(self) -> None:
        theirs, ours = self.open_both()
        second = Driver(self.path, -1)
        ours.send("count_up", "number", ROUNDS)
        second.send("count_up", "number", ROUNDS)
        for _ in range(ROUNDS):
            theirs.add("number", 1)
        ours.answer()
        second.answer()
        self.assertEqual(theirs.get("number"), str(3 * ROUNDS).encode())
        ours.close()
        second.close()

    def test_the_last_removes_the_file(self) -> None:
        theirs, ours = self.open_both()
        ours.set("key", b"value")
        self.assertEqual(theirs.get("key"), b"value")
        ours.close()
        self.assertTrue(os.path.exists(self.path))
        del theirs
        self.assertFalse(os.path.exists(self.path))

        theirs, ours = self.open_both()
        theirs.set("key", "value")
        self.assertEqual(ours.get("key"), b"value")
        del theirs
        self.assertTrue(os.path.exists(self.path))
        ours.close()
        self.assertFalse(os.path.exists(self.path))


if __name__ == "__main__":
    DRIVER = sys.argv.pop()
    unittest.main()
