# SPDX-License-Identifier: Apache-2.0
"""Keeps `make test`, and whoever runs pytest over all of tests/, from collecting torch's own tests: tools/conformance does."""

import os

collect_ignore = [] if os.environ.get("TENDRIL_TORCH") == "1" else ["suite.py"]
