"""The peers, as their own documentation says to log with them, with no server and no account."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from .systems import SERVER, Reader, System


class Peer(System):
    """A tracker of others.

    :cvar ends: the method of a run that ends it.
    :cvar is_durable: whether each call is a transaction, so that a flush has nothing to do.
    """

    ends: ClassVar[str] = 'close'
    is_durable: ClassVar[bool] = False

    def flush(self, run: Any) -> bool:
        return self.is_durable

    def close(self, run: Any) -> None:
        getattr(run, self.ends)()


def _last(points: Sequence[Any], count: int | None) -> Sequence[Any]:
    return points[-(count or 0) :]


class KohakuBoard(Peer):
    name = 'kohakuboard'
    module = 'kohakuboard.client'
    requirements = ('kohakuboard',)
    single = 'run.log(**{path: x})'
    batch = 'run.log(**d)'
    ends = 'finish'

    def open(self, folder: Path) -> Any:
        from kohakuboard.client import Board

        return Board(name='benchmark', base_dir=folder, capture_output=False)

    def reader(self, folder: Path) -> Reader:
        from kohakuboard.utils.board_reader import BoardReader

        (metadata,) = folder.rglob('metadata.json')
        board = BoardReader(metadata.parent)
        return lambda path, last: _last(board.get_scalar_data(path)['values'], last)


class Trackio(Peer):
    name = 'trackio'
    module = 'trackio'
    requirements = ('trackio', 'numpy', 'pillow')
    single = 'run.log({path: x})'
    batch = 'run.log(d)'
    ends = 'finish'
    workloads = f'{Peer.workloads} W16'

    def open(self, folder: Path) -> Any:
        os.environ['TRACKIO_DIR'] = str(folder)
        import trackio

        return trackio.init(
            project='benchmark', name='run', auto_log_gpu=False, auto_log_cpu=False, embed=False
        )

    def log_image(self, run: Any, path: str, image: Any, step: int) -> None:
        import trackio

        run.log({path: trackio.Image(image)}, step=step)

    def reader(self, folder: Path) -> Reader:
        os.environ['TRACKIO_DIR'] = str(folder)
        from trackio.sqlite_storage import SQLiteStorage

        return lambda path, last: _last(
            SQLiteStorage.get_metric_values('benchmark', 'run', path), last
        )


class GoodSeed(Peer):
    name = 'goodseed'
    module = 'goodseed'
    requirements = ('goodseed',)
    single = 'run[path].log(x, step=i)'
    batch = 'run.log_metrics(d, step=i)'
    is_durable = True

    def open(self, folder: Path) -> Any:
        import goodseed

        return goodseed.Run(
            project='bench/mark', goodseed_home=folder, storage='local', git_ref=False,
            capture_hardware_metrics=False, capture_stdout=False, capture_stderr=False,
            capture_traceback=False,
        )  # fmt: skip

    def reader(self, folder: Path) -> Reader:
        from goodseed.storage import read_metrics

        (path_of_run,) = folder.rglob('*.sqlite')
        return lambda path, last: _last(read_metrics(path_of_run, path), last)


class SwanLab(Peer):
    name = 'swanlab offline'
    module = 'swanlab'
    requirements = ('swanlab',)
    single = 'run.log({path: x})'
    batch = 'run.log(d)'
    ends = 'finish'

    def open(self, folder: Path) -> Any:
        import swanlab

        return swanlab.init(mode='offline', log_dir=str(folder), project='benchmark')


class Neptune(Peer):
    name = 'neptune 1 offline'
    module = 'neptune'
    requirements = ('neptune<2', 'setuptools<81')
    single = 'run[path].append(x)'
    batch = "run['wide'].append(d)"
    ends = 'stop'
    share = 0.1

    def open(self, folder: Path) -> Any:
        os.chdir(folder)
        import neptune

        return neptune.init_run(
            mode='offline', project='bench/mark', capture_stdout=False, capture_stderr=False,
            capture_hardware_metrics=False, capture_traceback=False, git_ref=False,
            source_files=[],
        )  # fmt: skip


class NeptuneScale(Peer):
    name = 'neptune-scale offline'
    module = 'neptune_scale'
    requirements = ('neptune-scale',)
    single = 'run.log_metrics({path: x}, step=i)'
    batch = 'run.log_metrics(d, step=i)'
    share = 0.1

    def open(self, folder: Path) -> Any:
        from neptune_scale import Run

        return Run(
            project='bench/mark', run_id='run', mode='offline', log_directory=folder,
            enable_console_log_capture=False, source_tracking_config=None,
        )  # fmt: skip


class TensorBoardX(Peer):
    name = 'tensorboardX'
    module = 'tensorboardX'
    requirements = ('tensorboardX', 'tensorboard', 'setuptools<81', 'pillow')
    single = 'run.add_scalar(path, x, i)'
    batch = 'for path, x in d.items(): run.add_scalar(path, x, i)'
    share = 0.1
    workloads = f'{Peer.workloads} W16'

    def open(self, folder: Path) -> Any:
        from tensorboardX import SummaryWriter

        return SummaryWriter(str(folder))

    def flush(self, run: Any) -> bool:
        run.flush()
        return True

    def log_image(self, run: Any, path: str, image: Any, step: int) -> None:
        run.add_image(path, image, step, dataformats='HWC')

    def reader(self, folder: Path) -> Reader:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        def read(path: str, last: int | None) -> list[Any]:
            accumulator = EventAccumulator(str(folder), size_guidance={'scalars': 0}).Reload()
            return list(_last(accumulator.Scalars(path), last))

        return read


class WandB(Peer):
    name = 'wandb offline'
    module = 'wandb'
    requirements = ('wandb', 'numpy', 'pillow')
    single = 'run.log({path: x})'
    batch = 'run.log(d)'
    ends = 'finish'
    share = 0.1
    workloads = f'{Peer.workloads} W16'

    def open(self, folder: Path) -> Any:
        os.environ['WANDB_SILENT'] = 'true'
        import wandb

        settings = wandb.Settings(console='off', x_disable_stats=True)
        return wandb.init(mode='offline', dir=str(folder), project='benchmark', settings=settings)

    def log_image(self, run: Any, path: str, image: Any, step: int) -> None:
        import wandb

        run.log({path: wandb.Image(image)}, step=step)


class Aim(Peer):
    name = 'aim'
    module = 'aim'
    requirements = ('aim',)
    single = 'run.track(x, name=path)'
    batch = 'run.track(d)'
    share = 0.1

    def open(self, folder: Path) -> Any:
        from aim import Run

        self._run = Run(
            repo=str(folder), system_tracking_interval=None, capture_terminal_logs=False
        )
        return self._run

    def reader(self, folder: Path) -> Reader:
        from aim import Repo

        def read(path: str, last: int | None) -> list[Any]:
            query = f'metric.name == {path!r}'
            (metric,) = next(iter(Repo(str(folder)).query_metrics(query).iter_runs()))
            return list(_last(metric.values.sparse_list()[1], last))

        return read


def _quiet_mlflow() -> None:
    for name in ('mlflow', 'alembic'):
        logging.getLogger(name).setLevel(logging.ERROR)


class MLflow(Peer):
    name = 'mlflow on SQLite'
    module = 'mlflow'
    requirements = ('mlflow',)
    single = 'run.log_metric(path, x, step=i)'
    batch = 'run.log_metrics(d, step=i)'
    is_durable = True
    ends = 'end_run'
    share = 0.005

    def open(self, folder: Path) -> Any:
        _quiet_mlflow()
        import mlflow

        mlflow.set_tracking_uri(f'sqlite:///{folder}/mlflow.db')
        mlflow.start_run()
        return mlflow

    def reader(self, folder: Path) -> Reader:
        import mlflow

        client = mlflow.MlflowClient(f'sqlite:///{folder}/mlflow.db')
        (run,) = client.search_runs(['0'])
        return lambda path, last: _last(client.get_metric_history(run.info.run_id, path), last)


class ServedMLflow(MLflow):
    name = 'mlflow on PostgreSQL'
    requirements = ('mlflow', 'psycopg[binary]')
    workloads = 'W11'

    def open(self, folder: Path) -> Any:
        _quiet_mlflow()
        import mlflow

        mlflow.set_tracking_uri(os.environ[SERVER])
        mlflow.create_experiment(folder.name, artifact_location=str(folder))
        mlflow.set_experiment(folder.name)
        mlflow.start_run()
        return mlflow


PEERS: list[type[System]] = [
    KohakuBoard, Trackio, GoodSeed, SwanLab, Neptune, NeptuneScale, TensorBoardX, WandB, Aim,
    MLflow, ServedMLflow,
]  # fmt: skip
