"""Taking rows of files into a store, each once, however often that is interrupted and begun anew.

Rows become batches, and a batch is stored in one transaction with the mark
that it is there. The mark is the batch's writer and number, which storage keeps
for every batch: the writer is drawn from what is in the file, the experiment, and the row
that the batch begins with; the number is twice that of the row after its last. So
the next attempt follows the marks to where the last one came, however the
rows were divided. (Twice: of two attempts that run at once and divide
differently, the second must not take its batch for the one that follows.)
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from neptune_async._engine.queueing.variable_ids import VariableIds
from neptune_async._engine.store import Store
from neptune_async._engine.storing.uploads import discard_files
from neptune_async._model.operations import Batch, Variable
from neptune_async._model.paths import checked_name, namespaces_of
from neptune_async._storage.base import ExperimentRecord
from neptune_async._transfer.imported_files import FileBeside, FileKeeper
from neptune_async._transfer.row_operations import Draft
from neptune_async.exceptions import InvalidNameError, StorageError, StorageFormatError
from neptune_async.files import FileReference

BATCH_ROWS = 2**15
"""Rows that are stored at a time, at most: what is lost by a kill is read again."""

_REASONS = 1000
"""Reasons that are kept of what is refused: each may have a line or a step in it."""
_LATEST = 253_402_300_800.0
"""The end of the year 9999, in seconds since the epoch: what is later is no time."""

Run = TypeVar('Run', bound=Hashable)
Item = TypeVar('Item')


@dataclass(frozen=True, slots=True)
class Rows(Generic[Run]):
    """Rows of a file that follow each other and are of one run, not converted yet.

    :ivar kinds: how many there are of each kind, by the words of the file.
    :ivar fill: adds the rows from one index up to another to a draft.
    """

    run: Run
    count: int
    kinds: Mapping[str, int]
    fill: Callable[[Draft, int, int], None]


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something in a file that is no row of a run, and is only told.

    :ivar has_no_form: it can be read, but is of a kind that has no form here.
    """

    why: str
    has_no_form: bool = False


class RowFile(Protocol[Run]):
    """A file of rows. Read twice, it yields the same rows in the same order."""

    @property
    def identity(self) -> bytes:
        """What tells it from other files, wherever it is."""

    def read(self) -> Iterator[Rows[Run] | Skipped]:
        """Yield its rows, at most ``BATCH_ROWS`` at a time.

        :raises StorageFormatError: it is damaged from there on.
        """


@dataclass(slots=True)
class Report:
    """What an import came to.

    :ivar read: how many rows there are in the files.
    :ivar stored: how many of them were stored by this import.
    :ivar known: how many were there already, from an import that was interrupted or complete.
    :ivar kinds: how many rows there are of each kind.
    :ivar refused: how many rows could not be stored, by this import or before, by what is to be
        said of them.
    :ivar left_out: how many rows are of a kind that has no form here, likewise.
    :ivar notes: how many were stored and are not quite as they were, or as we have it, by what is
        to be said of them.
    """

    read: int = 0
    stored: int = 0
    known: int = 0
    experiments: set[str] = field(default_factory=set)
    kinds: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    damaged: list[str] = field(default_factory=list)

    def skip(self, skipped: Skipped) -> None:
        """Count what is no row."""
        self.read += 1
        _count(self.left_out if skipped.has_no_form else self.refused, skipped.why, 1)


@dataclass(slots=True)
class _Target:
    """An experiment that rows go to.

    :ivar seen: how many rows of the file were met.
    :ivar stored: how many of them are stored.
    """

    experiment: ExperimentRecord
    seen: int = 0
    stored: int = 0


