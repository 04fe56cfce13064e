"""Command-line options made of configuration classes: each setting is described once.

A field made by `setting` becomes an option of its name; fields without a help text become
none. A recipe file names settings as the fields are called.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection, Mapping
from dataclasses import MISSING, Field, field, fields
from typing import Any


def setting(default: Any, help: str, choices: Collection[str] = (), called: str = "") -> Any:
    """A field of a dataclass that is an option, too.

    Args:
        default: a list gives an option that takes numbers with commas between them.
        called: the option's name, where it is not the field's.
    """
    known = {"help": help, "choices": choices, "called": called}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=known)
    return field(default=default, metadata=known)


def numbers(text: str) -> list[int]:
    """``1,2,3``"""
    return [int(part) for part in text.split(",")]


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text}: at least 1 expected")
    return number


def add_options(
    parser: argparse._ActionsContainer,
    config: type,
    defaults: Mapping[str, Any] | None = None,
    leave_out: Collection[str] = (),
) -> None:
    """Adds an option for each setting of the dataclass `config`.

    Args:
        defaults: in place of the class's own, by the fields' names.
    """
    for own in _settings(config, leave_out):
        usual = _default(own)
        default = (defaults or {}).get(own.name, usual)
        name = "--" + _name(own).replace("_", "-")
        about = {"help": own.metadata["help"], "default": default, "dest": _name(own)}
        if isinstance(usual, bool):
            parser.add_argument(name, action=argparse.BooleanOptionalAction, **about)
        elif isinstance(usual, list):
            parser.add_argument(name, type=numbers, metavar="N,N,...", **about)
        else:
            choices = own.metadata["choices"] or None
            kind = str if usual is None else type(usual)
            parser.add_argument(name, type=kind, choices=choices, **about)


def read_options(args: argparse.Namespace, config: type, **fixed: Any) -> Any:
    """The `config` that the options give; `fixed` are fields that are no options here."""
    given = {
        own.name: getattr(args, _name(own))
        for own in _settings(config, fixed)
        if hasattr(args, _name(own))
    }
    return config(**given, **fixed)


def _settings(config: type, leave_out: Collection[str]) -> list[Field[Any]]:
    return [own for own in fields(config) if own.metadata and own.name not in leave_out]


def _name(own: Field[Any]) -> str:
    return own.metadata["called"] or own.name


def _default(own: Field[Any]) -> Any:
    return own.default if own.default_factory is MISSING else own.default_factory()
