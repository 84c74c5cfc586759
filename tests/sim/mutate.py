#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes a source file with an error put in: mutate.py MUTANT SOURCE_DIR OUTPUT.

A mutant is a text file: "file: NAME" says which source, then come "<<<" and ">>>" around the text to be found, exactly
once, and what takes its place, apart by "===". What stands before is for readers.
"""

import re
import sys
from pathlib import Path


def main() -> int:
    mutant, sources, output = (Path(argument) for argument in sys.argv[1:])
    text = mutant.read_text()
    name = re.search(r"^file: (\S+)$", text, re.MULTILINE)
    change = re.search(r"^<<<\n(.*?)^===\n(.*?)^>>>$", text, re.MULTILINE | re.DOTALL)
    if not name or not change:
        sys.exit(f"{mutant}: no \"file:\" line, or no change between <<< and >>>")
    source = (sources / name[1]).read_text()
    count = source.count(change[1])
    if count != 1:
        sys.exit(f"{mutant}: its text is in {name[1]} {count} times, not once: state the mutant anew")
    output.write_text(source.replace(change[1], change[2]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
