"""The examples do what they show: they run, and they print what is printed there."""

from __future__ import annotations

import inspect
import io
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode
from PIL import Image

from neptune_async import Experiment, list_experiments

EXAMPLES = Path(__file__).parent.parent / 'examples'


def test_the_tutorial_prints_what_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('IPYTHONDIR', str(tmp_path))  # not the user's own settings
    monkeypatch.delenv('NEPTUNE_ASYNC_ECHO', raising=False)
    shown = nbformat.read(EXAMPLES / 'tutorial.ipynb', as_version=4)
    fresh = nbformat.read(EXAMPLES / 'tutorial.ipynb', as_version=4)

    NotebookClient(fresh, resources={'metadata': {'path': tmp_path}}).execute()

    for before, after in zip(code_cells(shown), code_cells(fresh), strict=True):
        assert output_of(after) == output_of(before), f'the cell is:\n{before.source}'


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == 'code']


def output_of(cell: NotebookNode) -> str:
    """Return what a reader sees below a cell, without times and addresses."""
    text = ''.join(map(text_of, cell.outputs))
    text = inspect.cleandoc(text)  # Python 3.13 and later strip the indentation of docstrings
    text = re.sub(r'\b\d{10}\.\d+\b', '<time>', text)
    return re.sub(r'\b0x[0-9a-f]+\b', '<address>', text)


def text_of(output: NotebookNode) -> str:
    if output.output_type == 'stream':
        return output.text
    if output.output_type == 'error':
        return f'{output.ename}: {output.evalue}'
    return output.data['text/plain']


@pytest.fixture(scope='module')
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The store that two runs of the training wrote to, and what each of them printed."""
    store = tmp_path_factory.mktemp('digits') / 'experiments.db'
    command = [sys.executable, EXAMPLES / 'train_digits.py', '--epochs', '3', '--storage', store]
    return store, [subprocess.check_output(command, text=True) for _ in range(2)]


def test_each_training_is_an_experiment_of_its_own(trained: tuple[Path, list[str]]) -> None:
    store, printed = trained

    assert sorted(list_experiments(store)) == ['EXP-1', 'EXP-2']
    assert [text.split(':')[0] for text in printed] == ['EXP-1', 'EXP-2']


@pytest.mark.parametrize('name', ['EXP-1', 'EXP-2'])
def test_a_training_can_be_read_back(trained: tuple[Path, list[str]], name: str) -> None:
    store, _ = trained

    with Experiment(name, storage=store, mode='read') as exp:
        assert exp['params/epochs'].read() == 3
        assert exp['params/learning_rate'].read() == 0.2
        assert exp['tags'].get() == {'digits', 'softmax-regression'}

        losses = exp['train/batch/loss'].all(with_steps=True)
        assert [step for step, _ in losses] == list(range(3 * 43))
        assert losses[-1][1] < losses[0][1]

        accuracies = exp['test/epoch/accuracy'].all(with_steps=True)
        assert [step for step, _ in accuracies] == [1, 2, 3]
        assert exp['best_accuracy'].read() == max(accuracy for _, accuracy in accuracies) > 0.8

        events = exp['events'].all()
        assert (events[0], events[-1]) == ('training began', 'training ended')


def test_a_training_keeps_its_pictures_its_weights_and_its_model(
    trained: tuple[Path, list[str]],
) -> None:
    store, _ = trained

    with Experiment('EXP-1', storage=store, mode='read') as exp:
        weights = exp['model/weights'].all(with_steps=True)
        assert [step for step, _ in weights] == [1, 2, 3]
        assert all(sum(histogram.counts) == 64 * 10 for _, histogram in weights)
        with np.load(io.BytesIO(exp['model/file'].read().bytes())) as model:
            assert model['weights'].min() == weights[-1][1].edges[0]
            assert model['bias'].shape == (10,)
        for path, size in (('test/confusion', (600, 600)), ('test/mistakes', (864, 480))):
            with Image.open(io.BytesIO(exp[path].read().bytes())) as picture:
                assert picture.size == size
                assert len(picture.convert('L').getcolors()) > 10


def test_a_training_ends_with_a_table_of_its_metrics(trained: tuple[Path, list[str]]) -> None:
    store, printed = trained

    with Experiment('EXP-1', storage=store, mode='read') as exp:
        (loss,) = exp['test/epoch/loss'].tail(1)
        (accuracy,) = exp['test/epoch/accuracy'].tail(1)
    assert printed[0].splitlines()[-1].split()[0] == '3'
    assert printed[0].splitlines()[-1].split()[2:] == [f'{loss:.4f}', f'{accuracy:.1%}']
