"""What is said of the tree is true, and its parts stay small enough to read."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / 'neptune_async'
MODULES = sorted(PACKAGE.rglob('*.py'))
Function = ast.FunctionDef | ast.AsyncFunctionDef


def test_every_module_that_answers_a_question_exists() -> None:
    text = (ROOT / 'CONTRIBUTING.md').read_text()
    _, found, section = text.partition('## Where do I find')
    assert found
    rows = section.partition('## Tests')[0].splitlines()[4:]
    questions = [row.split('|')[1:3] for row in rows if row.startswith('|')]
    assert len(questions) >= 10
    for question, answer in questions:
        modules = re.findall(r'`([a-z_/]+\.py)`', answer)
        assert modules, question
        folder = PACKAGE
        for module in modules:
            # "there" is the folder of the module before it.
            path = PACKAGE / module if '/' in module else folder / module
            assert path.is_file(), f'{question}: {path}'
            folder = path.parent


def test_no_module_has_more_than_500_lines() -> None:
    lines = {module: len(module.read_text().splitlines()) for module in MODULES}
    assert len(lines) > 100
    assert {module: n for module, n in lines.items() if n > 500} == {}


def test_no_function_has_more_than_40_lines_without_its_docstring() -> None:
    lines = {
        f'{module.relative_to(ROOT)}:{function.lineno} {function.name}': _lines_of(function)
        for module in MODULES
        for function in ast.walk(ast.parse(module.read_text()))
        if isinstance(function, Function)
    }
    assert len(lines) > 1000
    assert {function: n for function, n in lines.items() if n > 40} == {}


def _lines_of(function: Function) -> int:
    has_docstring = ast.get_docstring(function) is not None
    return _span(function) - (_span(function.body[0]) if has_docstring else 0)


def _span(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1
