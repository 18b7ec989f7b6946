"""Evaluate a classifier with fifty coroutines that log to one experiment at a time.

Install what it needs with ``pip install 'neptune-async[examples]'``. It runs on
asyncio, or with ``--loop trio`` on trio, which has to be installed as well.
"""

from __future__ import annotations

import argparse
from typing import NamedTuple

import anyio
import anyio.to_thread
import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from neptune_async import AsyncExperiment


class Shard(NamedTuple):
    """A share of the images to evaluate on, one a row, and the digit that each one shows."""

    images: np.ndarray
    labels: np.ndarray


def prepare(shards: int, seed: int) -> tuple[LogisticRegression, list[Shard]]:
    """Train a classifier of handwritten digits, and deal out the images it has not seen."""
    images, labels = load_digits(return_X_y=True)
    seen, unseen, seen_labels, unseen_labels = train_test_split(
        images / 16, labels, test_size=0.5, random_state=seed, stratify=labels
    )
    model = LogisticRegression(max_iter=500).fit(seen, seen_labels)
    parts = np.array_split(np.arange(len(unseen)), shards)
    return model, [Shard(unseen[part], unseen_labels[part]) for part in parts]


async def evaluate(
    exp: AsyncExperiment, model: LogisticRegression, number: int, shard: Shard
) -> None:
    """Classify the images of a shard, and log how that went."""
    started = anyio.current_time()
    # The model computes on a thread: a coroutine that computed would hold up all others.
    guesses = await anyio.to_thread.run_sync(model.predict, shard.images)
    right = guesses == shard.labels
    exp['eval'].log(
        {'accuracy': right.mean(), 'seconds': anyio.current_time() - started}, step=number
    )
    for guess, label in zip(guesses[~right], shard.labels[~right], strict=True):
        exp['eval/mistakes'].log(f'shard {number}: took a {label} for a {guess}')


async def main(args: argparse.Namespace) -> None:
    """Evaluate once, as the command line says."""
    model, shards = prepare(args.shards, args.seed)
    async with AsyncExperiment(storage=args.storage) as exp:
        exp['params'].assign({'shards': args.shards, 'seed': args.seed, 'loop': args.loop})
        async with anyio.create_task_group() as tasks:
            for number, shard in enumerate(shards):
                tasks.start_soon(evaluate, exp, model, number, shard)
        await report(exp)


async def report(exp: AsyncExperiment) -> None:
    """Read back what all coroutines have logged, and print a summary."""
    accuracies = await exp['eval/accuracy'].all()
    mistakes = await exp['eval/mistakes'].all() if await exp['eval/mistakes'].exists() else []
    worst, step = min((a, s) for s, a in await exp['eval/accuracy'].all(with_steps=True))
    print(f'{exp.name}: {len(accuracies)} shards, mean accuracy {np.mean(accuracies):.1%}')
    print(f'worst shard: number {step} with {worst:.1%}')
    print(f'{len(mistakes)} mistakes, the last of them:', *mistakes[-3:], sep='\n  ')


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description='Evaluate a classifier with many coroutines.')
    parser.add_argument('--shards', type=int, default=50)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--storage', help='path or URL of the store')
    parser.add_argument('--loop', choices=['asyncio', 'trio'], default='asyncio')
    arguments = parser.parse_args()
    anyio.run(main, arguments, backend=arguments.loop)
