"""Whatever is accepted reads back as it was, and any order of calls comes to what it should."""

from __future__ import annotations

import struct
from datetime import datetime, timedelta, timezone
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from neptune_async import Experiment
from neptune_async.exceptions import NeptuneAsyncError

# One store for all examples of a test; each example is an experiment of its own.
FEW = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
NAMES = (f'example-{n}' for n in count())

texts = st.text(st.characters(), max_size=20)
floats = st.floats(allow_nan=True, allow_infinity=True, allow_subnormal=True)
zones = st.none() | st.timedeltas(timedelta(hours=-23), timedelta(hours=23)).map(timezone)
datetimes = st.builds(
    lambda time, fold: time.replace(fold=fold),
    st.datetimes(timezones=zones),
    st.integers(0, 1),
)  # fmt: skip
scalars = st.none() | st.booleans() | st.integers() | floats | texts | datetimes
atoms = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4), max_leaves=8)
steps = st.none() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
timestamps = st.none() | st.floats(-1e12, 1e12)


def bits(value: Any) -> Any:
    """Return something that is equal only for what is the same, bit for bit."""
    if isinstance(value, float):
        return ('nan',) if value != value else struct.pack('<d', value)
    if isinstance(value, list):
        return [bits(item) for item in value]
    if isinstance(value, datetime):
        # With an offset the fold has done its work; without one it is part of the value.
        return value.isoformat(), value.fold if value.tzinfo is None else 0
    return type(value), value


@pytest.mark.failure('F42', 'whatever is accepted is read back')
@FEW
@given(values=st.lists(atoms, min_size=1, max_size=5))
def test_atoms(storage: str, values: list[Any]) -> None:
    name = next(NAMES)
    with Experiment(name, storage=storage) as exp:
        for number, value in enumerate(values):
            exp[f'atom/{number}'].assign(value)
        read = [exp[f'atom/{number}'].read() for number in range(len(values))]
        assert bits(read) == bits(values)


@pytest.mark.failure('F42', 'whatever is accepted is read back')
@FEW
@given(
    values=st.one_of(
        st.lists(floats, min_size=1), st.lists(texts, min_size=1), st.lists(datetimes, min_size=1)
    ),
    data=st.data(),
)
def test_series(storage: str, values: list[Any], data: st.DataObject) -> None:
    name = next(NAMES)
    points = [(data.draw(steps), data.draw(timestamps), value) for value in values]
    with Experiment(name, storage=storage) as exp:
        for step, timestamp, value in points:
            exp['series'].log(value, step=step, timestamp=timestamp)
        stored = exp['series'].all(with_steps=True, with_timestamps=True)
    with Experiment(name, storage=storage) as exp:
        assert bits([list(p) for p in exp['series'].all(True, True)]) == bits(
            [list(p) for p in stored]
        )
    largest = None
    for (step, timestamp, value), (read_step, read_time, read_value) in zip(
        points, stored, strict=True
    ):
        # As a float, for 2**53 is the largest step, and has none that is one more.
        expected = step if step is not None else 0 if largest is None else float(largest + 1)
        assert read_step == expected
        largest = expected if largest is None else max(largest, expected)
        assert timestamp is None or bits(read_time) == bits(timestamp)
        assert bits(read_value) == bits(value)


@pytest.mark.failure('F42', 'whatever is accepted is read back')
@FEW
@given(
    members=st.one_of(
        st.sets(st.integers()), st.sets(texts), st.sets(st.booleans()),
        st.sets(st.floats(allow_nan=False)),
    ).filter(bool)
)  # fmt: skip
def test_sets(storage: str, members: set[Any]) -> None:
    with Experiment(next(NAMES), storage=storage) as exp:
        exp['set'].add(*members)
        read = exp['set'].get()
        assert read == members
        assert {type(member) for member in read} == {type(member) for member in members}


PATHS = st.sampled_from(['a', 'a/b', 'a/c', 'd'])


class Calls(RuleBasedStateMachine):
    """Any order of calls, against dicts and lists."""

    storage = ''

    @initialize()
    def open(self) -> None:
        self.name = next(NAMES)
        self.exp = Experiment(self.name, storage=self.storage, flush_interval=60)
        self.model: dict[str, Any] = {}

    def fits(self, path: str, kind: type) -> bool:
        """Whether a write of this kind is to be accepted at a path."""
        if path in self.model:
            return isinstance(self.model[path], kind)
        return not any(
            other.startswith(f'{path}/') or path.startswith(f'{other}/') for other in self.model
        )

    def write(self, path: str, kind: type, call: Any) -> bool:
        fits = self.fits(path, kind)
        try:
            call()
        except NeptuneAsyncError:
            assert not fits
            return False
        assert fits
        return True

    @rule(path=PATHS, value=st.floats(allow_nan=False))
    def log(self, path: str, value: float) -> None:
        if self.write(path, list, lambda: self.exp[path].log(value)):
            self.model.setdefault(path, []).append(value)

    @rule(path=PATHS, values=st.lists(st.floats(allow_nan=False), min_size=1, max_size=5))
    def extend(self, path: str, values: list[float]) -> None:
        if self.write(path, list, lambda: self.exp[path].extend(values)):
            self.model.setdefault(path, []).extend(values)

    @rule(path=PATHS, value=st.integers())
    def assign(self, path: str, value: int) -> None:
        if self.write(path, tuple, lambda: self.exp[path].assign(value)):
            self.model[path] = (value,)

    @rule(path=PATHS, members=st.sets(st.sampled_from('abc'), min_size=1))
    def add(self, path: str, members: set[str]) -> None:
        if self.write(path, set, lambda: self.exp[path].add(*members)):
            self.model.setdefault(path, set()).update(members)

    @rule(path=PATHS, members=st.sets(st.sampled_from('abc')), resets=st.booleans())
    def remove_or_reset(self, path: str, members: set[str], resets: bool) -> None:
        view = self.exp[path]
        try:
            (view.reset if resets else view.remove)(*members)
        except NeptuneAsyncError:
            assert not isinstance(self.model.get(path), set)
        else:
            self.model[path] = set(members) if resets else self.model[path] - members

    @rule(path=PATHS)
    def delete(self, path: str) -> None:
        gone = [other for other in self.model if other == path or other.startswith(f'{path}/')]
        try:
            del self.exp[path]
        except NeptuneAsyncError:
            assert not gone
        for other in gone:
            del self.model[other]

    @rule()
    def flush(self) -> None:
        self.exp.flush()

    @rule()
    def reopen(self) -> None:
        self.exp.close()
        self.exp = Experiment(self.name, storage=self.storage, flush_interval=60)

    @rule()
    def compare(self) -> None:
        for path in ('a', 'a/b', 'a/c', 'd'):
            view = self.exp[path]
            expected = self.model.get(path)
            if isinstance(expected, list):
                assert view.all() == expected
                assert view.tail(2) == expected[-2:]
            elif isinstance(expected, tuple):
                assert (view.read(),) == expected
            elif isinstance(expected, set):
                assert view.get() == expected

    def teardown(self) -> None:
        if hasattr(self, 'exp'):
            self.compare()
            self.exp.close()
            self.exp = Experiment(self.name, storage=self.storage)
            self.compare()
            stats = self.exp.stats()
            assert stats.accepted == stats.committed + stats.pending
            self.exp.close()


def test_any_order_of_calls(storage: str) -> None:
    machine = type('Calls', (Calls,), {'storage': storage})
    machine.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
    machine.TestCase().runTest()
