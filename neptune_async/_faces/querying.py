"""Which experiments are asked for: the arguments ``where``, ``sort``, ``descending``, ``limit``."""

from __future__ import annotations

from neptune_async._engine.reading.queries import Query
from neptune_async._model.query_parsing import parsed, parsed_operand
from neptune_async.exceptions import InvalidArgumentError


def query(
    where: str | None = None,
    sort: str | None = None,
    descending: bool = False,
    limit: int | None = None,
) -> Query:
    """Return what the arguments ask for.

    :raises InvalidQueryError: ``where`` or ``sort`` is no query.
    :raises InvalidArgumentError: another one is refused.
    """
    if type(descending) is not bool:
        raise InvalidArgumentError(f'descending must be True or False, not {descending!r}')
    if limit is not None and (type(limit) is not int or limit < 0):
        raise InvalidArgumentError(f'limit must be a number of experiments, not {limit!r}')
    return Query(
        None if where is None else parsed(where),
        None if sort is None else parsed_operand(sort),
        descending,
        limit,
    )
