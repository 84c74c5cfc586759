# SPDX-License-Identifier: Apache-2.0
"""tendril run: how runs end, by themselves, by a failure, by a signal or by the clock, and that nothing is left."""

import signal
import subprocess

import command
from command import CommandTest, process_state

# Says that it is there, and waits for what comes. Its sleeps are short, since a shell runs traps between commands.
WAIT = "echo ready $$; while :; do sleep 0.02; done"


class Ends(CommandTest):
    def ready(self, process, ranks):
        """Waits until all ranks have said so; returns their process ids."""
        lines = sorted(self.read_lines(process, ranks))
        self.assertTrue(all(" ready " in line for line in lines), lines)
        return [int(line.split()[-1]) for line in lines]

    def finish(self, process, status):
        out, err = process.communicate(timeout=command.LIMIT)
        self.assertEqual(process.returncode, status, out + err)
        self.assertEqual(self.marked(), [])
        return out, err


class Statuses(Ends):
    def test_success(self):
        self.assertEqual(self.run_shell(3, "exit 0"), ("", ""))

    def test_exit_status(self):
        _, err = self.run_shell(3, "[ $RANK != 1 ] || exit 7", status=7)
        self.assertRegex(err, r"\Atendril: rank 1 \(pid \d+\) exited with status 7\n")

    def test_signal(self):
        _, err = self.run_shell(2, "[ $RANK = 0 ] || kill -KILL $$", status=128 + 9)
        self.assertRegex(err, r"\Atendril: rank 1 \(pid \d+\) was killed by SIGKILL\n")

    def test_rank_is_named_by_its_number_among_all(self):
        _, err = self.run_shell(1, "exit 1", "--first-rank", "5", "--store", "localhost:1", status=1)
        self.assertIn("tendril: rank 5 (pid", err)

    def test_quiet(self):
        _, err = self.run_shell(2, "exit 3", "--quiet", status=3)
        self.assertEqual(err, "")

    def test_program_that_is_not_there(self):
        _, err = self.call("run", "-n", "4", "/nonexistent/program", status=127)
        self.assertEqual(err, "tendril: run: cannot run '/nonexistent/program': No such file or directory\n")

    def test_program_that_cannot_be_run(self):
        _, err = self.call("run", "-n", "4", "/etc/passwd", status=126)
        self.assertEqual(err, "tendril: run: cannot run '/etc/passwd': Permission denied\n")

    def test_port_in_use(self):
        store = self.start("store", "--port", "0", "--print-port")
        port = store.stdout.readline().strip()
        _, err = self.call("run", "--master-port", port, "true", status=1)
        self.assertIn("tendril: run: cannot host the store: ", err)
        self.assertIn("Address already in use", err)
        store.terminate()
        self.finish(store, 0)

    def test_too_few_descriptors(self):
        limit = command.resource_limit("NOFILE", 100)
        _, err = self.call("run", "-n", "64", "true", status=1, preexec_fn=limit)
        self.assertIn("the hard limit is 100", err)


class Failures(Ends):
    def test_others_are_ended(self):
        process = self.start_shell(4, f"[ $RANK != 2 ] || {{ sleep 0.2; exit 5; }}; {WAIT}")
        _, err = self.finish(process, 5)
        self.assertIn("rank 2 (pid", err)
        self.assertIn("tendril: ending the other 3\n", err)

    def test_processes_of_ranks_are_ended(self):
        """Those of the rank that failed, and those of the others."""
        process = self.start_shell(3, "sleep 600 & (sleep 600 & sleep 600) & sleep 0.2; [ $RANK != 1 ] || exit 5; wait")
        self.finish(process, 5)

    def test_stopped_ones_too(self):
        process = self.start_shell(2, "[ $RANK != 1 ] || { sleep 0.3; exit 5; }; kill -STOP $$", "--grace", "100")
        self.finish(process, 5)

    def fails_when_told(self, trap, *options):
        """Two ranks with a trap for SIGTERM, and a third that fails once they are ready."""
        script = f'[ $RANK != 2 ] || {{ read -r line; exit 5; }}; trap "{trap}" TERM; {WAIT}'
        process = self.start_shell(3, script, "--stdin", "2", *options, stdin=subprocess.PIPE)
        self.ready(process, 2)
        process.stdin.write("\n")
        process.stdin.flush()
        return process

    def test_those_who_refuse_are_killed(self):
        process = self.fails_when_told("", "--grace", "0.3")
        _, err = self.finish(process, 5)
        self.assertIn("tendril: ranks 0, 1 did not end within 0.3 s of SIGTERM: killing\n", err)

    def test_no_grace(self):
        process = self.start_shell(2, f"trap 'echo asked' TERM; [ $RANK != 0 ] || exit 5; {WAIT}", "--grace", "0")
        out, _ = self.finish(process, 5)
        self.assertNotIn("asked", out)

    def test_what_they_say_when_ended_is_heard(self):
        process = self.fails_when_told("echo saved; exit 0", "--grace", "100")
        out, _ = self.finish(process, 5)
        self.assertEqual(sorted(out.splitlines()), ["[0] saved", "[1] saved"])

    def test_many(self):
        process = self.start_shell(64, f"[ $RANK != 63 ] || exit 5; {WAIT}", "--grace", "100")
        _, err = self.finish(process, 5)
        self.assertIn("rank 63 (pid", err)

    def test_what_is_left_behind_is_ended(self):
        process = self.start_shell(2, "sleep 600 & exit 0")
        _, err = self.finish(process, 0)
        self.assertEqual(err, "tendril: ranks 0, 1 left processes behind: ending them\n")

    def test_what_ends_by_itself_is_left_in_peace(self):
        process = self.start_shell(2, "(sleep 0.1; echo later) & exit 0")
        out, err = self.finish(process, 0)
        self.assertEqual((sorted(out.splitlines()), err), (["[0] later", "[1] later"], ""))

    def test_ranks_die_with_the_command(self):
        process = self.start_shell(3, "echo ready $$; exec sleep 600")
        self.ready(process, 3)
        process.kill()
        process.communicate(timeout=command.LIMIT)
        command.wait_until(lambda: not self.marked(), "the ranks are gone")


