# SPDX-License-Identifier: Apache-2.0
"""tendril run: what ranks are given, and what is understood."""

import os
import pty
import resource
import subprocess

import command
from command import CommandTest


class Environment(CommandTest):
    def variables(self, ranks, names, *options, **more):
        """What each rank sees of these variables."""
        script = "echo " + " ".join(f"${{{name}-unset}}" for name in names)
        out, _ = self.run_shell(ranks, script, *options, **more)
        return [line.split(" ")[1:] for line in sorted(out.splitlines())]

    def test_ranks_are_numbered(self):
        names = ["RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"]
        self.assertEqual(self.variables(3, names), [[str(rank), "3", str(rank), "3"] for rank in range(3)])

    def test_several_hosts(self):
        names = ["RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "TENDRIL_SECRET"]
        options = ["--first-rank", "4", "--world-size", "8", "--store", "[::1]:1234"]
        self.assertEqual(
            self.variables(2, names, *options),
            [[str(4 + rank), "8", str(rank), "2", "::1", "1234", "unset"] for rank in range(2)],
        )

    def test_group_that_changes(self):
        options = ["--first-rank", "4", "--world-size", "0"]
        self.assertEqual(self.variables(2, ["RANK", "WORLD_SIZE"], *options), [["4", "0"], ["5", "0"]])

    def test_store_is_told(self):
        seen = self.variables(2, ["MASTER_ADDR", "MASTER_PORT", "TENDRIL_STORE_HOSTED"])
        self.assertEqual(seen[0], seen[1])
        self.assertEqual((seen[0][0], seen[0][2]), ("127.0.0.1", "1"))
        self.assertGreater(int(seen[0][1]), 0)

    def test_secret_is_fresh(self):
        first, second = (self.variables(2, ["TENDRIL_SECRET"]) for _ in range(2))
        self.assertRegex(first[0][0], r"\A[0-9a-f]{64}\Z")
        self.assertEqual(first[0], first[1])
        self.assertNotEqual(first, second)

    def test_secret_is_kept(self):
        seen = self.variables(2, ["TENDRIL_SECRET"], environment={"TENDRIL_SECRET": "ours"})
        self.assertEqual(seen, [["ours"], ["ours"]])

    def test_given_variables(self):
        options = ["--env", "A=1", "-e", "B=x=y", "--env", "A=2", "-e", "WORLD_SIZE=7"]
        self.assertEqual(self.variables(1, ["A", "B", "WORLD_SIZE"], *options), [["2", "x=y", "7"]])

    def test_limits_and_signals_are_as_before(self):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        lower = min(soft, 1000)
        script = "ulimit -Sn; grep -E '^Sig(Blk|Ign)' /proc/self/status"
        limit = command.resource_limit("NOFILE", lower, hard)
        before = subprocess.run(["sh", "-c", script], stdout=subprocess.PIPE, text=True, preexec_fn=limit, check=True)
        out, _ = self.run_shell(1, script, "--no-prefix", preexec_fn=limit)
        self.assertEqual(out, before.stdout)

    def test_groups_of_their_own(self):
        script = 'read -r pid name state parent group rest </proc/$$/stat; [ "$group" != "$$" ] || echo own'
        out, _ = self.run_shell(4, script)
        self.assertEqual(len(out.splitlines()), 4)

    def test_hosted_store_works(self):
        out, _ = self.call("run", "-n", "4", command.STORE_CLIENT)
        self.assertEqual(sorted(out.splitlines()), [f"[{rank}] all 4 are here" for rank in range(4)])

    def test_many_ranks(self):
        for ranks in 64, 128:
            out, _ = self.run_shell(ranks, "echo $RANK; echo $RANK >&2", stderr=subprocess.STDOUT)
            expected = sorted(2 * [f"[{rank}] {rank}" for rank in range(ranks)])
            self.assertEqual(sorted(out.splitlines()), expected)


class Input(CommandTest):
    SCRIPT = 'while read -r line; do echo "got $line"; done'

    def test_first_rank_reads(self):
        out, _ = self.run_shell(3, self.SCRIPT, text="a\nb\n")
        self.assertEqual(out, "[0] got a\n[0] got b\n")

    def test_another_rank_reads(self):
        out, _ = self.run_shell(3, self.SCRIPT, "--stdin", "2", text="a\n")
        self.assertEqual(out, "[2] got a\n")

    def test_nobody_reads(self):
        out, _ = self.run_shell(3, self.SCRIPT, "--stdin", "none", text="a\n")
        self.assertEqual(out, "")

    def test_closed_streams(self):
        self.call("run", "sh", "-c", "cat >&2", stdin=None, preexec_fn=lambda: (os.close(0), os.close(2)))

    def test_terminal(self):
        """A terminal is read although ranks are not in its foreground group, and its end is passed on."""
        pid, terminal = pty.fork()
        if pid == 0:
            os.execve(command.TENDRIL, ["tendril", "run", "-n", "2", "sh", "-c", self.SCRIPT], self.environment)
        os.write(terminal, b"hello\n\x04")
        seen = b""
        try:
            while chunk := os.read(terminal, 4096):
                seen += chunk
        except OSError:  # how the other side's end shows
            pass
        os.close(terminal)
        _, status = os.waitpid(pid, 0)
        self.assertEqual(os.waitstatus_to_exitcode(status), 0)
        self.assertIn(b"[0]\x1b[0m got hello\r\n", seen)


class Usage(CommandTest):
    def refused(self, *arguments):
        out, err = self.call(*arguments, status=2)
        self.assertEqual(out, "")
        self.assertTrue(err.startswith("tendril: "), err)
        self.assertEqual(err.count("\n"), 1, err)
        return err

    def test_names_that_do_not_exist(self):
        self.assertIn("'rum'; did you mean 'run'?", self.refused("rum"))
        self.assertIn("'hepl'; did you mean 'help'?", self.refused("hepl"))
        self.assertIn("unknown command 'frobnicate'; see", self.refused("frobnicate"))
        self.assertIn("'--versoin'; did you mean '--version'?", self.refused("--versoin"))
        self.assertIn("'--tiemout'; did you mean '--timeout'?", self.refused("run", "--tiemout=3", "true"))
        self.assertIn("'--jsn'; did you mean '--json'?", self.refused("info", "--jsn"))
        self.assertIn("unknown option '--frobnicate'; see", self.refused("store", "--frobnicate"))
        self.assertIn("unknown option '-x'", self.refused("run", "-x", "true"))
        self.assertIn("unknown command 'x'", self.refused("help", "x"))

    def test_arguments(self):
        self.assertIn("no command", self.refused())
        self.assertIn("no program", self.refused("run", "-n", "2"))
        self.assertIn("'-n' needs an argument", self.refused("run", "-n"))
        self.assertIn("'--grace' needs an argument", self.refused("run", "--grace"))
        self.assertIn("'--quiet' takes no argument", self.refused("run", "--quiet=1", "true"))
        self.assertIn("unexpected argument 'x'", self.refused("info", "x"))
        for text in "0", "-1", "x", "1x", "", "99999999999999999999":
            self.assertIn(f"'{text}'; give a whole number", self.refused("run", "-n", text, "true"))
        for text in "-1", "x", "nan", "inf", "1s", "":
            self.assertIn(f"'{text}'; give a number of seconds", self.refused("run", "--timeout", text, "true"))
        for text in "host", ":1", "a:b:1", "[::1]", "host:", "::1:5":
            self.assertIn("--store is", self.refused("run", "--store", text, "true"))
        self.assertIn("NAME=VALUE", self.refused("run", "--env", "=x", "true"))
        self.assertIn("auto, always or never", self.refused("run", "--color", "blue", "true"))
        self.assertIn("not in a --world-size of 2", self.refused("run", "-n", "3", "--world-size", "2", "true"))
        self.assertIn("--stdin is 1", self.refused("run", "--stdin", "1", "true"))
        self.assertIn("one or the other", self.refused("run", "--store", "a:1", "--master-port", "2", "true"))

    def test_programs_own_options(self):
        """Behind the program's name nothing is ours."""
        out, _ = self.call("run", "echo", "--quiet", "-n", "--", "x")
        self.assertEqual(out, "[0] --quiet -n -- x\n")

    def test_help(self):
        out, err = self.call("--help")
        self.assertEqual(err, "")
        for name in "run", "store", "info":
            self.assertIn(f"  {name} ", out)
            first, _ = self.call(name, "--help")
            second, _ = self.call("help", name)
            self.assertEqual(first, second)
            self.assertTrue(first.startswith(f"Usage: tendril {name} "))
            self.assertIn("\nExample:\n  tendril ", first)
            for line in first.splitlines():
                self.assertLessEqual(len(line), 90)
                self.assertEqual(line, line.rstrip())
        self.assertEqual(self.call("help")[0], out)
        self.assertEqual(self.call("-h")[0], out)

    def test_version(self):
        out, _ = self.call("--version")
        self.assertRegex(out, r"\Atendril \d+\.\d+\.\d+\n\Z")

    def test_output_that_is_lost_is_no_success(self):
        with open("/dev/full", "w", encoding="ascii") as full:
            _, err = self.call("--help", stdout=full, status=1)
        self.assertIn("tendril: cannot write to standard output", err)


if __name__ == "__main__":
    command.main()
