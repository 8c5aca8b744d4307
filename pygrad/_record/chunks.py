"""Recorded functions of Dask arrays: one program for each chunk, and sums over chunks as a tree. All of it is lazy.

Dask takes milliseconds for each task, and for each step from one task to the next, so there are few of both. The tasks
of chunks are a Blockwise layer, into which Dask fuses what makes the chunks. They carry small arguments themselves. A
single task makes a whole sum: a value and all its gradients.

What Dask may lose, it computes again from the graph: so a worker may die. The order of additions is that of the chunks,
so results do not depend on the workers.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import itertools
import math
import operator
import pickle
import sys
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any, Callable, NamedTuple

from pygrad._core.trees import Tracer, need_numpy, tree_flatten, tree_shapes, tree_spread, tree_unflatten

_FAN_IN = 8  # partial sums that one task adds
SMALL = 1 << 16  # bytes of a function and its arguments that every task may carry
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
    if isinstance(x, (list, tuple, dict, _Together)):
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
    if type(x) in (list, tuple, _Together):
        return (list if type(x) is list else tuple)([_wrapped(y) for y in x])
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
    chunks = given.tasks(part, [scale if axis is not None and reduce else None for axis in places.axes])
    return places.joined(chunks, given.sizes, scale)


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

    def tasks(self, part: Any, scales: list[float | None]) -> _Layer:
        """A task for each chunk, for its results, leaf by leaf."""
        is_cut = [axis is not None or isinstance(leaf, _Lazy) for leaf, axis in zip(self.leaves, self.axes)]
        whole = [leaf for leaf, cut in zip(self.leaves, is_cut) if not cut]
        call = _Call(Shipped(part), whole, self.structures, self.names, is_cut, scales)
        arrays = [self._cut(leaf, axis) for leaf, axis, cut in zip(self.leaves, self.axes, is_cut) if cut]
        axes = [axis for axis, cut in zip(self.axes, is_cut) if cut]
        return _chunk_layer(f"pygrad-{part._name.replace('_', '-')}", call, arrays, axes, len(self.sizes))

    def _cut(self, leaf: Any, axis: int | None) -> Any:
        """A leaf as a Dask array with one chunk, or the call's chunks along the mapped axis."""
        chunks: list[Any] = [-1] * leaf.ndim
        if axis is not None:
            chunks[axis] = self.sizes
        if isinstance(leaf, _Lazy):
            return leaf.array.rechunk(tuple(chunks))
        return dask_module("dask.array").from_array(leaf, chunks=tuple(chunks))


class _Layer(NamedTuple):
    """The last layer of a Dask graph: its name, and the keys that others read."""

    graph: Any
    name: str
    keys: list[Any]

    def add(self, name: str, tasks: dict[Any, Any], keys: list[Any]) -> _Layer:
        """The same with one more layer, which reads this one."""
        kind = dask_module("dask.highlevelgraph").HighLevelGraph
        graph = kind({**self.graph.layers, name: tasks}, {**self.graph.dependencies, name: {self.name}})
        return _Layer(graph, name, keys)

    def narrowed(self) -> _Layer:
        """A layer with few keys, whose sum is that over this one's keys."""
        name = self.name.replace("pygrad-", "pygrad-sum-", 1)
        tasks: dict[Any, Any] = {}

        def put(some: list[Any]) -> Any:
            key = name, len(tasks)
            tasks[key] = (add, some)
            return key

        keys = narrowed(self.keys, put)
        return self.add(name, tasks, keys) if tasks else self

    def total(self, function: Callable[[list[Any]], Any]) -> _Layer:
        """A layer with one key: what the function, _total, makes of this one's results."""
        name = self.name.replace("pygrad-", "pygrad-total-", 1)
        return self.add(name, {(name, 0): (function, self.keys)}, [(name, 0)])

    def array(self, number: int, shape: tuple[int, ...], axis: int | None, sizes: tuple[int, ...]) -> Any:
        """The Dask array of the results' leaf of a number; its chunks, along `axis`, are those of the keys.

        Its name begins as this one's: so Dask, which fuses its tasks with those that they read, needs no alias.
        """
        name = f"{self.name.rpartition('-')[0]}-{_token([self.name, number])}"
        chunks = tuple([sizes if i == axis else (n,) for i, n in enumerate(shape)])
        places = [tuple([k if i == axis else 0 for i in range(len(shape))]) for k in range(len(self.keys))]
        tasks = {(name, *place): (_at, key, number) for place, key in zip(places, self.keys)}
        return dask_module("dask.array").Array(self.add(name, tasks, []).graph, name, chunks, dtype="d")


