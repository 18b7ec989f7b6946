"""Train a classifier of handwritten digits, and track its training.

Install what it needs with ``pip install 'neptune-async[examples]'``. Each run is
an experiment of its own: EXP-1, EXP-2 and so on.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from tqdm import tqdm

from neptune_async import Experiment, File, Histogram


class Digits(NamedTuple):
    """Images of 64 pixels, one a row, and the digit that each one shows."""

    images: np.ndarray
    labels: np.ndarray

    def batches(self, size: int, rng: np.random.Generator) -> Iterator[Digits]:
        """Yield the digits once, in random order, ``size`` at a time."""
        order = rng.permutation(len(self.labels))
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            yield Digits(self.images[chosen], self.labels[chosen])


class SoftmaxRegression:
    """One linear layer and a softmax, trained by gradient descent on the cross-entropy."""

    def __init__(self, pixels: int = 64, classes: int = 10) -> None:
        self.weights = np.zeros((pixels, classes))
        self.bias = np.zeros(classes)

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Return the probability of each class, one row an image."""
        scores = images @ self.weights + self.bias
        exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
        return exponentials / exponentials.sum(axis=1, keepdims=True)

    def predictions(self, images: np.ndarray) -> np.ndarray:
        """Return the digit that each image most probably shows."""
        return self.probabilities(images).argmax(axis=1)

    def evaluate(self, digits: Digits) -> dict[str, np.floating]:
        """Return the loss and the accuracy on some digits."""
        probabilities = self.probabilities(digits.images)
        of_label = probabilities[np.arange(len(digits.labels)), digits.labels]
        return {
            'loss': -np.log(of_label).mean(),
            'accuracy': (probabilities.argmax(axis=1) == digits.labels).mean(),
        }

    def descend(self, batch: Digits, learning_rate: float) -> None:
        """Move the parameters one step against the gradient of a batch's loss."""
        error = self.probabilities(batch.images)
        error[np.arange(len(batch.labels)), batch.labels] -= 1
        error /= len(batch.labels)
        self.weights -= learning_rate * batch.images.T @ error
        self.bias -= learning_rate * error.sum(axis=0)

    def saved(self) -> bytes:
        """Return the parameters as a file, which ``numpy.load`` reads."""
        file = io.BytesIO()
        np.savez(file, weights=self.weights, bias=self.bias)
        return file.getvalue()


def load(seed: int) -> tuple[Digits, Digits]:
    """Return the digits to train on, and a quarter of all to test on."""
    images, labels = load_digits(return_X_y=True)
    train_images, test_images, train_labels, test_labels = train_test_split(
        images / 16, labels, test_size=0.25, random_state=seed, stratify=labels
    )
    return Digits(train_images, train_labels), Digits(test_images, test_labels)


def confusion(labels: np.ndarray, predicted: np.ndarray) -> Figure:
    """Draw how often each digit was taken for each."""
    counts = np.zeros((10, 10), int)
    np.add.at(counts, (labels, predicted), 1)
    figure = Figure(figsize=(5, 5), dpi=120, layout='constrained')
    axes = figure.subplots()
    # Of each digit there are about as many, so that the colours of the rows can be compared.
    axes.imshow(counts, cmap='Blues')
    for (label, digit), count in np.ndenumerate(counts):
        if count:
            colour = 'white' if count > counts.max() / 2 else 'black'
            axes.text(digit, label, str(count), ha='center', va='center', color=colour)
    axes.set(xticks=range(10), yticks=range(10), xlabel='taken for', ylabel='digit')
    axes.set_title(f'{(labels == predicted).mean():.1%} of {len(labels)} digits are right')
    return figure


