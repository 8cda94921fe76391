"""The benchmarks are run from the repository's root, which goes on the path as `python -m` puts it there."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
