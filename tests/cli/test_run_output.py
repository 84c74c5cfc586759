# SPDX-License-Identifier: Apache-2.0
"""tendril run: what ranks write comes out whole, in order, and behind the right name."""

import os
import pty
import subprocess
import tempfile
import time

import command
from command import CommandTest

LINES = 100000


class Lines(CommandTest):
    def test_streams_are_kept_apart(self):
        out, err = self.run_shell(2, "echo out $RANK; echo err $RANK >&2")
        self.assertEqual(sorted(out.splitlines()), ["[0] out 0", "[1] out 1"])
        self.assertEqual(sorted(err.splitlines()), ["[0] err 0", "[1] err 1"])

    def test_no_prefix(self):
        out, _ = self.run_shell(2, "echo a; echo; echo b", "--no-prefix")
        self.assertEqual(sorted(out.splitlines()), ["", "", "a", "a", "b", "b"])

    def test_empty_lines(self):
        out, _ = self.run_shell(1, "echo; echo")
        self.assertEqual(out, "[0] \n[0] \n")

    def test_lines_without_end(self):
        out, err = self.run_shell(8, "printf 'a\\nb'; printf c >&2")
        self.assertEqual(sorted(out.splitlines()), sorted(f"[{rank}] {x}" for rank in range(8) for x in "ab"))
        self.assertEqual(sorted(err.splitlines()), sorted(f"[{rank}] c" for rank in range(8)))

    def test_pieces_make_one_line(self):
        out, _ = self.run_shell(2, "for i in 1 2 3; do printf $i; sleep 0.02; done; echo")
        self.assertEqual(sorted(out.splitlines()), ["[0] 123", "[1] 123"])

    def test_long_lines_are_cut(self):
        """And nothing of them is lost."""
        size = 5 * 1000 * 1000
        out, _ = self.run_shell(2, f"head -c {size} /dev/zero | tr '\\0' $RANK; echo; echo end")
        for rank in "01":
            lines = [line[4:] for line in out.splitlines() if line.startswith(f"[{rank}] ")]
            self.assertEqual(lines.pop(), "end")
            self.assertEqual("".join(lines), rank * size)
            self.assertLess(max(map(len, lines)), 2 * 1024 * 1024)

    def test_who_left_the_group(self):
        """What it has written comes out, but nobody waits for the rest."""
        script = "mkfifo {0}; setsid sh -c 'echo early; echo >{0}; exec sleep 2' & read -r x <{0}; echo late"
        with tempfile.TemporaryDirectory() as place:
            out, _ = self.run_shell(1, script.format(f"{place}/there"))
        self.assertEqual(out, "[0] early\n[0] late\n")
        command.wait_until(lambda: not self.marked(), "the sleeper has ended")

    def counted(self, lines, ranks):
        """Each rank's lines are all there, in order."""
        at = [0] * ranks
        for line in lines:
            name, rank, number, filler = line.split(" ")
            self.assertEqual(name, f"[{rank}]")
            self.assertEqual(int(number), at[int(rank)])
            self.assertEqual(filler, "x" * (int(number) % 50))
            at[int(rank)] += 1
        return at

    def count_arguments(self, ranks):
        script = (
            "awk 'BEGIN { f = sprintf(\"%50s\", \"\"); gsub(/ /, \"x\", f); "
            f"for (i = 0; i < {LINES}; i++) print ENVIRON[\"RANK\"], i, substr(f, 1, i % 50) }}'"
        )
        return ["run", "-n", str(ranks), "--", "sh", "-c", script]

    def test_big_output(self):
        out, _ = self.call(*self.count_arguments(4))
        self.assertEqual(self.counted(out.splitlines(), 4), [LINES] * 4)

    def test_one_file_for_both(self):
        """Where both of our streams are one, no line gets into another."""
        arguments = self.count_arguments(4)
        arguments[-1] = f'if [ $((RANK % 2)) = 0 ]; then {arguments[-1]}; else {arguments[-1]} >&2; fi'
        out, _ = self.call(*arguments, stderr=subprocess.STDOUT)
        self.assertEqual(self.counted(out.splitlines(), 4), [LINES] * 4)

    def test_into_a_file(self):
        with tempfile.TemporaryFile("w+", encoding="ascii") as file:
            self.call(*self.count_arguments(2), stdout=file)
            file.seek(0)
            self.assertEqual(self.counted(file.read().splitlines(), 2), [LINES] * 2)

    def test_slow_reader(self):
        """Ranks wait for a reader that is slow, signals and all else go on, and nothing is lost."""
        process = self.start(*self.count_arguments(2))
        time.sleep(0.5)
        self.assertIsNone(process.poll())
        out, _ = process.communicate(timeout=command.LIMIT)
        self.assertEqual(self.counted(out.splitlines(), 2), [LINES] * 2)

    def test_reader_that_reads_nothing(self):
        """A full pipe does not keep the command from ending its ranks."""
        process = self.start("run", "-n", "2", "--timeout", "0.3", "yes")
        self.assertIn("ending it", process.stderr.readline())
        command.wait_until(lambda: self.marked() == [process.pid], "the ranks are gone")
        process.stdout.close()
        self.assertEqual(process.wait(command.LIMIT), 124)

    def test_reader_that_goes(self):
        process = self.start("run", "-n", "2", "yes")
        self.assertRegex(process.stdout.readline(), r"\A\[[01]\] y\n\Z")
        process.stdout.close()
        self.assertIn("SIGPIPE", process.stderr.read())
        self.assertEqual(process.wait(command.LIMIT), 128 + 13)

    def test_full_disk(self):
        with open("/dev/full", "w", encoding="ascii") as full:
            _, err = self.run_shell(1, "while :; do echo x; done", stdout=full, status=128 + 13)
        self.assertIn("tendril: run: cannot write: No space left on device\n", err)


class Colors(CommandTest):
    def on_terminal(self, *options, **environment):
        ours, theirs = pty.openpty()
        process = self.start(
            "run", *options, "echo", "x", stdout=theirs, environment={"TERM": "xterm", **environment}
        )
        os.close(theirs)
        process.wait(command.LIMIT)
        seen = os.read(ours, 4096)
        os.close(ours)
        return seen.decode()

    def test_on_a_terminal(self):
        colored, plain = "\033[36m[0]\033[0m x\r\n", "[0] x\r\n"
        self.assertEqual(self.on_terminal(), colored)
        self.assertEqual(self.on_terminal(NO_COLOR="1"), plain)
        self.assertEqual(self.on_terminal(NO_COLOR=""), colored)
        self.assertEqual(self.on_terminal(TERM="dumb"), plain)
        self.assertEqual(self.on_terminal("--color", "never"), plain)
        self.assertEqual(self.on_terminal("--color", "always", NO_COLOR="1"), colored)

    def test_elsewhere(self):
        self.assertEqual(self.call("run", "echo", "x")[0], "[0] x\n")
        self.assertEqual(self.call("run", "--color=always", "echo", "x")[0], "\033[36m[0]\033[0m x\n")

    def test_each_rank_has_its_own(self):
        out, _ = self.run_shell(3, "echo", "--color", "always")
        self.assertEqual(len(set(line[:5] for line in out.splitlines())), 3)


if __name__ == "__main__":
    command.main()
