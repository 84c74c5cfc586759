# SPDX-License-Identifier: Apache-2.0
"""A group without a fixed size, and an object that its members share by reference.

    tendril run -n 5 -- python3 growing_group.py

Rank 0 keeps a board of tasks, which are to count the primes in ranges of numbers. The others join when they like, get a
reference to the board, work, and leave. One dies in the middle of a task, without a word: what it had taken is given to
others, and no number is counted twice.
"""

import os
import threading
import time

from tendril import rpc

LAST = int(os.environ["WORLD_SIZE"]) - 1
ALL_DONE = -1
RANGES = 100
SIZE = 2000
EXPECTED = 17984  # primes below RANGES * SIZE


class Board:
    """Tasks: to do, taken by somebody, done."""

    def __init__(self):
        self.lock = threading.Lock()
        self.todo = list(range(RANGES))
        self.taken = {}  # task -> worker
        self.done = {}  # task -> primes
        self.workers = set()

    def take(self, worker):
        """A task for a worker; None where there is none just now, ALL_DONE at the end."""
        with self.lock:
            self.workers.add(worker)
            if len(self.todo) <= LAST - len(self.workers):  # one is kept for each worker that is still to come
                return None if self.todo or self.taken else ALL_DONE
            task = self.todo.pop()
            self.taken[task] = worker
            return task

    def finish(self, task, primes):
        """Notes a result. A task that was taken from a worker that seemed dead may come twice."""
        with self.lock:
            self.taken.pop(task, None)
            self.done[task] = primes

    def give_back(self, members):
        """Puts back what was taken by workers that are no members any more; returns who they are."""
        with self.lock:
            lost = {task: worker for task, worker in self.taken.items() if worker not in members}
            for task in lost:
                del self.taken[task]
                self.todo.append(task)
            return sorted(set(lost.values()))


board = None  # rank 0's reference


def get_board():
    """Runs on rank 0, for a newcomer."""
    return board


def count_primes(task):
    numbers = range(max(2, task * SIZE), (task + 1) * SIZE)
    return sum(all(number % divisor for divisor in range(2, int(number**0.5) + 1)) for number in numbers)


def members():
    return {info.name for info in rpc.get_worker_infos()}


def find_board():
    """The reference that rank 0 gives, which may be the last to come."""
    while "keeper" not in members():
        time.sleep(0.02)
    while (found := rpc.rpc_sync("keeper", get_board)) is None:
        time.sleep(0.02)
    return found


def keep():
    """Rank 0: looks after the board until all is done and everybody else has left."""
    global board
    board = rpc.RRef(Board())
    tasks = board.local_value()
    while len(tasks.done) < RANGES or len(members()) > 1:
        for worker in tasks.give_back(members()):
            print(f"{worker} is gone, and its task is given to others")
        time.sleep(0.02)
    print(f"{len(tasks.workers)} workers found {sum(tasks.done.values())} primes below {RANGES * SIZE}")
    assert sum(tasks.done.values()) == EXPECTED


def work(rank):
    """The others: take tasks until all are done; the last one dies over its first."""
    tasks = find_board().rpc_sync()
    while (task := tasks.take(f"worker{rank}")) != ALL_DONE:
        if task is None:
            time.sleep(0.02)  # the rest is taken, but may come back
            continue
        if rank == LAST:
            os._exit(0)  # 0, since `tendril run` ends all where a rank fails
        tasks.finish(task, count_primes(task))


if __name__ == "__main__":
    rank = int(os.environ["RANK"])
    time.sleep(0.1 * rank)  # they come one after the other
    with rpc.session("keeper" if rank == 0 else f"worker{rank}", rank=rank):
        if rank == 0:
            keep()
        else:
            work(rank)
