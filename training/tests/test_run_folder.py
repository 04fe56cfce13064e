"""What a run's folder tells of how it was trained."""

from __future__ import annotations

import pytest

from adaptive_depth.run_folder import typed_option


@pytest.mark.parametrize(
    ("command", "typed"),
    [
        ("a --seed 7 b", "7"),
        ("a --seed=7", "7"),
        ("a --seed 6 --seed=7", "7"),
        ("a --seed", None),
        ("a --seeds 7", None),
    ],
)
def test_an_option_is_found_where_it_was_typed(command: str, typed: str | None):
    assert typed_option(command, "--seed") == typed
