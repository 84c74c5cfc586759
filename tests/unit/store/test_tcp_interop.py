# SPDX-License-Identifier: Apache-2.0
"""The tcp store and PyTorch's TCPStore: our client at its server, its client at our server.

Usage: test_tcp_interop.py TCP_DRIVER. Exits with 77 (skipped) where PyTorch is not installed.
"""

import datetime
import socket
import subprocess
import sys
import threading
import time
import unittest

try:
    from torch.distributed import TCPStore
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

DRIVER = ""
PATIENCE_S = 60
ALL_BYTES = bytes(range(256))


class Process:
    """A process that answers lines by lines, and ends with its standard input."""

    def __init__(self, *arguments: object) -> None:
        self.process = subprocess.Popen(
            [str(argument) for argument in arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
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

    def close(self) -> None:
        """Ends it; kills it where it does not. May be called again."""
        if self.process.stdin.closed:
            return
        self.process.stdin.close()
        try:
            status = self.process.wait(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            self.process.stdout.close()
        if status != 0:
            raise RuntimeError(f"{self.process.args} exited with {status}")


class Client(Process):
    """Our client."""

    def __init__(self, port: int, timeout_ms: int = PATIENCE_S * 1000) -> None:
        super().__init__(DRIVER, "open", "127.0.0.1", port, timeout_ms)
        self.answer()

    def set(self, key: str, value: bytes) -> None:
        self.ask("set", key, value.hex() or "-")

    def append(self, key: str, value: bytes) -> None:
        self.ask("append", key, value.hex() or "-")

    def get(self, key: str) -> bytes:
        return bytes.fromhex(self.ask("get", key))

    def multi_get(self, *keys: str) -> list[bytes]:
        return [bytes.fromhex(value) for value in self.ask("multi_get", *keys).split(" ")]

    def compare_set(self, key: str, expected: bytes, desired: bytes) -> bytes:
        return bytes.fromhex(self.ask("compare_set", key, expected.hex() or "-", desired.hex() or "-"))

    def number(self, *words: object) -> int:
        return int(self.ask(*words))


# The server is in a process of its own: its constructor and its client hold the interpreter's lock.
THEIR_SERVER = """
import datetime, sys
from torch.distributed import TCPStore
port, world_size = int(sys.argv[1]), int(sys.argv[2]) or None
store = TCPStore("127.0.0.1", port, world_size, True, datetime.timedelta(seconds=60), world_size is not None)
print("ok", store.port, flush=True)
for line in sys.stdin:
    verb, *words = line.split()
    if verb == "set":
        store.set(words[0], words[1])
        print("ok", flush=True)
    elif verb == "get":
        print("ok", store.get(words[0]).hex(), flush=True)
    elif verb == "add":
        print("ok", store.add(words[0], int(words[1])), flush=True)
"""


def their_server(port: int = 0, world_size: int = 0) -> Process:
    return Process(sys.executable, "-c", THEIR_SERVER, port, world_size)


def their_client(port: int) -> TCPStore:
    return TCPStore("127.0.0.1", port, None, False, datetime.timedelta(seconds=PATIENCE_S), False)


class OurClientTheirServer(unittest.TestCase):
    """One server for all tests, as it takes seconds to start: each uses keys of its own."""

    server: Process
    port: int

    @classmethod
    def setUpClass(cls) -> None:
        cls.server = their_server()
        cls.addClassCleanup(cls.server.close)
        cls.port = int(cls.server.answer())

    def client(self, timeout_ms: int = PATIENCE_S * 1000) -> Client:
        client = Client(self.port, timeout_ms)
        self.addCleanup(client.close)
        return client

    def test_operations(self) -> None:
        ours = self.client()
        before = ours.number("num_keys")
        ours.set("text", b"hello")
        ours.set("bytes", ALL_BYTES)
        ours.set("empty", b"")
        self.assertEqual(ours.get("text"), b"hello")
        self.assertEqual(ours.get("bytes"), ALL_BYTES)
        self.assertEqual(ours.get("empty"), b"")
        self.assertEqual(ours.number("add", "number", 5), 5)
        self.assertEqual(ours.number("add", "number", -8), -3)
        self.assertEqual(ours.get("number"), b"-3")
        self.assertEqual(ours.number("check", "text", "bytes"), 1)
        self.assertEqual(ours.number("check", "text", "absent"), 0)
        ours.ask("wait", "text", "number")
        self.assertEqual(ours.number("num_keys"), before + 4)
        self.assertEqual(ours.compare_set("text", b"other", b"x"), b"hello")
        self.assertEqual(ours.compare_set("text", b"hello", b"bye"), b"bye")
        self.assertEqual(ours.compare_set("absent", b"other", b"x"), b"other")
        self.assertEqual(ours.number("check", "absent"), 0)
        self.assertEqual(ours.compare_set("absent", b"", b"now"), b"now")
        self.assertEqual(ours.number("delete", "text"), 1)
        self.assertEqual(ours.number("delete", "text"), 0)

    def test_operations_made_of_others(self) -> None:
        ours = self.client()
        ours.append("log", b"one")
        ours.append("log", b"\0two")
        ours.set("other", b"x")
        self.assertEqual(ours.multi_get("log", "other"), [b"one\0two", b"x"])

    def test_shared_with_their_client(self) -> None:
        ours = self.client()
        self.server.ask("set", "theirs", "hello")
        self.assertEqual(ours.get("theirs"), b"hello")
        ours.set("ours", ALL_BYTES)
        self.assertEqual(bytes.fromhex(self.server.ask("get", "ours")), ALL_BYTES)
        self.server.ask("add", "both", 40)
        self.assertEqual(ours.number("add", "both", 2), 42)

    def test_waits(self) -> None:
        first, second = self.client(), self.client()
        first.send("get", "late")
        second.send("wait", "late", "later")
        self.server.ask("set", "late", "1")
        self.assertEqual(first.answer(), b"1".hex())
        first.set("later", b"2")
        second.answer()

    def test_timeouts_leave_the_store_in_order(self) -> None:
        ours = self.client(timeout_ms=100)
        for round_number in range(5):
            key = f"round{round_number}"
            with self.assertRaisesRegex(RuntimeError, f"TDR_ETIMEDOUT.*Socket Timeout.*key '{key}' did not appear"):
                ours.ask("wait", key)
            self.server.ask("set", key, "1")
            self.assertEqual(ours.get(key), b"1")
            self.assertEqual(ours.number("check", key, "nowhere"), 0)

    def test_add_to_a_word(self) -> None:
        ours = self.client()
        ours.set("word", b"seven")
        with self.assertRaisesRegex(RuntimeError, "TDR_EINVAL.*'seven' is no decimal number"):
            ours.ask("add", "word", 1)
        self.assertEqual(ours.get("word"), b"seven")

    def test_large_value(self) -> None:
        ours = self.client()
        value = ALL_BYTES * 1900
        ours.set("large", value)
        self.assertEqual(ours.get("large"), value)

    def test_many_clients(self) -> None:
        clients = [self.client() for _ in range(16)]
        for client in clients:
            client.send("wait", "go")
        self.server.ask("set", "go", "1")
        for client in clients:
            client.answer()

    def test_rank_0_waits_for_its_workers(self) -> None:
        """Their server is not done with its start before all workers have announced themselves."""
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        server = their_server(port, 3)
        self.addCleanup(server.close)
        ours = [Client(port), Client(port)]
        for client in ours:
            self.addCleanup(client.close)
            client.ask("announce")
        server.answer()
        self.assertEqual(ours[0].number("num_keys"), 1)

    def test_server_goes(self) -> None:
        server = their_server()
        self.addCleanup(server.close)
        port = int(server.answer())
        ours = Client(port)
        self.addCleanup(ours.close)
        ours.set("key", b"1")
        server.close()
        with self.assertRaisesRegex(RuntimeError, f"TDR_EIO.*the store at 127.0.0.1:{port}"):
            ours.get("key")


class TheirClientOurServer(unittest.TestCase):
    def setUp(self) -> None:
        self.server = Process(DRIVER, "serve")
        self.addCleanup(self.server.close)
        self.port = int(self.server.answer())

    def test_operations(self) -> None:
        theirs = their_client(self.port)
        theirs.set("text", "hello")
        theirs.set("empty", "")
        self.assertEqual(theirs.get("text"), b"hello")
        self.assertEqual(theirs.get("empty"), b"")
        self.assertEqual(theirs.add("number", 5), 5)
        self.assertEqual(theirs.add("number", -8), -3)
        self.assertEqual(theirs.get("number"), b"-3")
        theirs.wait(["text", "number"])
        theirs.wait(["text"], datetime.timedelta(seconds=1))
        self.assertEqual(theirs.num_keys(), 3)
        self.assertEqual(theirs.compare_set("text", "other", "x"), b"hello")
        self.assertEqual(theirs.compare_set("text", "hello", "bye"), b"bye")
        self.assertEqual(theirs.compare_set("absent", "other", "x"), b"other")
        self.assertEqual(theirs.compare_set("absent", "", "now"), b"now")
        self.assertTrue(theirs.delete_key("text"))
        self.assertFalse(theirs.delete_key("text"))
        self.assertEqual(theirs.num_keys(), 3)

    def test_shared_with_our_client(self) -> None:
        theirs, ours = their_client(self.port), Client(self.port)
        self.addCleanup(ours.close)
        ours.set("bytes", ALL_BYTES)
        self.assertEqual(theirs.get("bytes"), ALL_BYTES)
        theirs.set("text", "hello")
        self.assertEqual(ours.get("text"), b"hello")
        ours.send("get", "late")
        theirs.set("late", "1")
        self.assertEqual(ours.answer(), b"1".hex())
        setter = threading.Timer(0.05, ours.set, ("later", b"2"))
        setter.start()
        theirs.wait(["later"])
        setter.join()

    def test_timeouts_leave_the_connection_in_order(self) -> None:
        """Their client goes on to use a connection whose wait has timed out: it must get no late answer to that."""
        theirs, other = their_client(self.port), their_client(self.port)
        theirs.set_timeout(datetime.timedelta(milliseconds=200))
        for round_number in range(3):
            key = f"late{round_number}"
            began = time.monotonic()
            with self.assertRaisesRegex(RuntimeError, "Socket Timeout"):
                theirs.get(key)
            self.assertGreaterEqual(time.monotonic() - began, 0.15)
            self.assertEqual(theirs.add("number", 1), round_number + 1)
            other.set(key, "value")
            self.assertEqual(other.get(key), b"value")  # a SET has no answer: now it was served
            self.assertEqual(theirs.num_keys(), round_number + 2)
            self.assertEqual(theirs.get(key), b"value")

    def test_workers_announce_themselves(self) -> None:
        """A client that is told how many workers there are counts itself, beside the keys of users."""
        workers = [
            TCPStore("127.0.0.1", self.port, 3, False, datetime.timedelta(seconds=PATIENCE_S), True) for _ in range(2)
        ]
        workers[0].set("key", "1")
        self.assertEqual(workers[1].get("key"), b"1")
        self.assertEqual(workers[1].num_keys(), 2)

    def test_add_to_a_word_ends_that_connection_alone(self) -> None:
        bad, good = their_client(self.port), their_client(self.port)
        good.set("word", "seven")
        self.assertEqual(good.get("word"), b"seven")  # a SET has no answer: now it was served
        with self.assertRaises(RuntimeError):
            bad.add("word", 1)
        self.assertEqual(good.get("word"), b"seven")


if __name__ == "__main__":
    DRIVER = sys.argv.pop(1)
    unittest.main(verbosity=2)
