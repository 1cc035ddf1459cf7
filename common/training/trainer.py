"""The one training loop: it knows when; the task knows what, the step knows how, observers watch."""

import math
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import nvtx
import torch

from common.errors import InterruptedRunError, TrainingError
from common.failures import explain
from common.machine.distributed import ALONE, World, any_rank, barrier, broadcast_buffers
from common.machine.precision import Precision
from common.run.recipe import Recipe
from common.run.run_directory import RunDirectory
from common.training.averages import MovingAverage
from common.training.best_weights import BestWeights
from common.training.cadence import Cadence, SavingClock
from common.training.checkpoint import CheckpointStore, refuse_other
from common.training.generators import generator_states, restore_generators
from common.training.log_window import LogWindow
from common.training.micro_batches import accumulation
from common.training.observers import Observer, Observers, RunFacts
from common.training.step import build_step
from common.training.stop_signal import StopSignal
from common.training.task import Batch, DataModule, Evaluation, StepSettings, Task


@dataclass(frozen=True)
class Outcome:
    """How a finished training went; seconds are added up over all resumes.

    raw_metrics: of the last weights themselves, where `task` and `evaluation` are those of their moving average.
    """

    task: Task
    evaluation: Evaluation
    raw_metrics: dict[str, float] | None
    steps: int
    epochs: float
    seconds: float
    samples_per_s: float


