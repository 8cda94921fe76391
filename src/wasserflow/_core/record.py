"""Whether settings are of their fields' types: a caller's, and what a run's ``config.json`` says."""

import dataclasses
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from wasserflow._core.errors import UserError, unknown

__all__ = ["check_types", "read_as"]

T = TypeVar("T")


def read_as(kind: type[T], record: object, name: str) -> T:
    """A dataclass from what JSON made of it: lists become tuples, every field must be there and of its type.

    Args:
        kind: The dataclass.
        record: What should be its fields.
        name: How an error message calls it.

    Raises:
        ValueError: If a field is missing, unknown or of another type; the message names it.
    """
    if not isinstance(record, Mapping):
        raise ValueError(f"{name} is {record!r} rather than a table of settings")
    hints = get_type_hints(kind)
    fields = {field.name: hints[field.name] for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for field in sorted(fields.keys() ^ record.keys()):
        raise ValueError(f"{name}.{field} is {'missing' if field in fields else 'unknown to this version'}")
    values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in record.items()}
    for field, value in values.items():
        if not _fits(value, fields[field]):
            raise ValueError(f"{name}.{field} is {record[field]!r}, which is of the wrong type")
    return kind(**values)


def check_types(settings: Any) -> None:
    """Raise a `UserError` unless every field of a dataclass is of its type, which the run's record needs.

    Whole numbers in a tuple of floats become floats, as optimisers want them.
    """
    hints = get_type_hints(type(settings))
    for field in dataclasses.fields(settings):
        value, kind = getattr(settings, field.name), hints[field.name]
        if get_origin(kind) is Literal and value not in get_args(kind):
            raise unknown(field.name.replace("_", " "), value, get_args(kind))
        if not _fits(value, kind):
            kind = getattr(kind, "__name__", None) if get_origin(kind) is None else str(kind)
            raise UserError(f"--{field.name.replace('_', '-')} must be of type {kind}, not {value!r}")
        if get_origin(kind) is tuple and get_args(kind)[0] is float:
            object.__setattr__(settings, field.name, tuple(map(float, value)))


def _fits(value: object, kind: Any) -> bool:
    """Whether a value is of a type, as far as the fields of dataclasses use types."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        return value in inner
    if origin is UnionType:
        return any(_fits(value, one) for one in inner)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        kinds = inner[:1] * len(value) if inner[-1] is Ellipsis else inner
        return len(kinds) == len(value) and all(map(_fits, value, kinds))
    if kind is NoneType:
        return value is None
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is kind
