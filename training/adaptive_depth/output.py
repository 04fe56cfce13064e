"""What commands say: text for people, or with ``--json`` one JSON document for programs."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any


def tell(args: argparse.Namespace, text: str, result: Any) -> None:
    """The result of a command, on standard output."""
    print(json.dumps(result) if args.json else text)


def note(args: argparse.Namespace, text: str) -> None:
    """What is no result: with ``--json`` it must not stand before the document."""
    print(text, file=sys.stderr if args.json else sys.stdout)


def tell_failure(message: str, exit_code: int, as_json: bool) -> None:
    """Why a command failed, on standard error."""
    error = {"error": {"exitCode": exit_code, "message": message}}
    print(json.dumps(error) if as_json else f"adaptive-depth: {message}", file=sys.stderr)