class Trainer:
    """Trains one task to the end of its recipe, resuming from the newest sound checkpoint of its run directory."""

    def __init__(
        self,
        task: Task,
        data: DataModule,
        recipe: Recipe,
        run: RunDirectory,
        *,
        device: torch.device,
        precision: Precision,
        world: World = ALONE,
        observers: tuple[Observer, ...] = (),
    ) -> None:
        training = recipe.training
        training.accumulation(world.size)  # refuses before anything is moved
        self._data, self._recipe, self._run, self._world = data, recipe, run, world
        self._device, self._precision = device, precision
        self._training = training
        self.cadence = Cadence.of(training, data.num_train)
        self._saving = SavingClock(training, world, device)
        self._observers = Observers(observers if world.is_main else ())
        self._checkpoints = task.own_checkpoints(run.checkpoints, training.keep_checkpoints) or CheckpointStore(
            run.checkpoints, training.keep_checkpoints, writes=world.is_main, apart=device.type == "cuda"
        )

        self._task = task.place(device, channels_last=training.channels_last)
        self._accumulation = accumulation(self._task, data, training, world, device, precision)
        if training.sync_batchnorm and world.size > 1:
            torch.nn.SyncBatchNorm.convert_sync_batchnorm(self._task)
        optimizers = self._task.optimizers(self.cadence.total, self.cadence.per_epoch)
        self._task.set_trainable(0)
        self._ema = None
        if training.ema_decay is not None:
            self._ema = MovingAverage(self._task, training.ema_decay, self._task.unaveraged())
        if training.compile:
            self._task.compile()
        self._step = build_step(
            self._task,
            optimizers,
            StepSettings(precision, device, world.size, recipe.optimizer.clip_norm, self._ema, training.cuda_graphs),
        )
        chooses = training.patience is not None and data.tuning() is not None
        self._chosen = BestWeights(self._checkpoints, training.patience or 1) if chooses else None
        self._done = 0
        self._seconds = 0.0
        self._best = -math.inf
        self._window = LogWindow()

    def fit(self) -> Outcome:
        """Run every remaining step.

        Raises InterruptedRunError after SIGINT or SIGTERM, the run saved; TrainingError on non-finite losses and a full
        disk.
        """
        self._resume()
        if self._training.patience is not None and self._chosen is None:
            self._observers.on_message(
                "Nothing is held out of this training data to choose weights by: the last count."
            )
        facts = RunFacts(self._run, self._done, self.cadence.total, self._run.path.name)
        with StopSignal() as stop:
            self._observers.on_start(facts)
            try:
                evaluation = self._loop(stop)
                self._checkpoints.finish()
            finally:
                self._observers.on_end()
        steps = self._done
        samples = steps * self._training.batch_size
        rate = samples / max(self._seconds, 1e-9)
        raw = self._judged(self._task).metrics if self._ema is not None else None
        return Outcome(self._evaluated_task(), evaluation, raw, steps, self._epoch(), self._seconds, rate)

    def _loop(self, stop: StopSignal) -> Evaluation:
        window = self._window
        batches = self._micro_batches()
        evaluation: Evaluation | None = None
        self._task.train()
        while self._done < self.cadence.total and not self._is_over():
            started = time.perf_counter()
            if self._task.set_trainable(self._done):
                self._step.rebuild()
            with nvtx.annotate("data", domain="kit"):
                micro_batches = [next(batches) for _ in range(self._accumulation)]
            waited = time.perf_counter() - started
            losses = self._step(micro_batches, self._done)
            self._done += 1
            window.add(losses)
            is_last = self._done == self.cadence.total
            is_log_point = self._done % self._training.log_every == 0 or is_last
            entry = window.close() if is_log_point else None
            elapsed = time.perf_counter() - started
            self._seconds += elapsed
            window.time(elapsed, waited)
            if entry is not None:
                self._log(entry, window)
            self._observers.on_step(self._done)
            if self.cadence.evaluates_after(self._done):
                evaluation = self._evaluate()
            stopping = stop.number is not None if self._world.size == 1 else (
                is_log_point and any_rank(stop.number is not None, self._device)
            )  # fmt: skip
            if is_last or stopping or self._is_over() or self._saving.is_due(self._done):
                self._save()
            if stopping and not is_last:
                self._checkpoints.finish()
                raise InterruptedRunError(
                    stop.number or signal.SIGTERM,
                    f"Stopped after step {self._done} of {self.cadence.total}; the run is saved in {self._run.path}.",
                    "Run the same command again to go on from there.",
                )
        if self._chosen is not None:
            return self._end_with_the_best(self._chosen)
        return evaluation if evaluation is not None else self._evaluate()

    def _is_over(self) -> bool:
        return self._chosen is not None and self._chosen.is_over

    def _end_with_the_best(self, chosen: BestWeights) -> Evaluation:
        """Load the weights that did best on the held-out part of the training data, and evaluate them."""
        self._checkpoints.finish()
        barrier()  # the main rank has written them
        chosen.restore(self._evaluated_task(), self._device)
        self._observers.on_message(
            f"Kept the weights of step {chosen.step} of {self._done}, the last within a standard error of the best on "
            f"a part held out of the training data ({chosen.value:.4f}); the evaluation of these is the run's."
        )
        return self._judged(self._evaluated_task())

    def _micro_batches(self) -> Iterator[Batch]:
        return self._data.train_batches(self._done, self._training.batch_size, self._accumulation)

    def _log(self, losses: dict[str, float], window: LogWindow) -> None:
        names = window.bad_names
        if names:
            self._observers.on_message(
                f"step {self._done}: not finite: {', '.join(names)}; such steps change no weight "
                f"({window.bad_steps} of the last {window.steps}, {window.streak} in a row)."
            )
        if window.streak >= self._training.stop_after_nonfinite:
            raise TrainingError(
                f"The loss was not finite for {window.streak} steps in a row at step {self._done}: {', '.join(names)}.",
                f"The weights of the last good step are kept in {self._run.checkpoints}.",
                "Lower --optimizer.peak-lr, set --optimizer.clip-norm, or use --training.precision fp32.",
            )
        samples = window.steps * self._training.batch_size
        self._observers.on_entry(
            {
                "kind": "train", "step": self._done, "epoch": self._epoch(), "seconds": self._seconds, **losses,
                "lr": self._step.lr(self._done - 1),
                "samples_per_s": samples / window.seconds, "data_wait": window.waited / window.seconds,
            }
        )  # fmt: skip
        window.restart()

    def _evaluate(self) -> Evaluation:
        started = time.perf_counter()
        evaluation = self._judged(self._evaluated_task())
        self._seconds += time.perf_counter() - started
        broken = [name for name, value in evaluation.metrics.items() if not math.isfinite(value)]
        if broken:
            raise TrainingError(
                f"The validation metrics are not finite at step {self._done}: {', '.join(broken)}.",
                remedy="Lower --optimizer.peak-lr, set --optimizer.clip-norm, or use --training.precision fp32.",
            )
        self._observers.on_entry(
            {
                "kind": "validation", "step": self._done, "epoch": self._epoch(), "seconds": self._seconds,
                **evaluation.metrics,
            }
        )  # fmt: skip
        self._keep_best(evaluation)
        if self._chosen is not None:
            self._choose(self._chosen)
        return evaluation

    def _choose(self, chosen: BestWeights) -> None:
        task = self._evaluated_task().eval()
        with torch.no_grad(), self._precision.context(self._device):
            found = task.held_out_value(self._data)
        self._task.train()
        if found is not None:
            chosen.look(task, self._done, found)

    def _judged(self, task: Task) -> Evaluation:
        """The validation of the trained task, or of its average."""
        broadcast_buffers(task)
        task.eval()
        with torch.no_grad(), self._precision.context(self._device):
            evaluation = task.evaluate_briefly(self._data.validation_batches())
        self._task.train()
        return evaluation

    def _keep_best(self, evaluation: Evaluation) -> None:
        target = self._recipe.target
        name = target.metric if target and target.metric in evaluation.metrics else next(iter(evaluation.metrics))
        sign = 1 if target is None or target.higher_is_better else -1
        if sign * evaluation.metrics[name] > self._best:
            self._best = sign * evaluation.metrics[name]
            self._checkpoints.save_best({"step": self._done, "task": self._evaluated_task().state_dict()})

    def _evaluated_task(self) -> Task:
        return self._task if self._ema is None else cast(Task, self._ema.module)

    def _epoch(self) -> float:
        return self._done / self.cadence.per_epoch

    def _save(self) -> None:
        self._checkpoints.save(self._done, self._state())
        self._saving.restart()

    def _state(self) -> dict[str, Any]:
        return {
            "task": self._task.state_dict(),
            "ema": self._ema.state_dict() if self._ema is not None else None,
            **self._step.state_dict(),
            "window": self._window.state_dict(),
            "random": generator_states(self._device),
            "seconds": self._seconds,
            "best": self._best,
            "chosen": None if self._chosen is None else self._chosen.state_dict(),
        }

    def _resume(self) -> None:
        state, complaints = self._checkpoints.latest(self._device)
        for complaint in complaints:
            self._observers.on_message(complaint)
        if state is None:
            return
        try:
            self._restore(state)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:  # another network or optimizer, other fields
            if isinstance(explain(error), TrainingError):  # no memory for it
                raise
            raise refuse_other(self._checkpoints.path(state["step"]), state, error) from error
        self._task.set_trainable(self._done)
        self._step.rebuild()
        self._observers.on_message(f"Resuming {self._run.path} after step {self._done} of {self.cadence.total}.")

    def _restore(self, state: dict[str, Any]) -> None:
        self._task.load_state_dict(state["task"])
        if self._ema is not None:
            self._ema.load_state_dict(state["ema"])
        self._step.load_state_dict(state)
        self._window.load_state_dict(state["window"])
        restore_generators(state["random"], self._world.rank, self._device)
        if self._chosen is not None:
            self._chosen.load_state_dict(state["chosen"])
        self._done, self._seconds, self._best = state["step"], state["seconds"], state["best"]
