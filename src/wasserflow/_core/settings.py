"""Settings: frozen dataclasses whose fields state their types and ranges; what does not fit is refused in one sentence.

Settings may hold groups, which are settings themselves. The names of all fields within one are different, so that a
caller, a flag and an error message need a field's own name only. pydantic does the checks.
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, TypeVar, dataclass_transform, get_args, get_origin

from annotated_types import Ge, Gt, Interval, Le, Lt
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from wasserflow._core.errors import UserError, unknown

__all__ = [
    "Count",
    "Decay",
    "NonNegative",
    "Positive",
    "Share",
    "Whole",
    "leaves",
    "read_settings",
    "settings",
    "with_leaves",
]

Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
Share = Annotated[float, Interval(ge=0, le=1)]
Decay = Annotated[float, Interval(ge=0, lt=1)]
"""A decay rate of a moving average, as Adam's betas are."""
Count = Annotated[int, Gt(0)]
Whole = Annotated[int, Ge(0)]

T = TypeVar("T")
WORDS = {Gt: "above", Ge: "of at least", Lt: "below", Le: "of at most"}


@dataclass_transform(frozen_default=True)
def settings(cls: type[T]) -> type[T]:
    """Make a frozen dataclass that checks its fields; a wrong one raises a `UserError`."""
    made: Any = dataclass(cls, frozen=True, config=ConfigDict(strict=True, allow_inf_nan=False))
    check = made.__init__

    def __init__(self: object, *args: object, **fields: object) -> None:
        try:
            check(self, *args, **fields)
        except ValidationError as error:
            raise _sentence(made, error) from None

    made.__init__ = __init__
    return made


def leaves(of: object) -> dict[str, Any]:
    """The fields of settings and of the groups in them by name, in order."""
    return {name: getattr(group, name) for group, name in _leaves(of)}


def with_leaves(of: T, **changes: object) -> T:
    """The settings with some fields changed, in whichever group they are.

    Raises:
        UserError: If a name is unknown, or a value out of range.
    """
    for name in changes:
        if name not in leaves(of):
            raise unknown("setting", name, leaves(of))
    fields: dict[str, Any] = {}
    for field in dataclasses.fields(of):  # type: ignore[arg-type]
        value = getattr(of, field.name)
        if dataclasses.is_dataclass(value):
            own = {name: changes[name] for name in leaves(value) if name in changes}
            fields |= {field.name: with_leaves(value, **own)} if own else {}
        elif field.name in changes:
            fields[field.name] = changes[field.name]
    return dataclasses.replace(of, **fields)  # type: ignore[type-var]


def read_settings(kind: type[T], record: object, name: str) -> T:
    """Settings from what JSON made of them: every field must be there and of its type.

    Args:
        kind: The settings.
        record: What should be their fields.
        name: How an error message calls the record.

    Raises:
        ValueError: If a field is missing, unknown or of another type; the message names it.
        UserError: If a value is out of range.
    """
    _check_names(kind, record, name)
    try:
        return TypeAdapter(kind).validate_json(json.dumps(record))
    except ValidationError as error:
        raise ValueError(f"{name}: {_sentence(kind, error)}") from None


def _leaves(of: Any) -> Iterator[tuple[object, str]]:
    for field in dataclasses.fields(of):
        value = getattr(of, field.name)
        if dataclasses.is_dataclass(value):
            yield from _leaves(value)
        else:
            yield of, field.name


def _check_names(kind: Any, record: object, name: str) -> None:
    if not isinstance(record, Mapping):
        raise ValueError(f"{name} is {record!r} rather than a table of settings")
    fields = {field.name: field.type for field in dataclasses.fields(kind)}
    for field in sorted(fields.keys() ^ record.keys()):
        raise ValueError(f"{name}.{field} is {'missing' if field in fields else 'unknown to this version'}")
    for field, of in fields.items():
        if dataclasses.is_dataclass(of):
            _check_names(of, record[field], f"{name}.{field}")


def _sentence(kind: Any, error: ValidationError) -> UserError:
    """The first of the errors, in the words of all our messages."""
    first = error.errors()[0]
    place = [part for part in first["loc"] if isinstance(part, str)]
    name, value = place[-1] if place else "the record", first["input"]
    known = {field.name: field for one in _groups(kind) for field in dataclasses.fields(one)}
    if name not in known:
        return UserError(f"{name}: {first['msg']}")
    annotation = known[name].type
    if get_origin(annotation) is Literal:
        return unknown(name.replace("_", " "), value, get_args(annotation))
    if first["type"] in ("greater_than", "greater_than_equal", "less_than", "less_than_equal", "finite_number"):
        whose = f"each of `{name}`" if isinstance(first["loc"][-1], int) else f"`{name}`"
        return UserError(f"{whose} must be a finite number{_range(annotation)}, not {value}")
    return UserError(f"`{name}` must be of type {_type_name(annotation)}, not {value!r}")


def _groups(kind: Any) -> Iterator[Any]:
    yield kind
    for field in dataclasses.fields(kind):
        if dataclasses.is_dataclass(field.type):
            yield from _groups(field.type)


def _range(annotation: Any) -> str:
    """The bounds that an annotation states, its parts' where it is a tuple of them."""
    found = []
    for one in [annotation, *get_args(annotation)]:
        for bound in getattr(one, "__metadata__", ()):
            for part in bound if isinstance(bound, Interval) else (bound,):
                if (words := WORDS.get(type(part))) is not None:
                    found.append(f"{words} {getattr(part, type(part).__name__.lower()):g}")
    return f" {' and '.join(dict.fromkeys(found))}" if found else ""


def _type_name(annotation: Any) -> str:
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type_name(parts[0])
    if origin is tuple:
        return f"tuple[{', '.join('...' if part is Ellipsis else _type_name(part) for part in parts)}]"
    return annotation.__name__ if isinstance(annotation, type) else str(annotation)
