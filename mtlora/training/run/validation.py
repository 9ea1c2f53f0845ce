"""Validation during training: a row of validation.csv each time, the best weights kept, early stopping on delta_m."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from mtlora.data.layout import open_dataset
from mtlora.data.records import PhotoDataset
from mtlora.evaluation.evaluate import TaskReport, evaluate
from mtlora.metrics import HEADLINE, delta_m
from mtlora.model.mtlora import MTLoRAModel
from mtlora.training.adapters.config import TrainConfig, Validation
from mtlora.training.pretraining.resolution import set_side
from mtlora.training.report.looks import save_look
from mtlora.training.run.checkpoint import BEST_FILE, VALIDATION_FILE, MetricsLog, save_checkpoint
from mtlora.training.run.loop import StepReport, Trainer
from mtlora.training.run.processes import ProcessGroup
from mtlora.training.run.tensorboard import Scalars
from mtlora.vocabulary.tasks import Task

_MOST_CLASSES = 12


def validation_photos(config: TrainConfig, validation: Validation) -> PhotoDataset:
    """The photos that are looked at."""
    return open_dataset(config.data, validation.split, config.spec.task_names).spread(validation.photos)


class DeltaWatch:
    """Evaluates every so many steps what would be exported; see `Watch`."""

    def __init__(
        self, model: MTLoRAModel, config: TrainConfig, validation: Validation, group: ProcessGroup, report: StepReport
    ) -> None:
        self._report = report
        self._model, self._config, self._validation, self._group = model, config, validation, group
        self._photos = validation_photos(config, validation)
        self._tasks = config.spec.task_names
        self._baseline = dict(validation.baseline)
        self._best, self._looks_since, self._stopped = -math.inf, 0, False
        self._log: MetricsLog | None = None

    def due(self, step: int) -> bool:
        """See `Watch.due`."""
        return step % self._validation.every == 0

    @property
    def stopped(self) -> bool:
        """See `Watch.stopped`."""
        return self._stopped

    def look(self, trainer: Trainer, scalars: Scalars) -> None:
        """The first process evaluates, the others wait for its verdict."""
        verdict = False
        if self._group.leads:
            with averaged(trainer), set_side(self._model, self._config.spec.image_size):
                self._model.eval()
                reports = evaluate(self._model, self._photos, self._tasks)
                save_look(self._model, self._photos, self._config.out, trainer.step)
                self._model.train()
                verdict = self._judge(trainer, reports, scalars)
        self._stopped = self._group.any(verdict, trainer.device)

    def _judge(self, trainer: Trainer, reports: Mapping[Task, TaskReport], scalars: Scalars) -> bool:
        scores = headlines(reports)
        if not self._baseline and all(math.isfinite(score) and score for score in scores.values()):
            self._baseline = scores
        delta = math.nan
        if self._baseline and all(math.isfinite(score) for score in scores.values()):
            delta = delta_m(scores, {task: self._baseline[task] for task in scores})
        over = self._keep(trainer, delta, remarks(reports))
        self._write(trainer, scores, delta, scalars)
        shown = {"delta_m": delta} | {f"{task.value}/{HEADLINE[task]}": score for task, score in scores.items()}
        self._report(trainer.step, trainer.step if over else trainer.config.steps, shown | class_scores(reports))
        return over

    def _keep(self, trainer: Trainer, delta: float, said: list[str]) -> bool:
        """Write the best weights, of equal ones the later; whether there have been looks enough without better ones."""
        is_better = not delta <= self._best  # NaN is: then any later weights are
        self._looks_since = 0 if is_better else self._looks_since + 1
        if is_better and not math.isnan(delta):
            self._best = delta
        if is_better or delta == self._best:
            state = {"step": trainer.step, "model": self._model.state_dict(), "average": {}, "delta_m": delta}
            save_checkpoint(self._config.out, state | {"remarks": said}, BEST_FILE)
        return 0 < self._validation.patience <= self._looks_since

    def _write(self, trainer: Trainer, scores: Mapping[Task, float], delta: float, scalars: Scalars) -> None:
        values = {"delta_m": delta} | {f"{task.value}/{HEADLINE[task]}": score for task, score in scores.items()}
        if self._log is None:
            self._log = MetricsLog(self._config.out, ["step", *values], trainer.step - 1, VALIDATION_FILE)
        self._log.write({"step": trainer.step, **{name: f"{value:.6g}" for name, value in values.items()}})
        scalars(trainer.step, {f"val/{name}": value for name, value in values.items()})

    def state(self) -> dict[str, Any]:
        """See `Watch.state`."""
        baseline = {task.value: score for task, score in self._baseline.items()}
        return {"baseline": baseline, "best": self._best, "since": self._looks_since, "stopped": self._stopped}

    def restore(self, state: dict[str, Any]) -> None:
        """See `Watch.restore`."""
        self._baseline = {Task(name): score for name, score in state["baseline"].items()}
        self._best, self._looks_since, self._stopped = state["best"], state["since"], state["stopped"]


def headlines(reports: Mapping[Task, TaskReport]) -> dict[Task, float]:
    """The number by which each task is reported."""
    return {task: report.scores[HEADLINE[task]] for task, report in reports.items()}


def class_scores(reports: Mapping[Task, TaskReport]) -> dict[str, float]:
    """For the line of a look: IoU of each class, or of many classes how many are at 0; a mean hides them."""
    shown: dict[str, float] = {}
    for task, report in reports.items():
        found = {name: value for name, value in report.scores.items() if name.startswith("iou/")}
        known = {f"{task.value}/{name}": value for name, value in found.items() if math.isfinite(value)}
        if len(known) > _MOST_CLASSES:
            known = {f"{task.value}/classes_at_0": float(sum(value == 0 for value in known.values()))}
        shown |= known
    return shown


def remarks(reports: Mapping[Task, TaskReport]) -> list[str]:
    """What scores hide, task by task, such as that only background is predicted."""
    return [f"{task.value}: {report.remark}" for task, report in reports.items() if report.remark]


@contextmanager
def averaged(trainer: Trainer) -> Iterator[None]:
    """The model with the moving average of its weights, where there is one."""
    model, average = trainer.job.model, trainer.average
    own = {name: tensor.clone() for name, tensor in model.state_dict().items() if name in average}
    try:
        with torch.no_grad():
            model.load_state_dict(average, strict=False)
        yield
    finally:
        with torch.no_grad():
            model.load_state_dict(own, strict=False)
