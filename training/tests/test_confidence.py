"""Confidence that can be believed, and what a second look gains."""

from __future__ import annotations

import numpy as np
import pytest

from adaptive_depth.calibrate import most_accurate
from adaptive_depth.confidence import (
    CalibrationError,
    calibrate,
    calibration_error,
    cascades,
    confidence,
    measure,
    second_look,
)
from adaptive_depth.data import Split


def answers(count: int, sharpness: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits of ten classes whose labels are drawn from their softmax, then sharpened."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (count, 10))
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = np.array([rng.choice(10, p=row) for row in shares])
    return logits * sharpness, labels


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
def test_the_temperature_undoes_what_sharpened_the_logits(sharpness: float):
    found = calibrate(*answers(4000, sharpness))
    assert found.temperature == pytest.approx(sharpness, rel=0.1)
    assert found.after < 0.03
    if sharpness != 1.0:
        assert found.before > 2 * found.after


def test_the_calibration_error_is_the_gap_between_confidence_and_accuracy():
    right = np.array([True] * 5 + [False] * 5)
    assert calibration_error(np.full(10, 0.8), right) == pytest.approx(0.3, abs=1e-4)


def test_confidence_is_the_largest_probability_at_that_temperature():
    logits = np.log([[0.64, 0.16, 0.2]])
    assert confidence(logits)[0] == pytest.approx(0.64)
    assert confidence(logits, 2.0)[0] == pytest.approx(0.8 / (0.8 + 0.4 + 0.2**0.5))


def test_gains_fall_with_confidence_and_shares_add_up():
    rng = np.random.default_rng(1)
    sure = rng.random(1000)
    first, second = rng.random(1000) < sure, rng.random(1000) < 0.9
    look = second_look(("TT", "FF"), sure, first, second)
    gains = [b.second - b.first for b in look.bins]
    assert gains == sorted(gains, reverse=True)
    assert sum(b.share for b in look.bins) == pytest.approx(1, abs=1e-3)
    assert [b.below for b in look.bins] == sorted(b.below for b in look.bins)
    assert look.bins[-1].below == 1
    right = sum(b.share * b.first for b in look.bins)
    assert right == pytest.approx(first.mean(), abs=1e-3)


def test_a_cascade_looks_again_at_the_least_sure():
    sure = np.array([0.2, 0.4, 0.9, 1.0])
    first, second = np.array([False, False, True, True]), np.array([True, True, False, True])
    look = {"first": "T", "second": "F", "bins": [{"below": 0.3}, {"below": 0.5}, {"below": 1}]}
    one, two = cascades(look, sure, first, second)
    assert (one.share, one.top1) == (0.25, 0.75)
    assert (two.share, two.top1) == (0.5, 1.0)


def test_the_manifest_gets_a_table_for_each_pair_that_gains():
    labels = np.random.default_rng(2).integers(0, 10, 400)
    images = np.zeros((400, 2, 2, 3), np.uint8)
    images[:, 0, 0, 0] = labels
    images[:, 0, 0, 1] = np.arange(400) % 4 == 0  # hard ones, which the base-net gets wrong

    def logits(batch: np.ndarray, skip: tuple[bool, ...]) -> np.ndarray:
        out = np.zeros((len(batch), 10), np.float32)
        hard = batch[:, 0, 0, 1] == 1
        out[np.arange(len(batch)), batch[:, 0, 0, 0]] = np.where(hard, 1, 4)
        if skip[0]:
            out[hard] = np.roll(out[hard], 1, axis=1)
        return out

    found = measure(logits, 1, Split(images, labels), "val")
    assert set(found["temperatures"]) == {"F", "T"}
    (look,) = found["secondLooks"]
    assert (look["first"], look["second"]) == ("T", "F")
    assert look["bins"][0] == {
        "below": look["bins"][0]["below"],
        "share": 0.25,
        "first": 0,
        "second": 1,
    }


def test_the_most_accurate_looks_again_and_not_always_the_super_net():
    labels = np.random.default_rng(3).integers(0, 10, 400)
    images = np.zeros((400, 1, 1, 3), np.uint8)
    images[:, 0, 0, 0] = labels
    images[:, 0, 0, 1] = np.arange(400) % 4

    def logits(batch: np.ndarray, skip: tuple[bool, ...]) -> np.ndarray:
        out = np.zeros((len(batch), 10), np.float32)
        wrong = batch[:, 0, 0, 1] == 1 if skip != (True, False) else np.zeros(len(batch), bool)
        out[np.arange(len(batch)), batch[:, 0, 0, 0]] = np.where(wrong, 1, 4)
        out[wrong] = np.roll(out[wrong], 1, axis=1)
        return out

    found = measure(logits, 2, Split(images, labels), "val", "TF")
    assert [look["first"] for look in found["secondLooks"]] == ["FF", "FT", "TT"]
    assert {look["second"] for look in found["secondLooks"]} == {"TF"}


def test_the_most_accurate_is_the_cheapest_of_equals():
    def entry(skip: str, top1: float | None, macs: int) -> dict[str, object]:
        return {"skip": skip, "top1": top1, "macs": macs}

    tied = [entry("FF", 0.9, 9), entry("TF", 0.91, 7), entry("FT", 0.91, 6), entry("TT", None, 4)]
    assert most_accurate(tied) == "FT"
    assert most_accurate([entry("F", None, 2), entry("T", None, 1)]) is None


def test_too_few_images_say_so():
    few = Split(np.zeros((10, 1, 1, 3), np.uint8), np.zeros(10, np.int64))
    with pytest.raises(CalibrationError, match="at least 100"):
        measure(lambda images, skip: np.zeros((len(images), 2)), 1, few, "val")