class Importer(Generic[Run]):
    """Takes files into a store.

    :param name_of: gives the name of the experiment for a run.
    :param created_of: gives the time at which a run was begun, if that is known.
    :param on_rows: told of rows as they are done with.
    """

    def __init__(
        self,
        store: Store,
        name_of: Callable[[Run], str],
        on_rows: Callable[[int], object],
        created_of: Callable[[Run], float | None] = lambda _: None,
    ) -> None:
        self.report = Report()
        self._store = store
        self._name_of = name_of
        self._on_rows = on_rows
        self._created_of = created_of
        self._draw = VariableIds().draw
        self._files = FileKeeper(store)
        self._known_of: tuple[int, dict[str, Variable]] = (0, {})
        self._refused: dict[Run, str] = {}
        self._touched: set[int] = set()

    def take(self, files: Sequence[RowFile[Run]]) -> None:
        """Store what is in files that were not stored yet; files of a run follow each other.

        :raises StorageError: the store fails. What was stored is stored, and left out next time.
        """
        met: dict[int, ExperimentRecord] = {}
        for file in files:
            targets: dict[Run, _Target] = {}
            for rows in self._read(file):
                if isinstance(rows, Skipped):
                    self.report.skip(rows)
                    self._on_rows(1)
                    continue
                self.report.read += rows.count
                self.report.kinds.update(rows.kinds)
                target = self._target(file, files, rows.run, targets)
                if target is None:
                    self.report.refused[self._refused[rows.run]] += rows.count
                else:
                    self._take(file, rows, target)
                self._on_rows(rows.count)
            met.update((target.experiment.id, target.experiment) for target in targets.values())
        if self._touched:
            self._store.tidy()
        for experiment in met.values():
            self._note_namespaces(experiment)

    def _read(self, file: RowFile[Run]) -> Iterator[Rows[Run] | Skipped]:
        """Yield the rows of a file; one that is damaged keeps no other from being taken in."""
        try:
            yield from file.read()
        except StorageFormatError as damage:
            self.report.damaged.append(str(damage))

    def _target(
        self,
        file: RowFile[Run],
        files: Sequence[RowFile[Run]],
        run: Run,
        targets: dict[Run, _Target],
    ) -> _Target | None:
        if run not in targets and run not in self._refused:
            try:
                name = checked_name(self._name_of(run))
                experiment = self._store.make(name, self._created(run))
                self._require_own(experiment, files)
            except InvalidNameError as error:
                self._refused[run] = str(error)
                return None
            targets[run] = _Target(experiment, stored=self._progress(file, experiment))
            self.report.experiments.add(experiment.name)
        return targets.get(run)

    def _created(self, run: Run) -> float | None:
        created = self._created_of(run)
        is_in_calendar = created is not None and 0 < created < _LATEST
        return created if is_in_calendar else None

    def _require_own(self, experiment: ExperimentRecord, files: Sequence[RowFile[Run]]) -> None:
        """Refuse an experiment that something else has filled: rows would be there twice.

        :raises InvalidNameError: that is so.
        """
        if experiment.id in self._touched or not self._variables(experiment):
            return
        if not any(self._mark(file, experiment, 0) for file in files):
            raise InvalidNameError(
                f'there is an experiment {experiment.name!r} already, and it is not from these '
                'files; delete it, or import with --prefix'
            )

    def _progress(self, file: RowFile[Run], experiment: ExperimentRecord) -> int:
        """Return how many rows of an experiment in a file are stored."""
        row = 0
        while end := self._mark(file, experiment, row):
            row = end
        return row

    def _mark(self, file: RowFile[Run], experiment: ExperimentRecord, row: int) -> int:
        """Return the row after the last of the stored batch that begins with a row; 0 if none."""
        writer = _writer(file, experiment, row)
        return self._store.ask(lambda storage: storage.last_batch(writer)) // 2

    def _take(self, file: RowFile[Run], rows: Rows[Run], target: _Target) -> None:
        skip = min(rows.count, target.stored - target.seen)
        target.seen += rows.count
        if skip:
            # Only to tell what was refused: each time, since it still is not there.
            draft = self._draft(rows, target.experiment, 0, skip, self._files.find)
            self.report.known += skip - self._absent(draft)
        if skip < rows.count:
            draft = self._draft(rows, target.experiment, skip, rows.count, self._files.keep)
            self._store_draft(file, draft, target)
            self.report.stored += rows.count - skip - self._absent(draft)

    def _draft(
        self,
        rows: Rows[Run],
        experiment: ExperimentRecord,
        start: int,
        stop: int,
        keep: Callable[[FileBeside], FileReference],
    ) -> Draft:
        known = self._variables(experiment)
        draft = Draft(experiment.id, experiment.name, known, self._draw, keep)
        rows.fill(draft, start, stop)
        return draft

    def _store_draft(self, file: RowFile[Run], draft: Draft, target: _Target) -> None:
        experiment = target.experiment
        writer = _writer(file, experiment, target.stored)
        part = draft.part()
        part.pending = self._files.taken()
        try:
            receipt = self._store.store(Batch(writer, 2 * target.seen, [part]))
        finally:
            discard_files(part)
        record = receipt.experiments.get(experiment.id)
        if record is not None and record.id != experiment.id:
            raise StorageError(
                f'experiment {experiment.name!r} was deleted while it was imported; import again'
            )
        for rejection in receipt.rejections:
            draft.refuse(rejection.path, rejection.reason, rejection.count)
        self._touched.add(experiment.id)
        target.stored = target.seen

    def _absent(self, draft: Draft) -> int:
        """Report what is to be said of a draft's rows; return how many of them are not stored."""
        for reason, count in draft.refused.items():
            _count(self.report.refused, reason, count)
        self.report.left_out.update(draft.left_out)
        self.report.notes.update(draft.notes)
        return draft.refused.total() + draft.left_out.total()

    def _note_namespaces(self, experiment: ExperimentRecord) -> None:
        """Tell of variables that are namespaces, too, which others allow."""
        found = self._store.ask(lambda storage: storage.list_variables(experiment.id, None))
        paths = {variable.path for variable in found}
        namespaces = {namespace for path in paths for namespace in namespaces_of(path)}
        for path in sorted(paths & namespaces):
            self.report.notes[
                f'{experiment.name}: {path!r} is a variable and a namespace, and is kept as both'
            ] += 1

    def _variables(self, experiment: ExperimentRecord) -> dict[str, Variable]:
        experiment_id, known = self._known_of
        if experiment_id != experiment.id:
            found = self._store.ask(lambda storage: storage.list_variables(experiment.id, None))
            known = {variable.path: variable for variable in found}
            self._known_of = (experiment.id, known)
        return known


