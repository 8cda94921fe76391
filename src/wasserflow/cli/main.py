"""Which command was meant, and what an error looks like: one sentence on stderr and an exit code."""

import sys
import tempfile
import traceback
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version

from wasserflow.errors import UserError, unknown

__all__ = ["main"]

COMMANDS = {
    "demo": "train VGrow on real handwritten digits, and draw what it learned (under two minutes)",
    "train": "train a method on a data set, a folder of images, an array or a table",
    "resume": "go on with a run, to its budget or past it",
    "sample": "draw samples from a run",
    "evaluate": "measure how close a run's samples are to held-out data",
    "info": "versions, devices, data sets and extras on this machine",
}

USAGE = """usage: wasserflow COMMAND ...

Generative modelling by gradient flows of probability measures.

commands:
{commands}

wasserflow COMMAND --help explains a command.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns 0 when done, 1 for a fault of ours, 2 for the user's, 130 or 143 when interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        if not words or words[0] in ("-h", "--help"):
            print(usage())
            return 0 if words else 2
        if words[0] == "--version":
            print(version("wasserflow"))
            return 0
        if words[0] not in COMMANDS:
            raise unknown("command", words[0], COMMANDS)
        import_module(f"wasserflow.cli.{words[0]}").run(words[1:])
    except UserError as error:
        return _say(str(error), 2)
    except MemoryError:
        return _say("out of memory: try a smaller --batch, --pool or --size", 2)
    except KeyboardInterrupt as error:
        number = getattr(error, "number", 2)
        return _say(f"interrupted; {error}" if str(error) else "interrupted", 128 + number)
    except BrokenPipeError:
        sys.stderr.close()  # the reader has gone, and nobody is left to tell
        return 1
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 2 if stop.code else 0
    except Exception as error:
        if "out of memory" in str(error).lower() or "can't allocate memory" in str(error):
            return _say("out of memory: try a smaller --batch, --pool or --size", 2)
        with tempfile.NamedTemporaryFile("w", prefix="wasserflow-", suffix=".txt", delete=False) as file:
            traceback.print_exc(file=file)
        return _say(f"internal error ({type(error).__name__}: {error}); please report it with {file.name}", 1)
    return 0


def usage() -> str:
    """The commands, a line each."""
    return USAGE.format(commands="\n".join(f"  {name:10}{text}" for name, text in COMMANDS.items()))


def _say(sentence: str, code: int) -> int:
    print(f"wasserflow: {sentence}", file=sys.stderr)
    return code
