"""The variables of an open experiment: those that are known, and checks of new ones."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from neptune_async._model import messages
from neptune_async._model.operations import Container, Variable, point_key
from neptune_async._model.paths import is_at_or_below, namespaces_of
from neptune_async._model.values import Content


@dataclass(slots=True)
class Plan:
    """What a write would change; nothing is changed yet.

    :ivar entries: the variables that are written to, in the order of the call.
    :ivar new: those of them that do not exist yet, by path.
    :ivar namespaces: the namespaces above the new variables.
    """

    entries: list[Entry] = field(default_factory=list)
    new: dict[str, Entry] = field(default_factory=dict)
    namespaces: set[str] = field(default_factory=set)


class Variables:
    """The variables that storage has, and those that were enqueued for it; guarded by the
    queue's lock."""

    def __init__(self, experiment: str) -> None:
        self._experiment = experiment
        self._entries: dict[str, Entry] = {}
        # Variables that storage has and no call has named yet: 100,000 rows are read in a
        # fraction of the time that as many entries take to make.
        self._stored: dict[str, Variable] = {}
        self._children: dict[str, int] | None = None
        self._gives_keys = True

    def rename(self, experiment: str) -> None:
        """Take note of the experiment's new name, for errors."""
        self._experiment = experiment

    def load(self, variables: Iterable[Variable]) -> None:
        """Take note of the variables that storage has."""
        self._stored = {
            variable.path: variable for variable in variables if variable.path not in self._entries
        }
        self._children = None

    # ── Lookups ──────────────────────────────────────────────────────────────

    def find(self, path: str) -> Entry | None:
        """Return the entry of a path, which is made if only storage has the variable so far."""
        entry = self._entries.get(path)
        if entry is None:
            stored = self._stored.pop(path, None)
            if stored is not None:
                entry = self._entries[path] = Entry(path, stored.container, stored.content)
                self.announce(entry, stored.id)
        return entry

    def named(self, path: str) -> Entry:
        """Return the entry of a path that a call has named before; ``NO_ENTRY`` if none has."""
        return self._entries.get(path, NO_ENTRY)

    def with_ids(self, ids: Collection[int]) -> list[Entry]:
        """Return the entries that have one of these ids."""
        return [entry for entry in self._entries.values() if entry.id in ids]

    def paths(self) -> list[str]:
        """Return the paths of all variables."""
        return [*self._entries, *self._stored]

    def is_namespace(self, path: str) -> bool:
        """Whether there are variables below a path."""
        return path in self._namespaces()

    # ── What a call may do ───────────────────────────────────────────────────

    def existing(self, path: str, container: Container, method: str) -> Entry:
        """Return the entry that a method needs to be there."""
        entry = self.find(path)
        if entry is None:
            raise messages.variable_not_found(self._experiment, path, self.paths())
        if entry.container != container:
            raise messages.wrong_container(self._experiment, path, entry.container, method)
        return entry

    def plan(
        self, container: Container, contents: Iterable[tuple[str, Content]], method: str
    ) -> Plan:
        """Return what a write of these paths and contents would change.

        :raises ContainerTypeError, ContentTypeError, NamespaceConflictError: one of them cannot be.
        """
        plan = Plan()
        for path, content in contents:
            entry = self.find(path) or plan.new.get(path)
            if entry is None:
                self._refuse_conflict(plan, path)
                entry = plan.new[path] = Entry(path, container, content)
                plan.namespaces.update(namespaces_of(path))
            elif entry.container != container:
                raise messages.wrong_container(self._experiment, path, entry.container, method)
            elif entry.content != content and container != 'atom':
                raise messages.wrong_content(
                    self._experiment, path, container, entry.content, content
                )
            plan.entries.append(entry)
        return plan

    def _refuse_conflict(self, plan: Plan, path: str) -> None:
        if self.is_namespace(path) or path in plan.namespaces:
            raise messages.is_a_namespace(self._experiment, path)
        for namespace in namespaces_of(path):
            if self.find(namespace) or namespace in plan.new:
                raise messages.is_a_variable(self._experiment, path, namespace)

    # ── Changes ──────────────────────────────────────────────────────────────

    def add(self, entries: Mapping[str, Entry]) -> None:
        """Add new entries, by path: the plan is carried out."""
        for path, entry in entries.items():
            self._count_child(path)
            self._entries[path] = entry

    def announce(self, entry: Entry, variable_id: int) -> None:
        """Give an entry the id of which storage was, or is about to be, told."""
        entry.id = variable_id
        if entry.container == 'series' and entry.content == 'float' and self._gives_keys:
            entry.key = point_key(variable_id)

    def withhold_keys(self) -> None:
        """Let every point go through the checks from now on."""
        self._gives_keys = False
        for entry in self._entries.values():
            entry.key = None

    def forget_below(self, path: str) -> list[str]:
        """Forget the variables at and below a path; return the paths of what was there."""
        forgotten = [known for known in self.paths() if is_at_or_below(known, path)]
        for known in forgotten:
            entry = self._entries.pop(known, None)
            if entry is not None:
                entry.forget_id()
            self._stored.pop(known, None)
            self._discount_child(known)
        return forgotten

    def forget_ids(self) -> None:
        """Let the next write to each variable that was named create it in storage again."""
        for entry in self._entries.values():
            entry.forget_id()

    def forget_all_ids(self) -> None:
        """Let the next write to any variable create it in storage again."""
        for path in [*self._stored]:
            self.find(path)
        self.forget_ids()

    # ── Namespaces ───────────────────────────────────────────────────────────

    def _namespaces(self) -> Mapping[str, int]:
        """Return how many children each namespace has; counted when first asked for."""
        if self._children is None:
            self._children = {}
            for path in self.paths():
                self._count_child(path)
        return self._children

    def _count_child(self, path: str) -> None:
        if self._children is None:
            return
        for namespace in namespaces_of(path):
            known = self._children.get(namespace, 0)
            self._children[namespace] = known + 1
            if known:
                return

    def _discount_child(self, path: str) -> None:
        if self._children is None:
            return
        for namespace in namespaces_of(path):
            left = self._children[namespace] - 1
            if left:
                self._children[namespace] = left
                return
            del self._children[namespace]


class Entry:
    """A variable of an open experiment, shared by all views of its path.

    :ivar id: None until a write has the variable created in storage.
    :ivar key: what marks its points in the queue if it is a float series that
        can be logged to without any check; None if not.
    """

    __slots__ = ('container', 'content', 'id', 'key', 'path')

    def __init__(self, path: str, container: Container, content: Content) -> None:
        self.path = path
        self.container: Container = container
        self.content: Content = content
        self.id: int | None = None
        self.key: float | None = None

    @property
    def known_id(self) -> int:
        """The id of a variable that storage was told of."""
        assert self.id is not None
        return self.id

    def variable(self) -> Variable:
        """Return the variable as storage is to know it."""
        return Variable(self.known_id, self.path, self.container, self.content)

    def forget_id(self) -> None:
        """Let the next write create the variable in storage again."""
        self.id = self.key = None


NO_ENTRY = Entry('', 'series', 'float')
"""What a view has while it knows no entry."""
