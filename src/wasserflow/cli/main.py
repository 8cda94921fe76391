"""Which command was meant, and what an error looks like: one sentence on stderr and an exit code."""

import os
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout, suppress
from importlib import import_module
from importlib.metadata import version
from types import FrameType
from typing import TextIO, cast

from wasserflow._core.errors import UserError, unknown
from wasserflow.cli.message import FlagsInHelp, with_flags

__all__ = ["main"]

COMMANDS = {
    "demo": "train on real handwritten digits, evaluate, and draw samples (under two minutes)",
    "train": "train a method on a data set, a folder of images, an array or a table",
    "resume": "resume a run, optionally with a larger budget",
    "sample": "draw samples from a run",
    "evaluate": "measure how close a run's samples are to held-out data",
    "density": "log-densities and likelihoods of samples, and detection of other data",
    "flow": "move one cloud of points, table or picture onto another, without training",
    "plot": "draw a run's curves, samples over training, field and densities",
    "compare": "compare runs side by side on one HTML page: metrics, samples, curves, settings",
    "info": "versions, devices, data sets and extras on this machine",
}

USAGE = """usage: wasserflow COMMAND ...

Generative modelling by gradient flows of probability measures.

commands:
{commands}

wasserflow COMMAND --help explains a command.
"""

OUT_OF_MEMORY = "out of memory: try a smaller --batch, --pool, --width, --maps or --size, or fewer points"


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns 0 when done, 1 for a fault of ours, 2 for the user's, 130 or 143 when interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    with _terminable():
        try:
            code = _run(words)
            if sys.stdout:
                sys.stdout.flush()
        except BrokenPipeError:  # the reader has gone, and nobody is left to tell
            _drop_output()
            return 1
        except OSError as error:
            _drop_output()
            return _say(f"cannot use {error.filename or 'the output'}: {error.strerror or error}", 2)
    torch = sys.modules.get("torch")
    if torch and torch.distributed.is_initialized():
        sys.stderr.flush()
        os._exit(code)  # gloo's threads abort the interpreter's tear-down now and then
    return code


def _run(words: list[str]) -> int:
    """What `main` does, but for errors of the machine."""
    try:
        if not words or words[0] in ("-h", "--help"):
            print(usage(), file=sys.stdout if words else sys.stderr)
            return 0 if words else 2
        if words[0] == "--version":
            print(version("wasserflow"))
            return 0
        if words[0] not in COMMANDS:
            raise unknown("command", words[0], COMMANDS)
        asked = not {"-h", "--help"}.isdisjoint(words)
        with redirect_stdout(cast(TextIO, FlagsInHelp(sys.stdout))) if asked else nullcontext():
            import_module(f"wasserflow.cli.{words[0]}").run(words[1:])
    except UserError as error:
        return _say(with_flags(str(error)), 2)
    except MemoryError:
        return _say(OUT_OF_MEMORY, 2)
    except KeyboardInterrupt as error:
        number = getattr(error, "number", signal.SIGINT)
        return _say(f"interrupted; {error}" if str(error) else "interrupted", 128 + number)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 2 if stop.code else 0
    except OSError:
        raise
    except Exception as error:
        if any(sign in str(error).lower() for sign in ("out of memory", "can't allocate memory", "array is too big")):
            return _say(OUT_OF_MEMORY, 2)
        return _say(f"internal error ({type(error).__name__}: {error}); please report it{_report()}", 1)
    return 0


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end a command as Ctrl-C does, so that nothing half-written stays."""

    def stop(number: int, frame: FrameType | None) -> None:
        error = KeyboardInterrupt()
        error.number = number  # type: ignore[attr-defined]
        raise error

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _report() -> str:
    """Write down the error that is being handled, where that is possible; says where."""
    try:
        with tempfile.NamedTemporaryFile("w", prefix="wasserflow-", suffix=".txt", delete=False) as file:
            traceback.print_exc(file=file)
    except OSError:
        return ""
    return f" with {file.name}"


def _drop_output() -> None:
    """Point stdout nowhere, or Python would complain at its end that it cannot be written."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def usage() -> str:
    """The commands, a line each."""
    return USAGE.format(commands="\n".join(f"  {name:10}{text}" for name, text in COMMANDS.items()))


def _say(sentence: str, code: int) -> int:
    with suppress(OSError):
        print(f"wasserflow: {sentence}", file=sys.stderr)
    return code