def mistakes(digits: Digits, predicted: np.ndarray, columns: int = 6) -> np.ndarray:
    """Return a grid of the digits that were taken for another; the first ones, if there are many.

    Right of each, in blue, is the average of the digits that it was taken for.
    """
    averages = [digits.images[digits.labels == digit].mean(axis=0) for digit in range(10)]
    wrong = np.flatnonzero(predicted != digits.labels)[: columns**2]
    rows = max(1, -(-len(wrong) // columns))
    grid = np.ones((rows, 80, columns, 144, 3))
    for place, index in enumerate(wrong):
        row, column = divmod(place, columns)
        grid[row, 8:-8, column, 8:72] -= enlarged(digits.images[index], [1, 1, 1])
        grid[row, 8:-8, column, 72:-8] -= enlarged(averages[predicted[index]], [0.9, 0.5, 0.1])
    return grid.reshape(rows * 80, columns * 144, 3)


def enlarged(image: np.ndarray, ink: list[float]) -> np.ndarray:
    """Return an image of 64 pixels eight times as wide and high, in a colour."""
    return np.kron(image.reshape(8, 8), np.ones((8, 8)))[..., np.newaxis] * ink


def train(exp: Experiment, args: argparse.Namespace) -> None:
    """Train for some epochs, and log what happens to the experiment."""
    train_digits, test_digits = load(args.seed)
    exp['params'].assign(
        {
            'epochs': args.epochs,
            'batch_size': args.batch_size,
            'learning_rate': args.lr,
            'seed': args.seed,
        }
    )
    exp['data'].assign({'train_images': len(train_digits.images), 'name': 'digits'})
    exp['tags'].add('digits', 'softmax-regression')
    exp['events'].log('training began')

    model = SoftmaxRegression()
    rng = np.random.default_rng(args.seed)
    best = 0.0
    progress = tqdm(range(1, args.epochs + 1), unit='epoch')
    for epoch in progress:
        for batch in train_digits.batches(args.batch_size, rng):
            exp['train/batch'].log(model.evaluate(batch))
            model.descend(batch, args.lr)

        tested = model.evaluate(test_digits)
        exp['train/epoch'].log(model.evaluate(train_digits), step=epoch)
        exp['test/epoch'].log(tested, step=epoch)
        exp['model/weights'].log(Histogram(model.weights, bins=40), step=epoch)
        progress.set_postfix(accuracy=f'{tested["accuracy"]:.1%}')
        if tested['accuracy'] > best:
            best = tested['accuracy']
            exp['events'].log(f'epoch {epoch}: the best accuracy so far, {best:.1%}')

    exp['best_accuracy'].assign(best)
    exp['model/file'].assign(File(model.saved(), name='model.npz'))
    predicted = model.predictions(test_digits.images)
    exp['test/confusion'].assign(File.figure(confusion(test_digits.labels, predicted)))
    exp['test/mistakes'].assign(File.image(mistakes(test_digits, predicted), name='mistakes.png'))
    exp['events'].log('training ended')


def report(exp: Experiment, epochs: int = 5) -> None:
    """Read the last epochs back from the experiment, and print them as a table."""
    batches = len(exp['train/batch/loss'].all())
    print(f'{exp.name}: {batches:,} batches, best accuracy {exp["best_accuracy"].read():.1%}')
    print(f'{"epoch":>5}{"train loss":>12}{"test loss":>12}{"test accuracy":>15}')
    rows = zip(
        exp['train/epoch/loss'].tail(epochs, with_steps=True),
        exp['test/epoch/loss'].tail(epochs),
        exp['test/epoch/accuracy'].tail(epochs),
        strict=True,
    )
    for (epoch, train_loss), test_loss, accuracy in rows:
        print(f'{epoch:>5}{train_loss:>12.4f}{test_loss:>12.4f}{accuracy:>15.1%}')


def main() -> None:
    """Train once, as the command line says."""
    parser = argparse.ArgumentParser(description='Train a classifier of handwritten digits.')
    parser.add_argument('--epochs', type=int, default=50)
    parser.add_argument('--batch-size', type=int, default=32)
    parser.add_argument('--lr', type=float, default=0.2, help='learning rate')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--storage', help='path or URL of the store')
    args = parser.parse_args()

    with Experiment(storage=args.storage) as exp:
        train(exp, args)
        report(exp)


if __name__ == '__main__':
    main()
