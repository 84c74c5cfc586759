# SPDX-License-Identifier: Apache-2.0
"""Runs a program over Tendril: `python -m tendril.torch program.py ARGUMENTS`, or `-m module` in its place."""

import os
import runpy
import sys

from . import install

USAGE = """\
usage: python -m tendril.torch PROGRAM.py [ARGUMENTS...]
       python -m tendril.torch -m MODULE [ARGUMENTS...]"""


def main() -> None:
    """Runs the program that the command line names, as Python itself would."""
    arguments = sys.argv[1:]
    by_module = arguments[:1] == ["-m"]
    if by_module:
        del arguments[0]
    if arguments[:1] in (["-h"], ["--help"]):
        print(USAGE)
        return
    if not arguments or arguments[0].startswith("-"):
        sys.exit(USAGE)
    try:
        install()
    except ImportError as error:
        sys.exit(f"tendril.torch: {error}")
    sys.argv = arguments
    if by_module:
        sys.path[0] = os.getcwd()
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    else:
        sys.path[0] = os.path.dirname(os.path.abspath(arguments[0]))
        runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    main()
