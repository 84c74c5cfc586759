# SPDX-License-Identifier: Apache-2.0
"""128 processes start, gather, call their neighbours and shut down through `tendril run`; nothing of them is left.

    test_processes.py TENDRIL MEMBER
"""

import glob
import os
import re
import subprocess
import sys
import time

TENDRIL, MEMBER = sys.argv[1:3]
RANKS = 128
MOST = 4 + 1 + 2  # children, parent and two neighbours: connections are made only where calls are

before = set(glob.glob("/dev/shm/*"))
began = time.monotonic()
result = subprocess.run(
    [TENDRIL, "run", "-n", str(RANKS), "--timeout", "240", "--", MEMBER],
    stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=280, check=False,
)
took = time.monotonic() - began
if result.returncode != 0:
    sys.exit(f"exit status {result.returncode}\n{result.stderr[-4000:]}")
rows = re.findall(r"connections (\d+) of (\d+), resident (\d+)", result.stdout)
if len(rows) != RANKS or any(int(size) != RANKS for _, size, _ in rows):
    sys.exit(f"{len(rows)} of {RANKS} members reported\n{result.stdout[-2000:]}")
if any(int(count) > MOST for count, _, _ in rows):
    sys.exit(f"a member has {max(int(count) for count, _, _ in rows)} connections, more than {MOST}")
for path in glob.glob("/proc/[0-9]*/exe"):
    try:
        if os.readlink(path) == os.path.realpath(MEMBER):
            sys.exit(f"a member is left: {path}")
    except OSError:
        continue
left = {path for path in set(glob.glob("/dev/shm/*")) - before if "tendril" in path}
if left:
    sys.exit(f"left in /dev/shm: {left}")
print(f"{RANKS} processes in {took:.2f} s, at most {max(int(r) for _, _, r in rows) / 2**20:.1f} MiB resident each")