def _chunk_layer(kind: str, call: _Call, arrays: list[Any], axes: list[int | None], count: int) -> _Layer:
    """The tasks of `count` chunks; axes: of each array, the one that is mapped over."""
    graphs, token = dask_module("dask.highlevelgraph").HighLevelGraph, _token([call, [x.name for x in arrays]])
    name, pairs = f"{kind}-{token}", []
    others = itertools.count(1)  # numbers of axes with one chunk; the axis that is mapped over is number 0
    for x, axis in zip(arrays, axes):
        mapped = None if axis is None else axis % x.ndim
        pairs += [x.name, tuple([0 if k == mapped else next(others) for k in range(x.ndim)])]
    first: list[Any] = [call, None]
    if call.size() > SMALL:  # a task of its own: an array without axes
        own = f"pygrad-call-{token}"
        first = [own, ()]
        graph = graphs.from_collections(own, {(own,): call})
        arrays = [*arrays, dask_module("dask.array").Array(graph, own, (), dtype="O")]
    indices = range(next(others))
    blocks = {x.name: x.numblocks for x in arrays}
    tasks = dask_module("dask.blockwise").blockwise(_run_chunk, name, indices, *first, *pairs, numblocks=blocks)
    graph = graphs.from_collections(name, tasks, dependencies=arrays)
    return _Layer(graph, name, [(name, k, *[0] * len(indices[1:])) for k in range(count)])


def _token(x: Any) -> str:
    return str(dask_module("dask.base").tokenize(x))


def _arguments(structures: list[Any], names: list[str], leaves: list[Any]) -> tuple[list[Any], dict[str, Any]]:
    args = list(tree_unflatten(("tuple", *structures), leaves))
    first = len(args) - len(names)
    return args[:first], dict(zip(names, args[first:]))


class _Call:
    """What all chunks' tasks need of a call."""

    def __init__(self, function: Shipped, whole: list[Any], *parts: Any) -> None:
        """whole: the leaves that are the same for all chunks."""
        self.function, self.whole, self.parts = function, whole, parts

    def __dask_tokenize__(self) -> Any:
        parts = self.function.digest.hex(), self.whole, self.parts
        return dask_module("dask.base").normalize_token(("pygrad-call", parts))

    def size(self) -> int:
        return len(self.function.data) + sum([getattr(x, "nbytes", 8) for x in self.whole])


class Shipped:
    """A recorded function, pickled once, and unpickled once by each process that runs it."""

    def __init__(self, function: Any) -> None:
        self.data = dask_module("cloudpickle").dumps(function)
        self.digest = hashlib.blake2b(self.data, digest_size=16).digest()

    def function(self) -> Any:
        found = _arrived.get(self.digest)
        if found is None:
            found = _arrived.setdefault(self.digest, pickle.loads(self.data))
            while len(_arrived) > _MOST_ARRIVED:
                _arrived.popitem(last=False)
        return found


def _run_chunk(call: _Call, *pieces: Any) -> list[Any]:
    """A chunk's results, leaf by leaf."""
    structures, names, is_cut, scales = call.parts
    rest, coming = iter(call.whole), iter(pieces)
    leaves = [next(coming) if cut else next(rest) for cut in is_cut]
    args, keywords = _arguments(structures, names, leaves)
    results = tree_flatten(call.function.function()(*args, **keywords))[0]
    return [x if scale is None else x * scale for x, scale in zip(results, scales)]


def add(parts: list[list[Any]], scale: float = 1.0) -> list[Any]:
    """Sums of lists of numbers and arrays, place by place, in order."""
    sums = [functools.reduce(lambda a, b: a + b, places) for places in zip(*parts)]
    return sums if scale == 1.0 else [x * scale for x in sums]


def _some(results: list[Any], places: list[int]) -> list[Any]:
    """The results that are summed, and 0 for the others."""
    return [x if k in places else 0.0 for k, x in enumerate(results)]


def narrowed(parts: list[Any], submit: Callable[[list[Any]], Any]) -> list[Any]:
    """Parts of a sum, few enough for one task to add; `submit(parts)` adds a few of them."""
    while len(parts) > _FAN_IN:
        parts = [submit(parts[k : k + _FAN_IN]) for k in range(0, len(parts), _FAN_IN)]
    return parts


