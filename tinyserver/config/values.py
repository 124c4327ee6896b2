"""Settings as fields of dataclasses, and how a TOML table becomes such a dataclass.

Sizes are written like ``"50 MiB"`` and held in bytes; durations like ``"1h"`` and held in seconds.
"""

import re
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")

Bytes = Annotated[int, "size"]


@dataclass(frozen=True, slots=True)
class Portion:
    """A number of bytes, or a share (0 to 1) of what there is."""

    size: int | None = None
    share: float | None = None


SizeOrShare = Annotated[Portion, "size or share"]
Seconds = Annotated[float, "duration"]

_SIZE_UNITS = {"B": 1, "KB": 1000, "MB": 1000**2, "GB": 1000**3, "KIB": 1024, "MIB": 1024**2, "GIB": 1024**3}
_DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


class ConfigError(Exception):
    """The configuration cannot be used; the message names the key and says what to do."""


def setting(doc: str, default: Any = MISSING, **options: Any) -> Any:
    """A dataclass field with its documentation; without a default the key is required."""
    if default is MISSING and "default_factory" not in options:
        return field(metadata={"doc": doc})
    if default is MISSING:
        return field(metadata={"doc": doc}, **options)
    return field(default=default, metadata={"doc": doc})


def key_of(setting_field: Field[Any]) -> str:
    """The key of a field in the file; it is the field's name unless that is a word of Python."""
    key: str = setting_field.metadata.get("key", setting_field.name)
    return key


def read_section(section: type[T], values: Mapping[str, Any], prefix: str) -> T:
    """An instance of a dataclass from a TOML table; ``prefix`` is the table's name with a dot. Raises ConfigError."""
    known = {key_of(each): each for each in fields(section)}  # type: ignore[arg-type]
    types = get_type_hints(section, include_extras=True)
    for key in values:
        if key not in known:
            raise ConfigError(_unknown_key(prefix + key, key, known, prefix))
    arguments = {}
    for key, each in known.items():
        if key in values:
            arguments[each.name] = _value(types[each.name], values[key], prefix + key, each)
        elif each.default is MISSING and each.default_factory is MISSING:
            raise ConfigError(f'the key "{prefix}{key}" is missing. It says: {each.metadata["doc"]}')
    return section(**arguments)


def _unknown_key(full: str, key: str, known: Mapping[str, Field[Any]], prefix: str) -> str:
    # Only a wrong configuration needs it.
    from difflib import get_close_matches

    near = get_close_matches(key.replace("-", "_"), known, n=1, cutoff=0.5)
    if not near:
        return f'there is no key "{full}". Known here: {", ".join(known)}. See docs/configuration.md.'
    doc = known[near[0]].metadata["doc"]
    return f'there is no key "{full}". Is "{prefix}{near[0]}" meant? {doc}'.rstrip()


def _value(annotation: Any, value: Any, key: str, each: Field[Any]) -> Any:
    """A TOML value as the field's type."""
    if get_origin(annotation) is Annotated:
        return _quantity(get_args(annotation)[1], value, key)
    if get_origin(annotation) is tuple:
        if not isinstance(value, list):
            raise ConfigError(f'"{key}" must be a list, such as {_example(each)}.')
        element = get_args(annotation)[0]
        return tuple(_value(element, item, f"{key}[{index}]", each) for index, item in enumerate(value))
    if get_origin(annotation) is Literal:
        choices = get_args(annotation)
        if value not in choices:
            raise ConfigError(f'"{key}" must be one of {", ".join(map(repr, choices))}, not {value!r}.')
        return value
    if is_dataclass(annotation):
        if not isinstance(value, dict):
            raise ConfigError(f'"{key}" must be a table of keys and values.')
        return read_section(annotation, value, f"{key}.")  # type: ignore[arg-type]
    return _plain(annotation, value, key)


def _plain(annotation: Any, value: Any, key: str) -> Any:
    accepted: dict[Any, Any] = {str: str, Path: str, int: int, float: (int, float), bool: bool}
    names = {
        str: "text in quotes",
        Path: "a path in quotes",
        int: "a whole number",
        float: "a number",
        bool: "true or false",
    }
    if not isinstance(value, accepted[annotation]) or (isinstance(value, bool) and annotation is not bool):
        raise ConfigError(f'"{key}" must be {names[annotation]}, not {value!r}.')
    if annotation in (int, float) and value < 0:
        raise ConfigError(f'"{key}" must not be negative.')
    return Path(value) if annotation is Path else annotation(value)


def _quantity(kind: str, value: Any, key: str) -> int | float | Portion:
    """A size in bytes, a duration in seconds, or a portion."""
    if kind == "size":
        return _size(value, key)
    if kind == "size or share":
        return _portion(value, key)
    number, unit = _measured(value)
    if unit not in _DURATION_UNITS:
        raise ConfigError(
            f'"{key}" must be a duration such as "90s" or "1h" (units: ms, s, m, h, d, w), not {value!r}.'
        )
    return number * _DURATION_UNITS[unit]


def _size(value: Any, key: str) -> int:
    number, unit = _measured(value)
    if unit.upper() not in _SIZE_UNITS:
        raise ConfigError(f'"{key}" must be a size such as "50 MiB" (units: B, KiB, MiB, GiB), not {value!r}.')
    return int(number * _SIZE_UNITS[unit.upper()])


def _portion(value: Any, key: str) -> Portion:
    number, unit = _measured(value)
    if unit == "%" and number <= 100:
        return Portion(share=number / 100)
    try:
        return Portion(size=_size(value, key))
    except ConfigError as error:
        raise ConfigError(f'"{key}" must be a size such as "2 GiB" or a share such as "20%", not {value!r}.') from error


def _measured(value: Any) -> tuple[float, str]:
    """A number and its unit; (0, "") for what is no such text."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+|%)\s*", value) if isinstance(value, str) else None
    return (float(found[1]), found[2]) if found else (0.0, "")


def _example(each: Field[Any]) -> str:
    return str(list(each.default)) if isinstance(each.default, tuple) and each.default else '["..."]'
