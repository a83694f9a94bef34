"""Where the figures of each step go while a training runs: metrics.jsonl, and TensorBoard or MLflow.

The first rank writes `tracking/metrics.jsonl` in the arm's folder, one line per step, and TensorBoard's event files beside
it. In a folder store both grow as training goes on; in a bucket they are put there again at every `flush`. A resumed training
goes on behind the step of its checkpoint: what an interrupted one wrote after that is taken back. A tracker that fails is
counted and reported and never ends a training; one that cannot be opened does, before the first step.

Source: https://docs.pytorch.org/docs/stable/tensorboard.html, https://mlflow.org/docs/latest/ml/tracking/
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from training.engine.process_group import Ranks
from training.job import TrainingJob
from training.metrics import METRICS_NAME, StepFigures, count_steps
from voc.errors import ConfigError
from voc.store.base import Store

MLFLOW_RUN_NAME = "mlflow_run.json"


class Tracker(Protocol):
    """One place that figures go to."""

    name: str

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Take the figures of one step."""

    def close(self) -> None:
        """Write what is held back."""


class Tracking:
    """The metrics file and the trackers of one arm, on the first rank; on others nothing.

    Args:
        folder: Where the files are written.
        store: The store.
        prefix: The folder's place in it.
        trackers: Further places.
    """

    def __init__(self, folder: Path, store: Store, prefix: str, trackers: Sequence[Tracker]) -> None:
        self._folder = folder
        self._store = store
        self._prefix = prefix
        self._trackers = trackers
        self._file = (folder / METRICS_NAME).open("a", encoding="utf-8")
        self.failures: dict[str, int] = {}

    def add(self, figures: StepFigures) -> None:
        """Write one step."""
        self._file.write(json.dumps(figures) + "\n")
        self._file.flush()
        values = dict(flatten(figures))
        for tracker in self._trackers:
            try:
                tracker.add(int(figures["step"]), values)
            except Exception as error:  # any failure of a service that only watches
                if tracker.name not in self.failures:
                    print(
                        f"the tracker {tracker.name} failed at step {figures['step']}: {error!r}; training goes on",
                        flush=True,
                    )
                self.failures[tracker.name] = self.failures.get(tracker.name, 0) + 1

    def flush(self) -> None:
        """Put the files into the store, where that is another place."""
        if self._store.local_path(self._prefix) == self._folder:
            return
        for path in sorted(p for p in self._folder.rglob("*") if p.is_file()):
            self._store.upload_file(path, f"{self._prefix}/{path.relative_to(self._folder).as_posix()}")

    def close(self) -> None:
        """Write everything and say what failed."""
        self._file.close()
        for tracker in self._trackers:
            try:
                tracker.close()
            except Exception as error:  # as above
                self.failures[tracker.name] = self.failures.get(tracker.name, 0) + 1
                print(f"the tracker {tracker.name} failed at its end: {error!r}", flush=True)
        self.flush()
        for name, count in self.failures.items():
            print(f"the tracker {name} did not take {count} of its calls; metrics.jsonl has every step", flush=True)


class SilentTracking:
    """The same on ranks that write nothing."""

    def add(self, figures: StepFigures) -> None:
        """Leave it to the first rank."""

    def flush(self) -> None:
        """Leave it to the first rank."""


@contextmanager
def track(job: TrainingJob, ranks: Ranks, done: Sequence[StepFigures]) -> Iterator[Tracking | SilentTracking]:
    """Open the tracking of an arm that has `done` these steps.

    Raises:
        ConfigError: If a tracker of `training.tracking` cannot be opened.
    """
    if not ranks.is_first:
        yield SilentTracking()
        return
    store, prefix = job.run.store, job.run.layout.tracking(job.arm)
    with tempfile.TemporaryDirectory(prefix="nightforge-tracking-") as name:
        folder = store.local_path(prefix) or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / METRICS_NAME).write_text("".join(json.dumps(line) + "\n" for line in done), encoding="utf-8")
        tracking = Tracking(folder, store, prefix, list(_open_trackers(job, folder, count_steps(done))))
        try:
            yield tracking
        finally:
            tracking.close()


