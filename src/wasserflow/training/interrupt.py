"""Ctrl-C and SIGTERM end a run at the next step boundary, after saving; a second one ends it at once."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Interrupted", "catch_signals"]


class Interrupted(KeyboardInterrupt):
    """A run was asked to stop, and was saved.

    Args:
        message: How far it came, and how to go on.
        number: The signal that asked.
    """

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.number = number


@contextmanager
def catch_signals() -> Iterator[list[int]]:
    """A list that receives the signal's number; signals reach the main thread only, elsewhere it stays empty."""
    asked: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        signal.signal(number, before[number])

    numbers = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    before = {int(number): signal.signal(number, note) for number in numbers}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
