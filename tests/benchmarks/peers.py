"""The peers, as their own documentation says to log with them, with no server and no account."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .systems import SERVER, System


class KohakuBoard(System):
    name = 'kohakuboard'
    module = 'kohakuboard.client'
    requirements = ('kohakuboard',)
    single = 'run.log(**{path: x})'
    batch = 'run.log(**d)'

    def open(self, folder: Path) -> Any:
        from kohakuboard.client import Board

        return Board(name='benchmark', base_dir=folder, capture_output=False)

    def close(self, run: Any) -> None:
        run.finish()

    def reader(self, folder: Path) -> Callable[[str, int | None], Sequence[Any]]:
        from kohakuboard.utils.board_reader import BoardReader

        (metadata,) = folder.rglob('metadata.json')
        board = BoardReader(metadata.parent)
        return lambda path, last: board.get_scalar_data(path)['values'][-(last or 0) :]


class Trackio(System):
    name = 'trackio'
    module = 'trackio'
    requirements = ('trackio',)
    single = 'run.log({path: x})'
    batch = 'run.log(d)'

    def open(self, folder: Path) -> Any:
        os.environ['TRACKIO_DIR'] = str(folder)
        import trackio

        return trackio.init(
            project='benchmark', name='run', auto_log_gpu=False, auto_log_cpu=False, embed=False
        )

    def close(self, run: Any) -> None:
        run.finish()

    def reader(self, folder: Path) -> Callable[[str, int | None], Sequence[Any]]:
        os.environ['TRACKIO_DIR'] = str(folder)
        from trackio.sqlite_storage import SQLiteStorage

        return lambda path, last: SQLiteStorage.get_metric_values('benchmark', 'run', path)[
            -(last or 0) :
        ]


class GoodSeed(System):
    name = 'goodseed'
    module = 'goodseed'
    requirements = ('goodseed',)
    single = 'run[path].log(x, step=i)'
    batch = 'run.log_metrics(d, step=i)'

    def open(self, folder: Path) -> Any:
        import goodseed

        return goodseed.Run(
            project='bench/mark', goodseed_home=folder, storage='local', git_ref=False,
            capture_hardware_metrics=False, capture_stdout=False, capture_stderr=False,
            capture_traceback=False,
        )  # fmt: skip

    def flush(self, run: Any) -> bool:
        return True  # every call is a transaction

    def close(self, run: Any) -> None:
        run.close()

    def reader(self, folder: Path) -> Callable[[str, int | None], Sequence[Any]]:
        from goodseed.storage import read_metrics

        (path_of_run,) = folder.rglob('*.sqlite')
        return lambda path, last: read_metrics(path_of_run, path)[-(last or 0) :]


class SwanLab(System):
    name = 'swanlab offline'
    module = 'swanlab'
    requirements = ('swanlab',)
    single = 'run.log({path: x})'
    batch = 'run.log(d)'

    def open(self, folder: Path) -> Any:
        import swanlab

        return swanlab.init(mode='offline', log_dir=str(folder), project='benchmark')

    def close(self, run: Any) -> None:
        run.finish()


class Neptune(System):
    name = 'neptune 1 offline'
    module = 'neptune'
    requirements = ('neptune<2', 'setuptools<81')
    single = 'run[path].append(x)'
    batch = "run['wide'].append(d)"
    share = 0.1

    def open(self, folder: Path) -> Any:
        os.chdir(folder)
        import neptune

        return neptune.init_run(
            mode='offline', project='bench/mark', capture_stdout=False, capture_stderr=False,
            capture_hardware_metrics=False, capture_traceback=False, git_ref=False,
            source_files=[],
        )  # fmt: skip

    def close(self, run: Any) -> None:
        run.stop()


class NeptuneScale(System):
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

    def close(self, run: Any) -> None:
        run.close()


class TensorBoardX(System):
    name = 'tensorboardX'
    module = 'tensorboardX'
    requirements = ('tensorboardX', 'tensorboard', 'setuptools<81')
    single = 'run.add_scalar(path, x, i)'
    batch = 'for path, x in d.items(): run.add_scalar(path, x, i)'
    share = 0.1

    def open(self, folder: Path) -> Any:
        from tensorboardX import SummaryWriter

        return SummaryWriter(str(folder))

    def flush(self, run: Any) -> bool:
        run.flush()
        return True

    def close(self, run: Any) -> None:
        run.close()

    def reader(self, folder: Path) -> Callable[[str, int | None], Sequence[Any]]:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        def read(path: str, last: int | None) -> list[Any]:
            accumulator = EventAccumulator(str(folder), size_guidance={'scalars': 0}).Reload()
            return list(accumulator.Scalars(path)[-(last or 0) :])

        return read


class WandB(System):
    name = 'wandb offline'
    module = 'wandb'
    requirements = ('wandb',)
    single = 'run.log({path: x})'
    batch = 'run.log(d)'
    share = 0.1

    def open(self, folder: Path) -> Any:
        os.environ['WANDB_SILENT'] = 'true'
        import wandb

        settings = wandb.Settings(console='off', x_disable_stats=True)
        return wandb.init(mode='offline', dir=str(folder), project='benchmark', settings=settings)

    def close(self, run: Any) -> None:
        run.finish()


class Aim(System):
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

    def close(self, run: Any) -> None:
        run.close()

    def reader(self, folder: Path) -> Callable[[str, int | None], Sequence[Any]]:
        from aim import Repo

        def read(path: str, last: int | None) -> list[Any]:
            query = f'metric.name == {path!r}'
            (metric,) = next(iter(Repo(str(folder)).query_metrics(query).iter_runs()))
            return list(metric.values.sparse_list()[1][-(last or 0) :])

        return read


class MLflow(System):
    name = 'mlflow on SQLite'
    module = 'mlflow'
    requirements = ('mlflow',)
    single = 'run.log_metric(path, x, step=i)'
    batch = 'run.log_metrics(d, step=i)'
    share = 0.005

    def open(self, folder: Path) -> Any:
        logging.getLogger('mlflow').setLevel(logging.ERROR)
        logging.getLogger('alembic').setLevel(logging.ERROR)
        import mlflow

        mlflow.set_tracking_uri(f'sqlite:///{folder}/mlflow.db')
        mlflow.start_run()
        return mlflow

    def flush(self, run: Any) -> bool:
        return True  # every call is a transaction

    def close(self, run: Any) -> None:
        run.end_run()

    def reader(self, folder: Path) -> Callable[[str, int | None], Sequence[Any]]:
        import mlflow

        client = mlflow.MlflowClient(f'sqlite:///{folder}/mlflow.db')
        (run,) = client.search_runs(['0'])
        return lambda path, last: client.get_metric_history(run.info.run_id, path)[-(last or 0) :]


class ServedMLflow(MLflow):
    name = 'mlflow on PostgreSQL'
    requirements = ('mlflow', 'psycopg[binary]')
    workloads = 'W11'

    def open(self, folder: Path) -> Any:
        logging.getLogger('mlflow').setLevel(logging.ERROR)
        logging.getLogger('alembic').setLevel(logging.ERROR)
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