def flatten(figures: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Yield every number of nested figures under its path: `validation/strata/general/chat`."""
    for key, value in figures.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}/")
        elif isinstance(value, int | float) and not isinstance(value, bool) and f"{prefix}{key}" != "step":
            yield f"{prefix}{key}", float(value)


class TensorBoardTracker:
    """Event files in a folder.

    Args:
        folder: Where they go.
        first_step: Steps from here on that an interrupted training left are hidden.
    """

    name = "tensorboard"

    def __init__(self, folder: Path, first_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=first_step)  # type: ignore[no-untyped-call]

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Take the figures of one step."""
        for key, value in values.items():
            self._writer.add_scalar(key, value, step)  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Write what is held back."""
        self._writer.close()  # type: ignore[no-untyped-call]


class MlflowTracker:
    """A run on the server that MLFLOW_TRACKING_URI names; a resumed training goes on in the run of the one before.

    Args:
        experiment: Name of the experiment, made if it is new.
        title: Name of the run.
        tags: What the run is of.
        memory: A file that remembers the run's id.
    """

    name = "mlflow"

    def __init__(self, experiment: str, title: str, tags: Mapping[str, str], memory: Path) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Metric

        self._metric = Metric
        self._client = MlflowClient()
        if memory.is_file():
            self._run_id = str(json.loads(memory.read_text())["run_id"])
            self._client.update_run(self._run_id, status="RUNNING")
            return
        found = self._client.get_experiment_by_name(experiment)
        experiment_id = found.experiment_id if found else self._client.create_experiment(experiment)
        self._run_id = self._client.create_run(experiment_id, run_name=title, tags=dict(tags)).info.run_id
        memory.write_text(json.dumps({"run_id": self._run_id}))

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Take the figures of one step."""
        now_ms = int(time.time() * 1000)
        metrics = [self._metric(key, value, now_ms, step) for key, value in values.items()]
        self._client.log_batch(self._run_id, metrics=metrics)

    def close(self) -> None:
        """End the run; a resumed training opens it again."""
        self._client.set_terminated(self._run_id)


def _open_trackers(job: TrainingJob, folder: Path, done: int) -> Iterator[Tracker]:
    tracking = job.training.tracking
    if "tensorboard" in tracking.backends:
        yield TensorBoardTracker(folder, done + 1)
    if "mlflow" in tracking.backends:
        if not os.environ.get("MLFLOW_TRACKING_URI"):
            raise ConfigError(
                "training.tracking.backends has mlflow and MLFLOW_TRACKING_URI is not set",
                expected="the address of an MLflow server in the workers' environment",
                remedy="set it, or take mlflow out",
            )
        yield _open_mlflow(job, tracking.mlflow_experiment, folder / MLFLOW_RUN_NAME)


def _open_mlflow(job: TrainingJob, experiment: str, memory: Path) -> MlflowTracker:
    store, key = job.run.store, f"{job.run.layout.tracking(job.arm)}/{MLFLOW_RUN_NAME}"
    if not memory.is_file() and store.exists(key):
        store.download_file(key, memory)
    title = f"{job.run.layout.run_id}/{job.arm}"
    try:
        return MlflowTracker(experiment, title, {"run_id": job.run.layout.run_id, "arm": job.arm}, memory)
    except ImportError as error:
        raise ConfigError(
            "training.tracking.backends has mlflow and the package is not installed",
            expected="mlflow-skinny in the workers' environment",
            remedy="install it there, or take mlflow out",
        ) from error
    except Exception as error:
        raise ConfigError(
            f"MLflow at {os.environ['MLFLOW_TRACKING_URI'].rpartition('@')[2]} cannot be used: {error!r}",
            expected="a server that answers",
            remedy="check MLFLOW_TRACKING_URI, or take mlflow out",
        ) from error
