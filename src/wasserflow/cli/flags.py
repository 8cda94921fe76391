"""Flags made of settings: one a field, a group a group; only those that are given come back.

What is not given stays open, because what a setting defaults to depends on the recipe and the data, or on a run.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass, make_dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated, Any, TypedDict, TypeVar

import docstring_parser
import tyro

from wasserflow._core.errors import UserError
from wasserflow._core.settings import Name, groups, leaves

if TYPE_CHECKING:
    from wasserflow.training.budget import Budget

__all__ = ["BudgetFlags", "Device", "about_of", "option", "parse"]

option = tyro.conf.arg

Minutes = Annotated[float | None, option(metavar="MINUTES", help_behavior_hint="")]
Device = Annotated[str | None, option(metavar="DEVICE", help_behavior_hint="(default: the best one here)")]

Flags = TypeVar("Flags")

SHORT = 4
"""Names of a table that are shown beside the option; more are listed in its description."""


@dataclass(frozen=True)
class BudgetFlags:
    """When training stops, in total, resumed parts included: at the first of these.

    Args:
        minutes: Wall time of training.
        cpu_minutes: CPU time of training, for comparisons on a busy machine.
        images: Samples seen, each counted as often as it is drawn.
    """

    minutes: Minutes = None
    cpu_minutes: Minutes = None
    images: Annotated[int | None, option(metavar="N", help_behavior_hint="")] = None

    def budget(self) -> "Budget":
        """The same as the library takes it; raises a `UserError` where nothing is given."""
        from wasserflow.training.budget import Budget  # commands that do not train load no trainer

        return Budget(self.images, self.minutes, self.cpu_minutes)

    @property
    def given(self) -> bool:
        """Whether there is one."""
        return (self.images, self.minutes, self.cpu_minutes) != (None, None, None)


def parse(
    kind: type[Flags], settings: object, argv: Sequence[str], prog: str, *, about: str | None = None, advice: str = ""
) -> tuple[Flags, dict[str, Any]]:
    """The flags of a command, and those settings that were given, by name.

    Args:
        kind: The command's own flags.
        settings: Settings whose fields are flags too, or None; their values are the defaults that the help shows.
        argv: The words after the command.
        prog: The command.
        about: Description of the command; by default that of ``kind``.
        advice: What the error for an unknown option says beside the nearest ones.

    Raises:
        UserError: If an option is unknown.
    """
    plain = tyro.conf.OmitArgPrefixes
    parts: list[tuple[str, Any]] = [("flags", tyro.conf.FlagCreatePairsOff[plain[Annotated[kind, option(name="")]]])]
    for name, group in reversed(list(groups(settings).items())):  # those of the method itself come first
        if typed := _typed(group):
            parts.append((name or "settings", plain[Annotated[typed, option(name=name or "general")]]))
    parsed, rest = tyro.cli(
        make_dataclass("Parsed", parts),
        args=argv,
        prog=prog,
        description=about or about_of(kind),
        return_unknown_args=True,
    )
    if rest:
        raise _unknown(rest[0], [*_names(kind), *leaves(settings)], prog, advice)
    given: dict[str, Any] = {}
    for name, _ in parts[1:]:
        given |= getattr(parsed, name)
    return parsed.flags, given


def about_of(kind: Any) -> str:
    """The description of flags or settings, without that of each of them."""
    return docstring_parser.parse(kind.__doc__ or "").description or ""


def _names(kind: Any) -> Iterator[str]:
    for field in fields(kind):
        if is_dataclass(field.type):
            yield from _names(field.type)
        else:
            yield field.name


def _typed(group: object) -> Any:
    """The fields of one group of settings, each of which may be left out; None where it has none of its own."""
    kind: Any = type(group)
    described = {
        param.arg_name: param.description or ""
        for base in reversed(kind.__mro__)
        for param in docstring_parser.parse(base.__doc__ or "").params
    }
    annotated = {}
    for field in fields(kind):
        value = getattr(group, field.name)
        if not is_dataclass(value):
            annotated[field.name] = Annotated[field.type, _option(described.get(field.name, ""), field.type, value)]
    if not annotated:
        return None
    made: Any = TypedDict(kind.__name__, annotated, total=False)  # pyright: ignore
    made.__doc__ = about_of(kind)
    return made


def _option(described: str, annotation: Any, default: object) -> Any:
    """How a field is shown: its description, and the names of the table that it takes one of."""
    words, metavar = " ".join(described.split()), None
    for part in getattr(annotation, "__metadata__", ()):
        if isinstance(part, Name) and len(part.known) <= SHORT:
            metavar = f"{{{','.join(part.known)}}}"
        elif isinstance(part, Name):
            words, metavar = f"{words.rstrip('.')}: {', '.join(part.known)}.", "NAME"
    return option(help=words, help_behavior_hint=_default(default), metavar=metavar)


def _default(value: object) -> str:
    shown = " ".join(map(str, value)) or "none" if isinstance(value, tuple) else value
    return f"(default: {shown})"


def _unknown(word: str, known: Sequence[str], prog: str, advice: str) -> UserError:
    if not word.startswith("-"):
        return UserError(f"what is {word!r} for? Options begin with --: {prog} --help lists them")
    names = [name.replace("_", "-") for name in known]
    near = get_close_matches(word.partition("=")[0].strip("-").replace("_", "-"), names, n=2, cutoff=0.5)
    hint = f" Did you mean {' or '.join(f'--{name}' for name in near)}?" if near else ""
    return UserError(f"unknown option {word.partition('=')[0]}.{hint} {advice}{prog} --help lists all options")
