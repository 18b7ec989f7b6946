from __future__ import annotations

import math
from array import array
from collections.abc import Callable
from struct import pack
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neptune_async._model.operations import (
    AUTOMATIC_STEP,
    POINT,
    POINT_FIELDS,
    AddMembers,
    Assign,
    CreateVariable,
    Delete,
    Part,
    RemoveMembers,
    ResetMembers,
    Rewind,
    TextPoint,
    Variable,
    point_key,
    variable_of,
)

MAX_ID = 2**52 - 1
ids = st.integers(0, MAX_ID)


def part(*operations: Any, points: Any = (), texts: Any = ()) -> Part:
    return Part(1, 'EXP', 0, list(operations), array('d', points), list(texts))


def point(variable_id: int, value: float = 0.5, is_explicit: bool = False) -> list[float]:
    return [point_key(variable_id, is_explicit), AUTOMATIC_STEP, 1.0, value]


def text(variable_id: int, value: str = 'a', is_explicit: bool = False) -> TextPoint:
    return (point_key(variable_id, is_explicit), AUTOMATIC_STEP, 1.0, value)


def creation(variable_id: int, path: str = 'a') -> CreateVariable:
    return CreateVariable(Variable(variable_id, path, 'series', 'float'))


OF_A_VARIABLE: list[Callable[[int], Any]] = [
    lambda owner: Assign(owner, 'int', b'1'),
    lambda owner: AddMembers(owner, (b'1', b'2')),
    lambda owner: RemoveMembers(owner, (b'1',)),
    lambda owner: ResetMembers(owner, 'int', ()),
]


# ── Points ───────────────────────────────────────────────────────────────────


def test_a_point_is_four_floats() -> None:
    assert POINT.size == 8 * POINT_FIELDS == 32
    packed = POINT.pack(point_key(3), AUTOMATIC_STEP, 2.0, 0.5)
    assert packed == array('d', point(3)[:1]).tobytes() + packed[8:16] + pack('=2d', 2.0, 0.5)
    assert math.isnan(array('d', packed)[1])


@given(ids, st.booleans())
def test_a_key_tells_the_variable_and_whether_the_timestamp_was_given(
    variable_id: int, is_explicit: bool
) -> None:
    key = point_key(variable_id, is_explicit)
    assert variable_of(key) == variable_id
    assert bool(int(key) & 1) == is_explicit


def test_the_largest_ids_have_keys_of_their_own() -> None:
    keys = [
        point_key(owner, explicit) for owner in (MAX_ID - 1, MAX_ID) for explicit in (False, True)
    ]
    assert len(set(keys)) == 4


# ── Part.concerns ────────────────────────────────────────────────────────────


@pytest.mark.parametrize('operation', [creation(1), Delete('x'), Rewind('x', 1.0)])
@pytest.mark.parametrize('variable_id', [None, 1, 2])
def test_every_read_waits_for_what_makes_deletes_or_rewinds_variables(
    operation: Any, variable_id: int | None
) -> None:
    assert part(Assign(7, 'int', b'1'), operation).concerns(variable_id)


@pytest.mark.parametrize('make', OF_A_VARIABLE)
def test_a_read_waits_for_operations_on_its_variable_only(make: Callable[[int], Any]) -> None:
    assert part(make(1)).concerns(1)
    assert not part(make(1)).concerns(2)
    assert not part(make(1)).concerns(None)


@pytest.mark.parametrize('is_explicit', [False, True])
def test_a_read_waits_for_points_of_its_variable_only(is_explicit: bool) -> None:
    floats = part(points=point(9) + point(1, is_explicit=is_explicit))
    texts = part(texts=[text(9), text(1, is_explicit=is_explicit)])
    for waiting in (floats, texts):
        assert waiting.concerns(1)
        assert not waiting.concerns(2)
        assert not waiting.concerns(None)


def test_a_read_of_nothing_waits_for_nothing() -> None:
    assert not part().concerns(1)
    assert not part().concerns(None)


@pytest.mark.parametrize('field', [1, 2, 3])
def test_a_step_time_or_value_that_looks_like_a_key_is_none(field: int) -> None:
    look_alike = point(1)
    look_alike[field] = point_key(2)
    assert not part(points=look_alike * 3).concerns(2)
    assert part(points=look_alike * 3 + point(2)).concerns(2)


def test_bytes_that_look_like_a_key_between_two_fields_are_none() -> None:
    wanted = pack('=d', point_key(2))
    raw = bytearray(array('d', point(1)).tobytes())
    for shift in range(1, 24):
        if shift % 8 == 0:
            continue
        look_alike = raw[:8] + bytearray(24)
        look_alike[8 + shift - 8 : 8 + shift] = wanted
        look_alike[:8] = raw[:8]
        look_alike = look_alike[:32]
        points = array('d', bytes(look_alike))
        expected = any(variable_of(points[0]) == 2 for _ in [0])
        assert part(points=points).concerns(2) == expected


