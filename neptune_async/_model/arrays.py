"""Arrays and scalars of NumPy, PyTorch and JAX: known by what they have, never imported."""

from __future__ import annotations

from array import array
from typing import Any

_NUMBERS = frozenset({bool, int, float})


def numbers_of(value: object) -> list[Any] | None:
    """Return the numbers of an array of one dimension; None of all else."""
    if not isinstance(value, array) and getattr(value, 'ndim', None) != 1:
        return None
    # Bytes, and a column of pandas, whose index would be lost.
    if isinstance(value, memoryview) or hasattr(value, 'to_dict'):
        return None
    try:
        numbers = value.tolist()  # type: ignore[attr-defined]  # AttributeError is the check
    except Exception:  # of a library that has no numbers for it, as of a sparse tensor
        return None
    are_numbers = isinstance(numbers, list) and {*map(type, numbers)} <= _NUMBERS
    return numbers if are_numbers and not is_time(value) and not is_masked(value) else None


def is_time(value: object) -> bool:
    """Whether a value is a datetime64 or timedelta64, or an array of them.

    Their ``item()`` may be an int of nanoseconds: a number that nobody has meant.
    """
    return getattr(getattr(value, 'dtype', None), 'kind', None) in ('m', 'M')


def is_masked(value: object) -> bool:
    """Whether NumPy has masked a value, of which ``item()`` and ``float()`` make a zero."""
    any_masked = getattr(getattr(value, 'mask', None), 'any', None)
    return callable(any_masked) and bool(any_masked())


def may_be_a_number(value: object) -> bool:
    """Whether ``float()`` would not make a number of a time, a complex number or a text."""
    kind = getattr(getattr(value, 'dtype', None), 'kind', None)
    return not is_time(value) and not is_masked(value) and kind not in ('c', 'S', 'U')
