"""Recorded functions of Dask arrays: one program for each chunk, and sums over chunks as a tree. All of it is lazy.

What Dask may lose, it computes again from the graph: so a worker may die. The order of additions is that of the chunks,
so results do not depend on the workers.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import math
import pickle
import sys
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from pygrad._core.trees import Tracer, need_numpy, tree_flatten, tree_shapes, tree_spread, tree_unflatten

_FAN_IN = 8  # partial sums that one task adds
_arrived: OrderedDict[bytes, Any] = OrderedDict()  # functions that this process has unpickled, by digest
_MOST_ARRIVED = 64


def dask_module(name: str) -> Any:
    """A module of Dask's, or of what it needs. Raises an ImportError that says how to install it."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ImportError("this needs Dask: pip install 'pygrad-engine[dask]'") from None


def _array_type() -> Any:
    """Dask's type of arrays, if the program uses it."""
    return getattr(sys.modules.get("dask.array"), "Array", None)


def _inside(x: Any) -> Iterator[Any]:
    if isinstance(x, (list, tuple, dict)):
        for y in x.values() if isinstance(x, dict) else x:
            yield from _inside(y)
    else:
        yield x


def has_chunks(args: Any, keywords: Any) -> bool:
    """Whether there is a Dask array among a call's arguments."""
    kind = _array_type()
    return kind is not None and any(isinstance(x, kind) for x in _inside([args, keywords]))


class _Lazy(Tracer):
    """A Dask array, as a leaf of a tree."""

    def __init__(self, array: Any) -> None:
        self.array, self.shape, self.ndim = array, array.shape, array.ndim


def _wrapped(x: Any) -> Any:
    if isinstance(x, _array_type()):
        return _Lazy(x)
    if isinstance(x, dict):
        return {key: _wrapped(y) for key, y in x.items()}
    if type(x) in (list, tuple):
        return type(x)([_wrapped(y) for y in x])
    return x


