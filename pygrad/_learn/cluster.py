"""fit(client=): the steps of a training as tasks of a Dask cluster.

Samples stay on the workers, in shards. A step sends large parameters once, and to each shard the numbers of its samples
in the batch; the shards' sums of losses and gradients are added as a tree. The scheduler keeps what makes each shard,
so a worker may die. A shard's samples are padded to a power of two, by samples of weight 0: few programs are recorded.
"""

from __future__ import annotations

from typing import Any, Callable

from pygrad._core.trees import need_numpy
from pygrad._learn.data import need_targets, one_hot, rows
from pygrad._record.chunks import SMALL, Shipped, add, dask_module, narrowed
from pygrad._record.derivatives import value_and_grad
from pygrad._record.vmap import vmap

SHARDS = 8  # of NumPy arrays: more workers than these would wait


def is_lazy(x: Any) -> bool:
    """Whether it is a Dask array, as far as fit is concerned."""
    return hasattr(x, "dask") and hasattr(x, "chunks")


class Shards:
    """Samples and targets on a cluster's workers."""

    def __init__(self, client: Any, X: Any, y: Any, classes: int | None = None, loss: Any = None) -> None:
        """X and y: NumPy arrays, or Dask arrays with one chunk along the other axis. classes: y is class numbers."""
        if not hasattr(client, "submit") or not hasattr(client, "gather"):
            raise TypeError(f"client={client!r}: must be a dask.distributed.Client")
        if is_lazy(X) != is_lazy(y):
            raise TypeError("X and y: with client=, both must be Dask arrays, or neither")
        self.client = client
        lengths = _lengths(X, y) if is_lazy(X) else _even(len(X))
        if is_lazy(X):
            y = y.rechunk({0: lengths, 1: -1} if y.ndim == 2 else {0: lengths})
            pieces = zip(X.rechunk({1: -1}).to_delayed().ravel().tolist(), y.to_delayed().ravel().tolist())
        self.starts = [sum(lengths[:k]) for k in range(len(lengths) + 1)]
        self.count = self.starts[-1]
        if is_lazy(X):
            make = dask_module("dask.delayed").delayed(_shard, pure=True)
            self.shards = client.compute(
                [make(a, b, classes, loss, start) for (a, b), start in zip(pieces, self.starts)]
            )
        else:
            self.shards = [
                client.submit(_shard, X[a:b], y[a:b], classes, loss, a, pure=False)
                for a, b in zip(self.starts, self.starts[1:])
            ]

    def first(self) -> tuple[Any, Any]:
        """The first sample and its target, as arrays of one. Raises what is wrong with any shard."""
        firsts = [self.client.submit(_first, shard, pure=False) for shard in self.shards]
        results = [first.result() for first in firsts]
        x, y = results[0]
        return x, y

    def totals(self, function: Any, w: Any, batch: Any) -> list[Any]:
        """Sums over the batch's samples of what `function(w, X, y, weights)` returns, a list."""
        np = need_numpy()
        whose = np.searchsorted(self.starts, batch, side="right") - 1
        parameters = w if w.nbytes <= SMALL else self.client.submit(_itself, w, pure=False)
        parts = []
        for k, shard in enumerate(self.shards):
            own = batch[whose == k] - self.starts[k]
            if len(own):
                parts.append(self.client.submit(_part, function, parameters, shard, own, pure=False))

        def total(some: list[Any]) -> Any:
            return self.client.submit(_sum, some, pure=False)

        result: list[Any] = total(narrowed(parts, total)).result()
        return result


def _lengths(X: Any, y: Any) -> tuple[int, ...]:
    if X.ndim != 2 or y.ndim not in (1, 2):
        raise ValueError(f"X has shape {X.shape} and y {y.shape}: X must have 2 dimensions, y 1 or 2, samples first")
    if any(n != n for n in (*X.shape, *y.shape)):
        raise ValueError("X, y: Dask does not know the lengths of their chunks; x.compute_chunk_sizes() finds them")
    if X.shape[0] != y.shape[0]:
        raise ValueError(f"X has {X.shape[0]} samples and y {y.shape[0]}; their numbers must be equal")
    found: tuple[int, ...] = X.chunks[0]
    return found


def _even(count: int) -> tuple[int, ...]:
    size = -(-count // SHARDS)
    return tuple([min(size, count - first) for first in range(0, count, size)])


def _shard(X: Any, y: Any, classes: int | None, loss: Any, start: int) -> tuple[Any, Any]:
    name = f" from sample {start} on" if start else ""
    X = rows(f"X{name}", X, (2,))
    if classes is not None:
        return X, one_hot(y, classes, f"y{name}")
    return X, need_targets(loss, rows(f"y{name}", y, (1, 2)), f"y{name}")


def _first(shard: tuple[Any, Any]) -> tuple[Any, Any]:
    return shard[0][:1], shard[1][:1]


def _itself(x: Any) -> Any:
    return x


def _sum(parts: list[list[Any]]) -> list[Any]:
    return add(parts)


def _part(function: Shipped, w: Any, shard: tuple[Any, Any], own: Any) -> list[Any]:
    np = need_numpy()
    length = max(8, 1 << (len(own) - 1).bit_length())
    padded, weights = np.full(length, own[0]), np.zeros(length)
    padded[: len(own)] = own
    weights[: len(own)] = 1.0
    value, grads = function.function()(w, shard[0][padded], shard[1][padded], weights)
    return [value, grads]


class Step:
    """The loss of a batch and its gradient, as value_and_grad of the objective would return them."""

    def __init__(self, shards: Shards, sample: Callable[[Any, Any, Any], Any], l2: float, example: Any) -> None:
        def data_loss(w: Any, X: Any, y: Any, weights: Any) -> Any:
            return vmap(weighted, in_axes=(None, 0, 0, 0), reduce="sum")(w, X, y, weights)

        def weighted(w: Any, x: Any, t: Any, weight: Any) -> Any:
            return sample(w, x, t) * weight

        self.shards, self.l2 = shards, l2
        recorded = value_and_grad(data_loss)
        np = need_numpy()
        w, x, y = example
        recorded.program(w, np.repeat(x, 8, 0), np.repeat(y, 8, 0), np.ones(8))  # errors come here, not from a task
        self.function = shards.client.submit(_itself, Shipped(recorded), pure=False)

    def __call__(self, w: Any, batch: Any) -> tuple[float, Any]:
        value, grads = self.shards.totals(self.function, w.copy(), batch)
        value, grads = value / len(batch), grads / len(batch)
        if self.l2:
            value, grads = value + self.l2 * float((w * w).sum()), grads + 2.0 * self.l2 * w
        return float(value), grads
