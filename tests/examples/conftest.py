"""The examples are scripts, not a package: their folder goes on the path, as running one of them puts it there."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
