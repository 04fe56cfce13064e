"""Statistics, against values worked by hand or published."""

from __future__ import annotations

import numpy as np
import pytest

from adaptive_depth.stats import compare_paired, pareto_front, wilson_interval


@pytest.mark.parametrize(
    ("correct", "total", "low", "high"),
    [
        # 8/10: centre (0.8 + 3.8415/20) / 1.38415 = 0.71674, half width 0.22657.
        (8, 10, 0.49016, 0.94332),
        # 0/n: 0 to z^2 / (n + z^2).
        (0, 10, 0.0, 3.841459 / 13.841459),
        (10, 10, 10 / 13.841459, 1.0),
        (9200, 10_000, 0.91452, 0.92516),
    ],
)
def test_wilson_interval(correct: int, total: int, low: float, high: float):
    assert wilson_interval(correct, total) == pytest.approx((low, high), abs=1e-5)


@pytest.mark.parametrize(("correct", "total"), [(0, 0), (3, 2), (-1, 2)])
def test_wilson_interval_refuses_what_is_no_proportion(correct: int, total: int):
    with pytest.raises(ValueError, match="not a proportion"):
        wilson_interval(correct, total)


def answers(both: int, only_first: int, only_second: int, neither: int):
    first = [True] * (both + only_first) + [False] * (only_second + neither)
    second = [True] * both + [False] * only_first + [True] * only_second + [False] * neither
    return np.array(first), np.array(second)


def test_paired_comparison_worked_by_hand():
    result = compare_paired(*answers(both=80, only_first=1, only_second=8, neither=11))
    assert (result.only_first, result.only_second) == (1, 8)
    assert result.difference == pytest.approx(0.07)
    # Twice P(X <= 1) of Binomial(9, 1/2): 2 (1 + 9) / 512.
    assert result.p_value == pytest.approx(20 / 512)
    # 1.96 sqrt(1 + 8 - 7^2/100) / 100.
    assert result.interval == pytest.approx((0.07 - 0.05718, 0.07 + 0.05718), abs=1e-5)


def test_agreement_is_no_difference():
    result = compare_paired(*answers(both=5, only_first=0, only_second=0, neither=5))
    assert (result.difference, result.interval, result.p_value) == (0.0, (0.0, 0.0), 1.0)


def test_equal_disagreement_is_no_difference():
    assert compare_paired(*answers(0, 5, 5, 0)).p_value == 1.0


def test_thousands_of_images_are_no_problem():
    assert 0 < compare_paired(*answers(0, 4000, 6000, 0)).p_value < 1e-80


def test_pareto_front_worked_by_hand():
    costs = [5, 1, 3, 3, 4, 2]
    gains = [9, 1, 4, 5, 5, 1]
    # (2, 1) gains no more than (1, 1); (3, 4) and (4, 5) no more than (3, 5).
    assert pareto_front(costs, gains) == [1, 3, 0]


def test_of_identical_points_one_is_on_the_front():
    assert pareto_front([1, 1], [2, 2]) == [0]


def test_a_cheap_and_accurate_point_is_the_whole_front():
    assert pareto_front([3, 1, 2], [0.5, 0.9, 0.7]) == [1]