class Clock(Ends):
    def test_late(self):
        process = self.start_shell(2, WAIT, "--timeout", "0.3")
        _, err = self.finish(process, 124)
        self.assertEqual(err, "tendril: the run has taken its 0.3 s: ending it\n")

    def test_in_time(self):
        self.assertEqual(self.run_shell(2, "exit 0", "--timeout", "100"), ("", ""))


class Signals(Ends):
    def test_passed_on(self):
        for name in "USR1", "USR2", "HUP", "TERM", "QUIT", "INT":
            process = self.start_shell(3, f"trap 'echo got {name}; exit 0' {name}; {WAIT}")
            self.ready(process, 3)
            process.send_signal(getattr(signal, f"SIG{name}"))
            out, err = self.finish(process, 0)
            self.assertEqual(sorted(out.splitlines()), [f"[{rank}] got {name}" for rank in range(3)])
            self.assertEqual("passed on" in err, name == "INT")

    def test_that_nobody_handles(self):
        for name in "TERM", "INT":
            number = getattr(signal, f"SIG{name}")
            process = self.start_shell(2, WAIT)
            self.ready(process, 2)
            process.send_signal(number)
            _, err = self.finish(process, 128 + number)
            self.assertIn(f"was killed by SIG{name}", err)

    def test_those_who_do_not_follow(self):
        """One ends of the signal; the others have the grace to do so, then are ended."""
        process = self.start_shell(3, f"[ $RANK = 0 ] || trap '' HUP; {WAIT}", "--grace", "0.3")
        self.ready(process, 3)
        process.send_signal(signal.SIGHUP)
        _, err = self.finish(process, 128 + 1)
        self.assertIn("tendril: ranks 1, 2: still there 0.3 s later, ending with SIGTERM\n", err)

    def test_second_interrupt_kills(self):
        process = self.start_shell(3, f"trap 'echo ready again' INT; trap '' TERM; {WAIT}")
        self.ready(process, 3)
        process.send_signal(signal.SIGINT)
        self.assertEqual(len(self.read_lines(process, 3)), 3)
        process.send_signal(signal.SIGINT)
        _, err = self.finish(process, 130)
        self.assertIn("tendril: SIGINT again: killing all\n", err)

    def test_ignored_ones_stay_ignored(self):
        """As under nohup(1)."""
        process = self.start_shell(1, WAIT, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
        self.ready(process, 1)
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        self.finish(process, 128 + 15)

    def test_stop_and_go_on(self):
        process = self.start_shell(2, "echo ready $$; exec sleep 600")
        pids = [process.pid, *self.ready(process, 2)]
        for _ in range(2):
            process.send_signal(signal.SIGTSTP)
            command.wait_until(lambda: all(process_state(pid) == "T" for pid in pids), "all are stopped")
            process.send_signal(signal.SIGCONT)
            command.wait_until(lambda: not any(process_state(pid) == "T" for pid in pids), "all go on")
        process.send_signal(signal.SIGTERM)
        self.finish(process, 128 + 15)

    def test_processes_of_ranks_get_them(self):
        process = self.start_shell(1, f"(trap 'echo inner; exit 0' USR1; {WAIT}) & trap 'wait; exit 0' USR1; {WAIT}")
        self.ready(process, 2)
        process.send_signal(signal.SIGUSR1)
        out, _ = self.finish(process, 0)
        self.assertEqual(out, "[0] inner\n")


if __name__ == "__main__":
    command.main()