def _count(reasons: Counter[str], reason: str, count: int) -> None:
    is_room = reason in reasons or len(reasons) < _REASONS
    reasons[reason if is_room else 'others, which are not told one by one'] += count


def in_batches(
    items: Iterable[Item | Skipped], run_of: Callable[[Item], object]
) -> Iterator[list[Item] | Skipped]:
    """Yield items of one run that follow each other, ``BATCH_ROWS`` at most.

    :raises StorageFormatError: as the items do; what comes before that was yielded.
    """
    batch: list[Item] = []
    try:
        for item in items:
            if isinstance(item, Skipped):
                yield item
                continue
            if batch and (len(batch) == BATCH_ROWS or run_of(item) != run_of(batch[0])):
                yield batch
                batch = []
            batch.append(item)
    except StorageFormatError:
        if batch:
            yield batch
        raise
    if batch:
        yield batch


def _writer(file: RowFile[Run], experiment: ExperimentRecord, row: int) -> bytes:
    """Return the writer of the batch that begins with a row."""
    place = f'{experiment.id} {row}'.encode()
    return hashlib.blake2b(file.identity + place, digest_size=16).digest()


def content_digest(path: Path) -> bytes:
    """Return the digest of what is in a file."""
    digest = hashlib.blake2b(digest_size=32)
    with path.open('rb') as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.digest()
