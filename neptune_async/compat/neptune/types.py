"""The types of values that 1.x has and we have not."""

from __future__ import annotations

from typing import Any, NoReturn

__all__ = ['File']


class File:
    """Stands for a file to upload, which raises: no files are stored."""

    def __init__(self, *_: Any, **__: Any) -> None:
        refuse_file('File')

    @staticmethod
    def _refused(*_: Any, **__: Any) -> NoReturn:
        refuse_file('File')

    as_image = as_html = as_pickle = create_from = from_content = from_stream = _refused


def refuse_file(what: str) -> NoReturn:
    """:raises NotImplementedError: always; it says what to do with a file."""
    raise NotImplementedError(
        f'{what}: neptune_async stores no files; keep the file where it is, and assign its path: '
        "run['model/weights'] = 'runs/1/weights.pt'"
    )