def over_chunks(function: Any, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    """The result of a recorded function, a tree of Dask arrays."""
    make, of, name, record, workers, static, options = function._made_by
    kind = type(function)
    if name == "jit" and static is None and isinstance(of, kind):
        return over_chunks(of, args, keywords)
    derived = name in ("grad", "value_and_grad") and isinstance(of, kind) and of._name == "vmap"
    mapped = of if derived else function
    if mapped._name != "vmap" or not (record and mapped._made_by[3]) or (derived and not _is_sum(of, options)):
        raise TypeError(
            f"{function!r} of a Dask array: only vmap(f), and grad and value_and_grad of vmap(f, reduce='sum') or "
            "reduce='mean', run chunk by chunk, recorded and without has_aux; compute the array, or map such a function"
        )
    given = _Arguments(mapped, args, keywords)
    reduce = mapped._made_by[6]["reduce"]
    part = function.derived.get("chunk")
    if part is None:
        part = _with(mapped, reduce=reduce and "sum")
        if derived:
            part = kind(make, part, name, record, workers, static, **options)
        part = function.derived.setdefault("chunk", part)
    places = _places(part, given, reduce, name if derived else None, options.get("argnums"))
    scale = 1.0 / given.count if reduce == "mean" else 1.0
    tasks = given.tasks(part, [scale if axis is not None and reduce else None for axis in places.axes])
    return places.joined(tasks, given.sizes, scale)


def _is_sum(mapped: Any, options: dict[str, Any]) -> bool:
    return mapped._made_by[6]["reduce"] is not None and not options["has_aux"]


def _with(function: Any, **changed: Any) -> Any:
    """The same recorded function with other options."""
    make, of, name, record, workers, static, options = function._made_by
    return type(function)(make, of, name, record, workers, static, **{**options, **changed})


class _Arguments:
    """A call's arguments, and the chunks of the axis that is mapped over."""

    def __init__(self, mapped: Any, args: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        in_axes = mapped._made_by[6]["in_axes"]
        axes = list(in_axes) if isinstance(in_axes, (list, tuple)) else [in_axes] * len(args)
        if len(axes) != len(args):
            raise ValueError(f"in_axes={in_axes!r} is for {len(axes)} arguments; there are {len(args)}")
        self.names = sorted(keywords)
        self.leaves: list[Any] = []
        self.structures: list[Any] = []
        self.axes: list[int | None] = []
        self.owners: list[int] = []  # the argument that a leaf is in
        for i, (x, axis) in enumerate([*zip(args, axes), *[(keywords[name], 0) for name in self.names]]):
            leaves, structure = tree_flatten(_wrapped(x))
            self.structures.append(structure)
            self.axes += tree_spread(axis, structure, f"argument {i}: in_axes")
            self.leaves += leaves
            self.owners += [i] * len(leaves)
        self.count, self.sizes = self._chunks()

    def _chunks(self) -> tuple[int, tuple[int, ...]]:
        """The length of the mapped axis, and its chunks: those of the first Dask array that is mapped over."""
        lengths = {}
        sizes: Any = None
        for k, (leaf, axis) in enumerate(zip(self.leaves, self.axes)):
            if axis is None:
                continue
            if not hasattr(leaf, "shape") or not -leaf.ndim <= axis < leaf.ndim:
                raise ValueError(
                    f"argument {self.owners[k]}: in_axes={axis}, but its shape is {getattr(leaf, 'shape', ())}"
                )
            if isinstance(leaf, _Lazy) and math.isnan(sum(leaf.shape)):
                raise ValueError(
                    f"argument {self.owners[k]}: Dask does not know the lengths of its chunks; "
                    "x.compute_chunk_sizes() finds them"
                )
            lengths[k] = leaf.shape[axis]
            if sizes is None and isinstance(leaf, _Lazy):
                sizes = leaf.array.chunks[axis]
        if len(set(lengths.values())) > 1:
            found = ", ".join(f"argument {self.owners[k]}: {n}" for k, n in lengths.items())
            raise ValueError(f"the mapped axes differ in length: {found}")
        count = next(iter(lengths.values()), 0)
        sizes = (count,) if sizes is None else tuple([n for n in sizes if n])
        if not count:  # nothing that is mapped over, or nothing in it
            raise ValueError("vmap over an axis of length 0: there is no slice to call the function with")
        return count, sizes

    def stand_ins(self) -> tuple[list[Any], dict[str, Any]]:
        """Arguments of the first chunk's shapes, without numbers."""
        np = need_numpy()
        leaves = []
        for leaf, axis in zip(self.leaves, self.axes):
            shape = list(getattr(leaf, "shape", ()))
            if axis is not None:
                shape[axis] = self.sizes[0]
            leaves.append(np.broadcast_to(0.0, shape) if shape else 0.0)
        return self.call(leaves)

    def call(self, leaves: list[Any]) -> tuple[list[Any], dict[str, Any]]:
        return _arguments(self.structures, self.names, leaves)

    def tasks(self, part: Any, scales: list[float | None]) -> _Graph:
        """A task for each chunk, for its results. Whole arguments, and the function, are nodes of their own."""
        whole = [leaf for leaf, axis in zip(self.leaves, self.axes) if not _travels(leaf, axis)]
        travel = [_travels(leaf, axis) for leaf, axis in zip(self.leaves, self.axes)]
        function, shared = Shipped(part), _Shared(whole, self.structures, self.names, travel, scales)
        common = f"pygrad-function-{_token(function)}", f"pygrad-arguments-{_token(shared)}"
        graph = _Graph(dict(zip(common, (function, shared))))
        columns = [
            self._pieces(leaf, axis, graph) for leaf, axis, comes in zip(self.leaves, self.axes, travel) if comes
        ]
        graph.name = f"pygrad-{part._name}-{_token([common, columns])}"
        graph.keys = [(graph.name, k) for k in range(len(self.sizes))]
        graph.tasks.update(zip(graph.keys, [(_run_chunk, *common, *pieces) for pieces in zip(*columns)]))
        return graph

    def _pieces(self, leaf: Any, axis: int | None, graph: _Graph) -> list[Any]:
        """The keys of a leaf's pieces, one for each chunk."""
        if isinstance(leaf, _Lazy):
            split: dict[int, Any] = dict.fromkeys(range(leaf.ndim), -1)
            if axis is not None:
                split[axis % leaf.ndim] = self.sizes
            array = leaf.array.rechunk(split)
            graph.sources.append(array)
            keys = [*dask_module("dask.core").flatten(array.__dask_keys__())]
            return keys if axis is not None else keys * len(self.sizes)
        name, start = f"pygrad-slices-{_token((leaf, axis, self.sizes))}", 0
        for k, n in enumerate(self.sizes):
            graph.tasks[name, k] = leaf[(slice(None),) * (axis % leaf.ndim) + (slice(start, start + n),)]
            start += n
        return [(name, k) for k in range(len(self.sizes))]


class _Graph:
    """Dask's tasks: the chunks', with what they need."""

    def __init__(self, tasks: dict[Any, Any]) -> None:
        self.tasks = tasks
        self.sources: list[Any] = []  # arrays that the tasks read
        self.name = ""
        self.keys: list[Any] = []

    def chosen(self, places: list[int]) -> list[Any]:
        """The keys of the results at these places alone, with 0 at the others."""
        name = self.name.replace("pygrad-", "pygrad-some-", 1)
        self.tasks.update({(name, k): (_some, key, places) for k, key in enumerate(self.keys)})
        return [(name, k) for k in range(len(self.keys))]

    def add(self, parts: list[Any], scale: float) -> Any:
        """The key of a sum of parts, of their keys."""
        key = self.name.replace("pygrad-", "pygrad-sum-", 1), len(self.tasks)
        self.tasks[key] = (add, list(parts), scale)
        return key

    def array(
        self, number: int, shape: tuple[int, ...], axis: int | None, sizes: tuple[int, ...], keys: list[Any]
    ) -> Any:
        """The Dask array of the results' leaf of a number; its chunks, along `axis`, are those of `keys`."""
        name = f"{self.name.replace('pygrad-', 'pygrad-result-', 1)}-{number}"
        chunks = tuple([sizes if i == axis else (n,) for i, n in enumerate(shape)])
        places = [tuple([k if i == axis else 0 for i in range(len(shape))]) for k in range(len(keys))]
        own = {(name, *place): (_at, key, number) for place, key in zip(places, keys)}
        kind = dask_module("dask.highlevelgraph").HighLevelGraph
        below = kind.from_collections(self.name, self.tasks, dependencies=self.sources)
        graph = kind({**below.layers, name: own}, {**below.dependencies, name: {self.name}})
        return dask_module("dask.array").Array(graph, name, chunks, dtype="d")


def _travels(leaf: Any, axis: int | None) -> bool:
    return axis is not None or isinstance(leaf, _Lazy)


def _token(x: Any) -> str:
    return str(dask_module("dask.base").tokenize(x))


def _arguments(structures: list[Any], names: list[str], leaves: list[Any]) -> tuple[list[Any], dict[str, Any]]:
    args = list(tree_unflatten(("tuple", *structures), leaves))
    first = len(args) - len(names)
    return args[:first], dict(zip(names, args[first:]))


class _Shared:
    """What all chunks' tasks need of a call."""

    def __init__(self, *parts: Any) -> None:
        self.parts = parts

    def __dask_tokenize__(self) -> Any:
        return dask_module("dask.base").normalize_token(("pygrad-shared", self.parts))


class Shipped:
    """A recorded function, pickled once, and unpickled once by each process that runs it."""

    def __init__(self, function: Any) -> None:
        self.data = dask_module("cloudpickle").dumps(function)
        self.digest = hashlib.blake2b(self.data, digest_size=16).digest()

    def __dask_tokenize__(self) -> Any:
        return "pygrad-function", self.digest.hex()

    def function(self) -> Any:
        found = _arrived.get(self.digest)
        if found is None:
            found = _arrived.setdefault(self.digest, pickle.loads(self.data))
            while len(_arrived) > _MOST_ARRIVED:
                _arrived.popitem(last=False)
        return found


def _run_chunk(shipped: Shipped, shared: _Shared, *pieces: Any) -> list[Any]:
    """A chunk's results, leaf by leaf."""
    whole, structures, names, travel, scales = shared.parts
    rest, coming = iter(whole), iter(pieces)
    leaves = [next(coming) if comes else next(rest) for comes in travel]
    args, keywords = _arguments(structures, names, leaves)
    results = tree_flatten(shipped.function()(*args, **keywords))[0]
    return [x if scale is None else x * scale for x, scale in zip(results, scales)]


def add(parts: list[list[Any]], scale: float = 1.0) -> list[Any]:
    """Sums of lists of numbers and arrays, place by place, in order."""
    sums = [functools.reduce(lambda a, b: a + b, places) for places in zip(*parts)]
    return sums if scale == 1.0 else [x * scale for x in sums]


def _some(results: list[Any], places: list[int]) -> list[Any]:
    """The results that are summed, and 0 for the others."""
    return [x if k in places else 0.0 for k, x in enumerate(results)]


def tree_sum(parts: list[Any], submit: Any, scale: float = 1.0) -> Any:
    """The sum of partial sums; `submit(parts, scale)` adds a few of them."""
    while len(parts) > _FAN_IN:
        parts = [submit(parts[k : k + _FAN_IN], 1.0) for k in range(0, len(parts), _FAN_IN)]
    return submit(parts, scale)


class _Places:
    """The leaves of a result: each is a sum over chunks, or has an axis along which chunks are joined."""

    def __init__(self, structure: Any, axes: list[int | None]) -> None:
        self.structure, self.axes = structure, axes
        self.shapes = [() if shape is None else tuple(shape) for shape in tree_shapes(structure)]

    def joined(self, graph: _Graph, sizes: tuple[int, ...], scale: float) -> Any:
        summed = [k for k, axis in enumerate(self.axes) if axis is None]
        parts = graph.keys if len(summed) == len(self.axes) else graph.chosen(summed)
        total = [tree_sum(parts, graph.add, scale)] if summed else []
        return tree_unflatten(
            self.structure,
            [
                graph.array(k, shape, axis, sizes, total if axis is None else graph.keys)
                for k, (shape, axis) in enumerate(zip(self.shapes, self.axes))
            ],
        )


def _at(results: list[Any], k: int) -> Any:
    return need_numpy().asarray(results[k])


def _places(part: Any, given: _Arguments, reduce: Any, derived: str | None, argnums: Any) -> _Places:
    """What the chunks' results are. Records the function for the first chunk, so that its errors come here."""
    args, keywords = given.stand_ins()
    structure = part.program(*args, **keywords).code.structure_out
    shapes = tree_shapes(structure)
    if reduce is None:
        axes = tree_spread(part._made_by[6]["out_axes"], structure, "out_axes")
        if any(axis is None for axis in axes):
            raise ValueError(
                "out_axes=None of a Dask array: each chunk would have a result of its own; give it an axis"
            )
        return _Places(structure, [axis % len(shape) for axis, shape in zip(axes, shapes)])
    if derived is None:
        return _Places(structure, [None] * len(shapes))
    chosen = [argnums] if isinstance(argnums, int) else list(argnums)
    axes = [None] if derived == "value_and_grad" else []
    for i in chosen:
        owner = i % len(args)
        axes += [
            None if axis is None else axis % leaf.ndim
            for leaf, axis, own in zip(given.leaves, given.axes, given.owners)
            if own == owner
        ]
    return _Places(structure, axes)
