"""Settings: frozen dataclasses whose fields state their types and ranges; what does not fit is refused in one sentence.

Settings may hold groups, which are settings themselves. The names of all fields within one are different, so that a
caller, a flag and an error message need a field's own name only. pydantic does the checks.
"""

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import pairwise
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, dataclass_transform, get_args, get_origin

from annotated_types import Ge, Gt, Interval, Le, Lt
from pydantic import AfterValidator, ConfigDict, GetCoreSchemaHandler, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from pydantic_core import CoreSchema, core_schema

from wasserflow._core.errors import UserError, unknown

__all__ = [
    "Count",
    "Decay",
    "Milestones",
    "Name",
    "NonNegative",
    "Positive",
    "Share",
    "Whole",
    "groups",
    "leaves",
    "read_settings",
    "settings",
    "with_leaves",
]


def _growing(images: tuple[int, ...]) -> tuple[int, ...]:
    if any(a >= b for a, b in pairwise((0, *images))):
        raise ValueError("must be growing numbers of images above 0")
    return images


Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
Share = Annotated[float, Interval(ge=0, le=1)]
Decay = Annotated[float, Interval(ge=0, lt=1)]
"""A decay rate of a moving average, as Adam's betas are."""
Count = Annotated[int, Gt(0)]
Whole = Annotated[int, Ge(0)]
Milestones = Annotated[tuple[int, ...], AfterValidator(_growing)]
"""Numbers of images seen at which something changes, in growing order."""


class Name:
    """Annotates a field that holds a name out of a table, so that its help lists the table.

    Args:
        kind: What the names are of, in an error message.
        known: The names.
        look_up: Raises a `UserError` for a name that cannot be used; by default for one that is not known.
    """

    def __init__(self, kind: str, known: Iterable[str], look_up: Callable[[str], object] | None = None) -> None:
        self.kind = kind
        self.known = tuple(known)
        self.look_up = look_up or self._find

    def _find(self, name: str) -> None:
        if name not in self.known:
            raise unknown(self.kind, name, self.known)

    def _checked(self, name: str) -> str:
        self.look_up(name)
        return name

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._checked, handler(source))


T = TypeVar("T")
WORDS = {Gt: "above", Ge: "of at least", Lt: "below", Le: "of at most"}
OUT_OF_RANGE = (
    "greater_than",
    "greater_than_equal",
    "less_than",
    "less_than_equal",
    "finite_number",
    "value_error",
)


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


def groups(of: Any) -> dict[str, Any]:
    """The settings and the groups in them, by the groups' names; the settings themselves are under ""; none in None."""
    if of is None:
        return {}
    held = {field.name: getattr(of, field.name) for field in dataclasses.fields(of)}
    return {"": of} | {name: value for name, value in held.items() if dataclasses.is_dataclass(value)}


def leaves(of: object) -> dict[str, Any]:
    """The fields of settings and of the groups in them by name, in order; none in None."""
    return {name: getattr(group, name) for group, name in _leaves(of)} if of else {}


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
        first = error.errors()[0]
        if first["type"] in OUT_OF_RANGE:
            raise _sentence(kind, error) from None
        place = [part for part in first["loc"] if isinstance(part, str)]
        value: Any = record
        for part in place:
            value = value[part]
        raise ValueError(f"{'.'.join([name, *place])} is {value!r} rather than {_wanted(kind, place[-1])}") from None


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
    loc, names = first["loc"], [field.name for field in dataclasses.fields(kind)]
    by_position = [names[loc[0]]] if loc and isinstance(loc[0], int) else []
    place = [part for part in loc if isinstance(part, str)] or by_position
    name, value = place[-1] if place else "the record", first["input"]
    annotation = _annotation(kind, name)
    if annotation is None:
        return UserError(f"{name}: {first['msg']}")
    if get_origin(annotation) is Literal:
        return unknown(name.replace("_", " "), value, get_args(annotation))
    if first["type"] == "value_error":
        return UserError(f"`{name}` {first.get('ctx', {}).get('error')}, not {value}")
    if first["type"] in OUT_OF_RANGE:
        return UserError(f"`{name}` must {_range(annotation)}, not {value}")
    return UserError(f"`{name}` must be of type {_type_name(annotation)}, not {value!r}")


def _annotation(kind: Any, name: str) -> Any:
    """The type of a field of settings or of a group in them; None where there is no such field."""
    return {field.name: field.type for one in _groups(kind) for field in dataclasses.fields(one)}.get(name)


def _wanted(kind: Any, name: str) -> str:
    annotation = _annotation(kind, name)
    literal = get_origin(annotation) is Literal
    return f"one of {', '.join(get_args(annotation))}" if literal else _type_name(annotation)


def _groups(kind: Any) -> Iterator[Any]:
    yield kind
    for field in dataclasses.fields(kind):
        if dataclasses.is_dataclass(field.type):
            yield from _groups(field.type)


def _range(annotation: Any) -> str:
    """Where the numbers must lie that an annotation bounds, its parts' where it is a tuple or an optional number."""
    bounds: dict[type, float] = {}
    for one in [annotation, *get_args(annotation)]:
        for bound in getattr(one, "__metadata__", ()):
            for part in bound if isinstance(bound, Interval) else (bound,):
                if type(part) in WORDS:
                    bounds[type(part)] = getattr(part, type(part).__name__.lower())
    ends = tuple(f"{value:g}" for value in bounds.values())
    if set(bounds) == {Ge, Le}:
        return "lie between {} and {}".format(*ends)
    if set(bounds) == {Ge, Lt}:
        return "lie in [{}, {})".format(*ends)
    words = " and ".join(f"{WORDS[kind]} {end}" for kind, end in zip(bounds, ends, strict=True))
    return f"be a finite number {words}".rstrip()


def _type_name(annotation: Any) -> str:
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type_name(parts[0])
    if origin is tuple:
        return f"tuple[{', '.join('...' if part is Ellipsis else _type_name(part) for part in parts)}]"
    if origin in (Union, UnionType):
        return " or ".join(_type_name(part) for part in parts if part is not NoneType)
    return annotation.__name__ if isinstance(annotation, type) else str(annotation)