def _total(structure: Any, scale: float, parts: list[list[Any]]) -> Any:
    return tree_unflatten(structure, add(parts, scale))


class _Together(Sequence[Any]):
    """A tuple of sums, Dask arrays, which Dask takes as one thing: then the task that Dask ends with makes all of it.

    It is no tuple, because Dask takes these apart.
    """

    def __init__(self, items: tuple[Any, ...], places: _Places, parts: _Layer, total: Callable[..., Any]) -> None:
        self._items, self._places, self._parts, self._total = items, places, parts, total
        self._arrays = [*_inside(items)]  # lists within may change

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, i: Any) -> Any:
        return self._items[i]

    def __repr__(self) -> str:
        return repr(self._items)

    def _changed(self) -> Any:
        """None, or what computes the items if they are others by now."""
        now = [*_inside(self._items)]
        if len(now) == len(self._arrays) and all(map(operator.is_, now, self._arrays)):
            return None
        name = f"pygrad-changed-{_token(self._items)}"
        return dask_module("dask.delayed").delayed(self._items, name=name)

    def __dask_graph__(self) -> Any:
        changed = self._changed()
        return self._parts.graph if changed is None else changed.__dask_graph__()

    def __dask_keys__(self) -> Any:
        changed = self._changed()
        return self._parts.keys if changed is None else changed.__dask_keys__()

    def __dask_layers__(self) -> Any:
        changed = self._changed()
        return (self._parts.name,) if changed is None else changed.__dask_layers__()

    def __dask_tokenize__(self) -> Any:
        return "pygrad-together", _token(self._items)

    def __dask_postcompute__(self) -> Any:
        changed = self._changed()
        return (self._total, ()) if changed is None else changed.__dask_postcompute__()

    def __dask_postpersist__(self) -> Any:
        changed = self._changed()
        if changed is not None:
            return changed.__dask_postpersist__()
        return _persisted, (self._places, self._parts.name, self._parts.keys, self._total)

    @property
    def __dask_optimize__(self) -> Any:
        return dask_module("dask.array").Array.__dask_optimize__

    @property
    def __dask_scheduler__(self) -> Any:
        return dask_module("dask.array").Array.__dask_scheduler__


def _persisted(graph: Any, places: _Places, name: str, keys: list[Any], total: Any, rename: Any = None) -> Any:
    """The tuple of which a graph has the parts."""
    name = (rename or {}).get(name, name)
    graph = dask_module("dask.highlevelgraph").HighLevelGraph.from_collections(name, graph)
    return places.together(_Layer(graph, name, [(name, *key[1:]) for key in keys]), total)


class _Places:
    """The leaves of a result: each is a sum over chunks, or has an axis along which chunks are joined."""

    def __init__(self, structure: Any, axes: list[int | None]) -> None:
        self.structure, self.axes = structure, axes
        self.shapes = [() if shape is None else tuple(shape) for shape in tree_shapes(structure)]

    def joined(self, chunks: _Layer, sizes: tuple[int, ...], scale: float) -> Any:
        summed = [k for k, axis in enumerate(self.axes) if axis is None]
        function = functools.partial(_total, self.structure, scale)
        if len(summed) == len(self.axes):
            return self.together(chunks.narrowed(), function)
        if summed:
            name = chunks.name.replace("pygrad-", "pygrad-some-", 1)
            tasks = {(name, k): (_some, key, summed) for k, key in enumerate(chunks.keys)}
            total = chunks.add(name, tasks, [*tasks]).narrowed().total(function)
        leaves = [
            (total if axis is None else chunks).array(k, shape, axis, sizes)
            for k, (shape, axis) in enumerate(zip(self.shapes, self.axes))
        ]
        return tree_unflatten(self.structure, leaves)

    def together(self, parts: _Layer, function: Callable[..., Any]) -> Any:
        """The tree of sums that the function, _total, makes of parts."""
        total = parts.total(function)
        arrays = [total.array(k, shape, None, ()) for k, shape in enumerate(self.shapes)]
        result = tree_unflatten(self.structure, arrays)
        return _Together(result, self, parts, function) if type(result) is tuple else result


def _at(results: Any, k: int) -> Any:
    return need_numpy().asarray(tree_flatten(results)[0][k])


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
