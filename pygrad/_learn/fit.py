"""fit: training a module on arrays, recorded underneath.

A batch's loss and gradient are one program over lanes; an optimizer's update is one call of C. The module's Values
get their numbers when training ends, even by an exception.
"""

from __future__ import annotations

import os
from pathlib import Path
from time import perf_counter
from typing import Any, Callable

from pygrad._core.bars import need_tqdm
from pygrad._core.trees import need_numpy
from pygrad._learn import checkpoint as checkpoints
from pygrad._learn.cluster import Shards, Step, is_lazy
from pygrad._learn.data import need_targets, one_hot, split, with_shapes
from pygrad._learn.history import Best, History
from pygrad._learn.losses import LOSSES
from pygrad._learn.module import Module, name_of, numbers_of
from pygrad._record.derivatives import value_and_grad
from pygrad._record.function import jit
from pygrad._record.vmap import vmap
from pygrad.optim import SGD, Adam, AdamW, Optimizer

__all__ = ["History", "fit"]

_OPTIMIZERS = {"sgd": SGD, "adam": Adam, "adamw": AdamW}


def _optimizer(optimizer: Any, parameters: Any, lr: float | None) -> Optimizer:
    if isinstance(optimizer, str):
        if optimizer not in _OPTIMIZERS:
            raise ValueError(
                f"optimizer={optimizer!r}: must be one of {', '.join(map(repr, _OPTIMIZERS))}, or a function"
            )
        optimizer = _OPTIMIZERS[optimizer]
    made = optimizer(parameters) if lr is None else optimizer(parameters, lr=lr)
    if not isinstance(made, Optimizer):
        raise TypeError(f"optimizer: {optimizer!r} returned {made!r}, not a pygrad.optim.Optimizer")
    return made