@given(st.lists(st.tuples(ids, st.booleans(), st.floats()), max_size=20), ids, st.data())
def test_concerns_agrees_with_a_search_point_by_point(
    rows: list[tuple[int, bool, float]], other: int, data: st.DataObject
) -> None:
    points = [field for owner, explicit, value in rows for field in point(owner, value, explicit)]
    for wanted in {other, *(row[0] for row in rows)}:
        assert part(points=points).concerns(wanted) == any(row[0] == wanted for row in rows)


@given(st.binary(min_size=32, max_size=32 * 6), st.integers(0, 3))
def test_a_key_is_found_only_where_keys_are(raw: bytes, variable_id: int) -> None:
    points = array('d', raw[: len(raw) // 32 * 32])
    keys = {point_key(variable_id), point_key(variable_id, True)}
    wanted = {pack('=d', key) for key in keys}
    expected = any(pack('=d', key) in wanted for key in points[::POINT_FIELDS])
    assert part(points=points).concerns(variable_id) == expected


# ── Part.variable_ids, Part.created_ids ──────────────────────────────────────


def test_a_part_tells_all_variables_that_it_names() -> None:
    named = part(
        creation(1),
        Delete('x'),
        Rewind('x', 1.0),
        *(make(10 + i) for i, make in enumerate(OF_A_VARIABLE)),
        points=point(20) + point(20) + point(21, is_explicit=True),
        texts=[text(30), text(31, is_explicit=True)],
    )
    assert named.variable_ids() == {1, 10, 11, 12, 13, 20, 21, 30, 31}
    assert named.created_ids() == {1}
    assert part().variable_ids() == set()


# ── Part.replace ─────────────────────────────────────────────────────────────


def test_a_variable_gets_another_id_wherever_it_is_named() -> None:
    renamed = part(
        creation(1),
        Delete('x'),
        Rewind('x', 1.0),
        *(make(1) for make in OF_A_VARIABLE),
        *(make(2) for make in OF_A_VARIABLE),
        points=point(1, 0.25) + point(2, 0.5) + point(1, -0.0, is_explicit=True),
        texts=[text(2), text(1, 'b', is_explicit=True)],
    )
    assert renamed.replace({1: 5}) == {}
    assert renamed.operations == [
        creation(5),
        Delete('x'),
        Rewind('x', 1.0),
        *(make(5) for make in OF_A_VARIABLE),
        *(make(2) for make in OF_A_VARIABLE),
    ]
    expected = point(5, 0.25) + point(2, 0.5) + point(5, -0.0, is_explicit=True)
    assert renamed.points.tobytes() == array('d', expected).tobytes()
    assert [(key, value) for key, _, _, value in renamed.texts] == [
        (point_key(2), 'a'),
        (point_key(5, True), 'b'),
    ]


def test_what_names_a_refused_variable_is_removed_and_counted() -> None:
    left = part(
        creation(1),
        *(make(1) for make in OF_A_VARIABLE),
        Assign(2, 'int', b'1'),
        creation(3, 'c'),
        points=point(1) + point(2) + point(3) + point(1),
        texts=[text(1), text(2)],
    )
    # The creation is the library's own, and no operation of the user.
    assert left.replace({1: None, 3: None}) == {1: len(OF_A_VARIABLE) + 3, 3: 1}
    assert left.operations == [Assign(2, 'int', b'1')]
    assert left.points.tobytes() == array('d', point(2)).tobytes()
    assert [value[0] for value in left.texts] == [point_key(2)]
    assert left.variable_ids() == {2}


def test_two_variables_may_change_places() -> None:
    swapped = part(creation(1, 'a'), creation(2, 'b'), points=point(1, 1.0) + point(2, 2.0))
    swapped.replace({1: 2, 2: 1})
    assert swapped.operations == [creation(2, 'a'), creation(1, 'b')]
    assert swapped.points.tobytes() == array('d', point(2, 1.0) + point(1, 2.0)).tobytes()


@given(
    st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.floats()), max_size=20),
    st.dictionaries(st.integers(0, 5), st.none() | st.integers(10, 15)),
)
def test_replace_keeps_the_order_and_the_bits_of_what_is_left(
    rows: list[tuple[int, bool, float]], new_ids: dict[int, int | None]
) -> None:
    changed = part(
        points=[f for owner, explicit, value in rows for f in point(owner, value, explicit)]
    )
    removed = changed.replace(new_ids)
    expected: list[float] = []
    for owner, explicit, value in rows:
        new = new_ids.get(owner, owner)
        if new is not None:
            expected += point(new, value, explicit)
    assert changed.points.tobytes() == array('d', expected).tobytes()
    assert sum(removed.values()) * POINT_FIELDS == len(rows) * POINT_FIELDS - len(expected)
