"""Progress of a run on the terminal: a bar where there is one, else a line now and then."""

import atexit
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

_LINE_EVERY_S = 30.0


class _Bar(Progress):
    """A bar, and the numbers below it: beside it a terminal of 80 columns would cut them off."""

    def get_renderables(self) -> Iterator[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        yield from (Text(task.fields["numbers"]) for task in self.tasks)


@dataclass(slots=True)
class ConsoleReport:
    """A `StepReport`; can be handed to another process before its first call."""

    title: str
    clock: Callable[[], float] = time.monotonic
    _bar: Progress | None = field(default=None, init=False)
    _console: Console | None = field(default=None, init=False)
    _last_line: float = field(default=0.0, init=False)
    _began: tuple[float, int] | None = field(default=None, init=False)
    _estimated: bool = field(default=False, init=False)

    def __call__(self, step: int, steps: int, values: dict[str, float]) -> None:
        """Show how far the run is, its mean losses, learning rate, pace and time left; or scores of a look, to stay."""
        if self._console is None:
            self._console = Console(stderr=True)
        looked = "delta_m" in values
        left = self._time_left(step, steps)
        if self._console.is_terminal:
            if looked:
                self._console.print(f"{self.title} {step} {shown(values)}", soft_wrap=True, highlight=False)
            self._advance(step, steps, f"{shown(values)}{left}")
            return
        first_estimate = bool(left) and not self._estimated
        self._estimated = self._estimated or first_estimate
        if looked or first_estimate or self.clock() - self._last_line > _LINE_EVERY_S or step == steps:
            self._last_line = self.clock()
            self._console.print(f"{self.title} {step}/{steps} {shown(values)}{left}", soft_wrap=True, highlight=False)

    def _time_left(self, step: int, steps: int) -> str:
        now = self.clock()
        if self._began is None:
            self._began = (now, step)
        since, first = self._began
        if step in (first, steps):
            return ""
        seconds = round((now - since) / (step - first) * (steps - step))
        return f" left {seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"

    def _advance(self, step: int, steps: int, text: str) -> None:
        if self._bar is None:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
            self._bar = _Bar(*columns, console=self._console)
            self._bar.add_task(self.title, total=steps, completed=step, numbers=text)
            self._bar.start()
            self._bar.console.show_cursor(True)  # a run is often killed, which would leave the terminal without one
            atexit.register(self._bar.stop)
        self._bar.update(self._bar.task_ids[0], completed=step, total=steps, numbers=text)
        if step == steps:
            self._bar.stop()


def shown(values: dict[str, float]) -> str:
    """Losses, then learning rate and pace, in one line."""
    forms = {"lr": "lr {:.2e}", "images_per_s": "{:.3g} img/s"}
    losses = [f"{name} {value:.3f}" for name, value in values.items() if name not in forms]
    return " ".join([*losses, *(form.format(values[name]) for name, form in forms.items() if name in values)])


def report_caching(done: int, total: int) -> None:
    """Say once in a while how far the decoding of a dataset is."""
    if done % 1000 == 0 or done == total:
        Console(stderr=True).print(f"cache: {done}/{total} photos", highlight=False)
