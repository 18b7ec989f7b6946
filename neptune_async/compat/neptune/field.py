"""What is at a path of a run, as far as all that is done with it needs."""

from __future__ import annotations

from typing import Any, Generic, Protocol, TypeVar

from neptune_async import Experiment, ExperimentView, Set
from neptune_async.exceptions import ContainerTypeError


class Owner(Protocol):
    """The run that a field is of, as far as the field needs it."""

    @property
    def experiment(self) -> Experiment: ...

    def warn_once(self, what: str, warning: str) -> None: ...

    def _wrote(self, wait: bool = False) -> None: ...

    def _values_below(self, path: str) -> dict[str, Any]: ...


R = TypeVar('R', bound=Owner)


class Field(Generic[R]):
    """A path of a run."""

    def __init__(self, run: R, path: str) -> None:
        self._run = run
        self._path = path

    @property
    def _view(self) -> ExperimentView:
        return self._run.experiment[self._path]

    @property
    def _name(self) -> str:
        """The last part of the path, after which its file is called."""
        return self._path.rstrip('/').rpartition('/')[2]

    def _refusal(self, method: str, remedy: str) -> ContainerTypeError:
        container, content = self._view.variable_type()
        kind = 'Set' if container is Set else f'{container.__name__} of {content.__name__}'
        return ContainerTypeError(f'{self._path!r} is a {kind} and has no {method}(); {remedy}')
