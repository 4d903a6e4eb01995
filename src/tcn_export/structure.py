"""Does parsed JSON have the form that it must have? Where it has not, say where and how.

A form is a type; None; a `Kind`; a set of words, one of which it must be; ``[form]`` for a
list; ``{key: form}`` for an object with at least these keys, those under `Maybe` excepted;
`Each` for an object with any keys; or a tuple of forms, one of which must fit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Form = Any


@dataclass(frozen=True, slots=True)
class Kind:
    """Values that pass a test; ``name`` says in the message what was expected."""

    name: str
    holds: Callable[[object], bool]


def _is_finite(value: object) -> bool:
    try:
        return isinstance(value, int | float) and math.isfinite(value)
    except OverflowError:  # an integer beyond all floats
        return False


NUMBER = Kind("a finite number", lambda v: _is_finite(v) and not isinstance(v, bool))
ANYTHING = Kind("anything", lambda _: True)
TEXT = Kind("printable text", lambda v: isinstance(v, str) and v.isprintable())


@dataclass(frozen=True, slots=True)
class Each:
    """An object whose every value has one form, under any printable keys."""

    form: Form


@dataclass(frozen=True, slots=True)
class Maybe:
    """The form of a key that may be missing."""

    form: Form


def check(value: object, form: Form, where: str) -> None:
    """Raise `ValueError` where ``value`` does not have the form; ``where`` names it.

    >>> check({"a": [1, "x"]}, {"a": [int]}, "file")
    Traceback (most recent call last):
    ValueError: `file.a[1]` is 'x', expected an int
    """
    if isinstance(form, tuple):
        if not any(_fits(value, one) for one in form):
            check(value, form[-1], where)  # the last form is the one to explain
    elif isinstance(form, list):
        _expect(isinstance(value, list), value, "a list", where)
        for i, entry in enumerate(_list(value)):
            check(entry, form[0], f"{where}[{i}]")
    elif isinstance(form, dict | Each):
        _expect(isinstance(value, dict), value, "an object", where)
        entries = value if isinstance(value, dict) else {}
        for key in entries:
            _expect(TEXT.holds(key), key, "a printable key", where)
        wanted = dict.fromkeys(entries, form.form) if isinstance(form, Each) else form
        _check_entries(entries, wanted, where)
    elif isinstance(form, Kind):
        _expect(form.holds(value), value, form.name, where)
    elif isinstance(form, set):
        words = ", ".join(sorted(form))
        _expect(isinstance(value, str) and value in form, value, f"one of {words}", where)
    else:
        name = "nothing" if form is None else f"{_article(form.__name__)} {form.__name__}"
        _expect(_is(value, form), value, name, where)


def _check_entries(entries: Mapping[Any, Any], wanted: Mapping[str, Form], where: str) -> None:
    for key, form in wanted.items():
        path = f"{where}.{key}" if where else str(key)
        if key not in entries and isinstance(form, Maybe):
            continue
        if key not in entries:
            raise ValueError(f"`{path}` is missing")
        check(entries[key], form.form if isinstance(form, Maybe) else form, path)


def _fits(value: object, form: Form) -> bool:
    try:
        check(value, form, "")
    except ValueError:
        return False
    return True


def _is(value: object, kind: type | None) -> bool:
    if kind is None:
        return value is None
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _expect(holds: bool, value: object, what: str, where: str) -> None:
    if not holds:
        raise ValueError(f"`{where}` is {_short(value)}, expected {what}")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