def _loss(loss: str | Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    if not isinstance(loss, str):
        return loss
    if loss not in LOSSES:
        raise ValueError(f"loss={loss!r}: must be one of {', '.join(map(repr, LOSSES))}, or a function")
    return LOSSES[loss]


def fit(
    model: Module,
    X: Any,
    y: Any,
    *,
    loss: str | Callable[[Any, Any], Any] = "mse",
    optimizer: str | Callable[..., Optimizer] = "adam",
    lr: float | None = None,
    epochs: int = 100,
    batch_size: int | None = 32,
    validation: tuple[Any, Any] | float | None = None,
    patience: int | None = None,
    l2: float = 0.0,
    shuffle: bool = True,
    seed: int = 0,
    progress: bool = False,
    workers: int = 1,
    client: Any = None,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
) -> History:
    """Train `model` on samples X, shape (n, inputs), with targets y, shape (n,) or (n, outputs).

    loss: 'mse', 'cross_entropy' (y: class numbers), 'binary_cross_entropy' (y: 0 and 1, or probabilities), 'hinge' (y:
    -1 and 1), or a function of a sample's output
    and target, both Values. fit minimises its mean over a batch plus l2 times the sum of squares of the parameters.
    optimizer: 'sgd', 'adam', 'adamw', or a function from an array to an optimizer, such as Adam; lr: its learning rate.
    batch_size=None: all samples at once. validation: (X, y), or the share of samples, taken from the end, to set aside.
    patience: stop after this many epochs without a better validation loss (without validation, training loss), and
    keep the best parameters.

    The same seed gives the same numbers for any `workers`. client: a dask.distributed.Client; its workers share each
    batch, and their number does not change the results. X and y may then be Dask arrays: their chunks stay where they
    are, with one task for each. progress: a bar (tqdm) with loss and rate. Ctrl-C stops training and keeps the progress
    made. checkpoint: a file, written after every epoch; with resume=True training continues from it if it exists, with
    the same results as an uninterrupted run.

    Returns a History of losses. Raises ValueError if samples and targets do not fit the model, contain nan, or have
    labels out of range; FloatingPointError if the loss becomes nan or infinite, naming epoch, step and parameters.

    >>> from pygrad import nn
    >>> history = fit(nn.MLP(1, [1]), [[0.0], [1.0]], [1.0, 3.0], epochs=500, lr=0.1)
    >>> history.loss[-1] < 1e-3
    True
    """
    loss = next((name for name, known in LOSSES.items() if loss is known), loss)
    function = _loss(loss)
    if client is not None and is_lazy(X):
        held = split(*validation, None)[:2] if isinstance(validation, tuple) else None
        if held is None and validation is not None:
            raise ValueError(f"validation={validation!r}: for Dask arrays it must be a pair of NumPy arrays")
    else:
        X, y, held = split(X, y, validation)
    if epochs < 0:
        raise ValueError(f"epochs={epochs}: must not be negative")
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size={batch_size}: must be at least 1, or None for all samples at once")
    if resume and checkpoint is None:
        raise ValueError("resume=True needs checkpoint=, the file to resume from")
    w = numbers_of(model)
    classes = None
    if loss == "cross_entropy" and y.ndim == 1:
        out = model.predict(need_numpy().zeros((1, X.shape[1])))
        classes = out.shape[1] if out.ndim == 2 else 1
        y = y if client is not None else one_hot(y, classes)
        held = None if held is None else (held[0], one_hot(held[1], classes, "validation's y"))
    if client is None:
        need_targets(loss, y)
    if held is not None:
        need_targets(loss, held[1], "validation's y")
    training = _Training(model, w, _optimizer(optimizer, w, lr), X, y, held, workers)
    training.record(function, l2, None if client is None else Shards(client, X, y, classes, loss))
    file = None if checkpoint is None else Path(checkpoint)
    if resume and file is not None and file.exists():
        training.resume(file)
    size = len(X) if batch_size is None else min(batch_size, len(X))
    training.run(epochs, size, seed if shuffle else None, patience, file, progress)
    return training.history


class _Training:
    """The state of a running fit: the parameters as an array, and the progress."""

    def __init__(
        self, model: Module, w: Any, optimizer: Optimizer, X: Any, y: Any, held: tuple[Any, Any] | None, workers: int
    ) -> None:
        self.model, self.w, self.optimizer = model, w, optimizer
        self.X, self.y, self.held = X, y, held
        self.workers = workers
        self.history, self.best = History(), Best(float("inf"), 0, w.copy())
        self.done = 0  # in epochs

    def record(self, loss: Callable[[Any, Any], Any], l2: float, shards: Shards | None = None) -> None:
        """Make the functions for the loss and its gradient. They are recorded on their first call."""
        call = self.model.function()

        def sample(w: Any, x: Any, t: Any) -> Any:
            return loss(call(w, x), t)

        def data_loss(w: Any, X: Any, y: Any) -> Any:
            return vmap(sample, in_axes=(None, 0, 0), reduce="mean")(w, X, y)

        def objective(w: Any, X: Any, y: Any) -> Any:
            return data_loss(w, X, y) + l2 * sum(p * p for p in w) if l2 else data_loss(w, X, y)

        if shards is not None:
            first = shards.first()
            self.step = with_shapes(Step, "X", self.X)(shards, sample, l2, (self.w, *first))
        else:
            step = with_shapes(value_and_grad(objective, workers=self.workers), "X", self.X)
            self.step = lambda w, batch: step(w, self.X[batch], self.y[batch])
        held = self.X if self.held is None else self.held[0]
        self.measure = with_shapes(jit(data_loss, workers=self.workers), "validation's X", held)

    def resume(self, file: Path) -> None:
        """Resume from a checkpoint. Raises ValueError, with nothing changed, if it is damaged or another model's."""
        self.done, self.best = checkpoints.load(file, self.w, self.optimizer, self.history)

    def run(
        self, epochs: int, size: int, seed: int | None, patience: int | None, file: Path | None, progress: bool
    ) -> None:
        """Train until all epochs are done, until `patience` epochs bring no improvement, or until Ctrl-C."""
        history = self.history
        start = perf_counter() - (history.seconds[-1] if history.seconds else 0.0)
        shown = need_tqdm()(total=epochs, initial=self.done, unit="epoch") if progress else None
        try:
            for epoch in range(self.done, epochs):
                history.loss.append(self.epoch(epoch, size, seed))
                history.seconds.append(perf_counter() - start)
                if self.held is not None:
                    history.validation.append(self.measure(self.w, *self.held))
                now = history.validation[-1] if self.held is not None else history.loss[-1]
                if now < self.best.loss:
                    self.best = Best(now, epoch, self.w.copy())
                if shown is not None:
                    rate = len(self.X) * (epoch + 1) / history.seconds[-1]
                    shown.update(1)
                    shown.set_postfix({"loss": f"{now:.4g}", "samples/s": f"{rate:,.0f}"})
                if file is not None:
                    checkpoints.save(file, self.w, self.optimizer, history, epoch + 1, self.best)
                if patience is not None and epoch - self.best.epoch >= patience:
                    history.stopped = "early"
                    self.w[:] = self.best.w
                    break
            history.stopped = history.stopped or "finished"
        except KeyboardInterrupt:
            history.stopped = "interrupted"
        finally:
            if shown is not None:
                shown.close()
            for p, number in zip(self.model.parameters(), self.w.tolist()):
                p.data = number

    def epoch(self, number: int, size: int, seed: int | None) -> float:
        """Train on all samples once, in batches, shuffled by the seed. Returns their mean loss."""
        np = need_numpy()
        count = len(self.X)
        order = np.arange(count) if seed is None else np.random.default_rng([seed, number]).permutation(count)
        total = 0.0
        for k in range(0, count, size):
            batch = order[k : k + size]
            value, grads = self.step(self.w, batch)
            if not np.isfinite(value) or not np.isfinite(grads).all():
                raise FloatingPointError(_why(self.model, self.w, value, grads, number, k // size))
            self.optimizer.step(grads)
            total += value * len(batch)
        return total / count


def _why(model: Module, w: Any, value: float, grads: Any, epoch: int, k: int) -> str:
    """The message for a loss or grads that are not finite."""
    np = need_numpy()
    text = f"epoch {epoch + 1}, step {k + 1}: the loss is {value}"
    odd = np.flatnonzero(~np.isfinite(w) if not np.isfinite(w).all() else ~np.isfinite(grads))
    if odd.size:
        what = "grad" if np.isfinite(w).all() else "value"
        text += (
            f", and {odd.size} of {w.size} parameters have no finite {what}, the first in {name_of(model, int(odd[0]))}"
        )
    return text + ": a smaller lr, or inputs of about 1, may help; the model keeps its parameters from before this step"
