"""Messages of the library in words of the command line."""

import re
from typing import Any, TextIO

__all__ = ["FlagsInHelp", "with_flags"]


def with_flags(sentence: str) -> str:
    """A message whose settings stand in backticks, with flags in their place: `name=value` becomes --name value."""

    def flag(found: re.Match[str]) -> str:
        name, _, value = found[1].partition("=")
        if name == "n":
            return f"-n {value}".rstrip()
        name = name.replace("_", "-")
        switch = {"True": f"--{name}", "False": f"--no-{name}"}.get(value)
        return switch or f"--{name} {value.strip(chr(39))}".rstrip()

    return re.sub(r"`([a-z]\w*(?:=[^`]*)?)`", flag, sentence)


class FlagsInHelp:
    """A stream through which help texts go, with flags in place of the settings in them."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write the text in words of the command line."""
        return self.stream.write(with_flags(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)
