"""A misspelt name is answered with the one that was meant, and nonsense with none."""

import pytest

from wasserflow._core.errors import UserError, check_seed, unknown
from wasserflow.data import NAMES
from wasserflow.method import METHODS


@pytest.mark.parametrize(
    ("known", "written", "meant"),
    [
        (METHODS, "vgan", "vgrow"),
        (METHODS, "dmdm", "dmmd"),
        (METHODS, "monflow", "monoflow"),
        (METHODS, "VGrow", "vgrow"),
        (NAMES, "minst", "mnist"),
        (NAMES, "cifar", "cifar10"),
        (NAMES, "lsun", "lsun-church"),
    ],
)
def test_the_nearest_name_comes_first(known, written, meant):
    assert f"Did you mean {meant}" in str(unknown("name", written, known))


def test_only_the_one_that_was_meant():
    assert "Did you mean vgrow?" in str(unknown("method", "vgan", METHODS))


@pytest.mark.parametrize("nonsense", ["xyzzy", "banana", "q", "", "0", "-", "the quick brown fox"])
def test_nonsense_suggests_nothing(nonsense):
    for known in (METHODS, NAMES):
        assert "Did you mean" not in str(unknown("name", nonsense, known))


def test_a_swap_of_neighbours_is_one_edit():
    assert "Did you mean eabcd or xeacd?" in str(unknown("name", "aebcd", ["xeacd", "zz", "eabcd"]))


@pytest.mark.parametrize("seed", [-1, 2**63, 1.5, "1", None])
def test_bad_seeds(seed):
    with pytest.raises(UserError, match=r"^`seed` must be a whole number"):
        check_seed(seed)
