# SPDX-License-Identifier: Apache-2.0
"""Python imports this at its start in processes whose PYTHONPATH `tendril.torch.install` has set; see _startup.py.

There may be another sitecustomize further down the path, which is run as well.
"""

import importlib.machinery
import importlib.util
import os
import sys


def _run_next() -> None:
    here = os.path.dirname(os.path.abspath(__file__))
    paths = [path for path in sys.path if os.path.abspath(path or ".") != here]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", paths)
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


_run_next()
if os.environ.get("TENDRIL_TORCH") == "1":
    import tendril.torch._startup

    tendril.torch._startup.prepare()
