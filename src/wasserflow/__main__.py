"""``python -m wasserflow``, which ``accelerate launch -m wasserflow`` needs."""

import sys

from wasserflow.cli import main

if __name__ == "__main__":
    sys.exit(main())
