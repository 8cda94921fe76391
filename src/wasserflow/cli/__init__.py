"""The command line: one module per command; each turns words into one call of the library."""

from wasserflow.cli.main import main

__all__ = ["main"]
