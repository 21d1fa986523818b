"""The check of an integer argument: which values pass, and how it names one that does not."""

import pytest

from mannkern.integers import check_integer


def test_from_two_to_four_by_hand() -> None:
    for value in (2, 3, 4):
        check_integer("n", value, 2, 4)
    with pytest.raises(ValueError, match=r"^n: got 1, need at least 2$"):
        check_integer("n", 1, 2, 4)
    with pytest.raises(ValueError, match=r"^n: got 5, need at most 4$"):
        check_integer("n", 5, 2, 4)


@pytest.mark.parametrize(("value", "name"), [(1.0, "float"), (True, "bool"), ("1", "str"), (None, "NoneType")])
def test_other_types(value: object, name: str) -> None:
    with pytest.raises(TypeError, match=rf"^n: got {name}, need an integer$"):
        check_integer("n", value)  # type: ignore[arg-type]


def test_a_count_is_at_least_one_and_has_no_upper_end() -> None:
    check_integer("n", 2**70)
    with pytest.raises(ValueError, match=r"^n: got 0, need at least 1$"):
        check_integer("n", 0)
