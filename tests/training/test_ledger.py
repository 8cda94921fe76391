"""The lines of a log: means over the steps since the last line, and over a full window where that line came early."""

import pytest
import torch

from wasserflow.training.budget import Budget, Progress
from wasserflow.training.ledger import Ledger, Line

RNG = torch.Generator().manual_seed(0)


def advance(ledger: Ledger, progress: Progress, values: list[float], seconds: float) -> Line:
    """Take a step of 100 images for each value, in so many seconds together."""
    for value in values:
        ledger.add({"loss": torch.tensor(value)})
    progress.images += 100 * len(values)
    progress.seconds += seconds
    return ledger.line(progress, Budget(images=6000))


def test_a_line_averages_over_the_steps_since_the_last_one():
    progress = Progress()
    ledger = Ledger(progress, 2.0)
    line = advance(ledger, progress, [1.0, 2.0, 6.0], 2.0)
    assert line["loss"] == pytest.approx(3.0)
    assert line["images_per_second"] == pytest.approx(150)
    assert line["seconds_left"] == pytest.approx(38.0)
    line = advance(ledger, progress, [5.0, 7.0], 2.5)
    assert line["loss"] == pytest.approx(6.0)
    assert line["images_per_second"] == pytest.approx(80)


def test_an_early_line_covers_a_full_window():
    progress = Progress()
    ledger = Ledger(progress, 2.0)
    advance(ledger, progress, [100.0], 2.0)
    advance(ledger, progress, [1.0, 1.0, 1.0, 1.0], 2.0)
    early = advance(ledger, progress, [6.0], 0.5)
    assert early["loss"] == pytest.approx(2.0)
    assert early["images_per_second"] == pytest.approx(200)
    assert ledger.since == progress.seconds
    full = advance(ledger, progress, [3.0, 3.0], 2.0)
    assert full["loss"] == pytest.approx(3.0)
    assert full["images_per_second"] == pytest.approx(100)


def test_several_early_lines_do_not_grow_the_window():
    progress = Progress()
    ledger = Ledger(progress, 2.0)
    line = [advance(ledger, progress, [float(value)], 0.25) for value in range(40)][-1]
    assert line["loss"] == pytest.approx(35.5)  # the last two seconds: steps 32 to 39
    assert line["images_per_second"] == pytest.approx(400)


def test_the_last_line_scatters_no_more_than_the_others():
    ends = []
    for _ in range(50):
        progress = Progress()
        ledger = Ledger(progress, 1.0)
        for _ in range(2):
            advance(ledger, progress, torch.randn(100, generator=RNG).tolist(), 1.0)
        ends.append(float(advance(ledger, progress, torch.randn(2, generator=RNG).tolist(), 0.02)["loss"] or 0))
    assert torch.tensor(ends).std() == pytest.approx(0.1, rel=0.35)  # two steps alone: 0.7


def test_a_scalar_that_comes_later_is_averaged_over_its_own_steps():
    progress = Progress()
    ledger = Ledger(progress, 2.0)
    advance(ledger, progress, [1.0], 1.0)
    ledger.add({"loss": torch.tensor(3.0), "new": torch.tensor(5.0)})
    progress.seconds += 0.5
    line = ledger.line(progress, Budget(images=6000))
    assert (line["loss"], line["new"]) == (2.0, 5.0)
