"""The types of the transforms, for type checkers; the functions themselves are in the modules beside this one.

A recorded function has the parameters of the function that it was made of: annotate numbers as float, arrays as
NDArray[np.float64], here as in the function. What the function computes of them are Values; results are floats and
arrays.
"""

from collections.abc import Callable, Sequence
from typing import Any, Generic, Literal, Protocol, SupportsFloat, overload

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Concatenate, ParamSpec, TypedDict, TypeVar, TypeVarTuple, Unpack

from pygrad._program.program import Program
from pygrad.engine import Value

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
X = TypeVar("X", bound=Any, default=Any)
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
F = TypeVar("F", bound=Callable[..., Any])
Ts = TypeVarTuple("Ts")
Scalar = SupportsFloat | Value
Argnums = int | Sequence[int]
Array = NDArray[np.float64]
Tree = float | NDArray[Any] | list[Any] | tuple[Any, ...] | dict[Any, Any] | None
Reduce = Literal["sum", "mean"]
Kept = int | Literal["auto"] | None

class Recorded(Generic[P, R_co]):
    """A recorded function: the parameters P, and results of type R."""

    cache_size: int
    __name__: str
    __wrapped__: Callable[P, Any]
    @property
    def programs(self) -> list[Program]: ...
    def program(self, *args: Any, **keywords: Any) -> Program: ...
    def __call__(self, *args: P.args, **keywords: P.kwargs) -> R_co: ...
    @overload
    def __get__(self, self_: None, owner: Any = ..., /) -> Recorded[P, R_co]: ...
    @overload
    def __get__(self: Recorded[Concatenate[Any, Q], R_co], self_: Any, owner: Any = ..., /) -> Recorded[Q, R_co]: ...

class Derived(Recorded[P, R_co]):
    """The same, of a derivative by the first argument; as a method's, by the first one after self."""

    @overload
    def __get__(self, self_: None, owner: Any = ..., /) -> Derived[P, R_co]: ...
    @overload
    def __get__(self: Derived[Concatenate[Any, Q], Any], self_: Any, owner: Any = ..., /) -> Recorded[Q, Any]: ...

class Mapped(Recorded[P, R_co]):
    """The same, of vmap: each argument may be an array of what the function takes."""

    @overload
    def __call__(self, *args: P.args, **keywords: P.kwargs) -> R_co: ...
    @overload
    def __call__(self, *args: Tree, **keywords: Tree) -> R_co: ...
    @overload
    def __get__(self, self_: None, owner: Any = ..., /) -> Mapped[P, R_co]: ...
    @overload
    def __get__(self: Mapped[Concatenate[Any, Q], R_co], self_: Any, owner: Any = ..., /) -> Mapped[Q, R_co]: ...

# ---- jit -------------------------------------------------------------------------------------------

class Jit(Protocol):
    @overload
    def __call__(self, fn: Callable[P, Value], /) -> Recorded[P, float]: ...
    @overload
    def __call__(self, fn: Callable[P, R], /) -> Recorded[P, R]: ...

@overload
def jit(
    fn: Callable[P, Value],
    static_argnums: int | Sequence[int] | None = ...,
    static_argnames: str | Sequence[str] | None = ...,
    *,
    record: bool = ...,
    workers: int = ...,
) -> Recorded[P, float]: ...
@overload
def jit(
    fn: Callable[P, R],
    static_argnums: int | Sequence[int] | None = ...,
    static_argnames: str | Sequence[str] | None = ...,
    *,
    record: bool = ...,
    workers: int = ...,
) -> Recorded[P, R]: ...
@overload
def jit(
    fn: None = ...,
    static_argnums: int | Sequence[int] | None = ...,
    static_argnames: str | Sequence[str] | None = ...,
    *,
    record: bool = ...,
    workers: int = ...,
) -> Jit: ...

# ---- grad ------------------------------------------------------------------------------------------

class Grad(Protocol):
    def __call__(self, fn: Callable[P, Any], /) -> Recorded[P, Any]: ...

@overload
def grad(
    fn: Callable[Concatenate[X, P], Scalar], argnums: Literal[0] = ..., *, record: bool = ..., workers: int = ...
) -> Derived[Concatenate[X, P], X]: ...
@overload
def grad(
    fn: Callable[P, Scalar], argnums: Sequence[int], *, record: bool = ..., workers: int = ...
) -> Recorded[P, tuple[Any, ...]]: ...
@overload
def grad(fn: Callable[P, Scalar], argnums: int, *, record: bool = ..., workers: int = ...) -> Recorded[P, Any]: ...
@overload
def grad(
    fn: Callable[P, tuple[Scalar, A]],
    argnums: Argnums = ...,
    has_aux: Literal[True] = ...,
    *,
    record: bool = ...,
    workers: int = ...,
) -> Recorded[P, tuple[Any, A]]: ...
@overload
def grad(
    fn: None = ...,
    argnums: Argnums = ...,
    has_aux: bool = ...,
    *,
    record: bool = ...,
    workers: int = ...,
) -> Grad: ...
@overload
def value_and_grad(
    fn: Callable[Concatenate[X, P], Scalar], argnums: Literal[0] = ..., *, record: bool = ..., workers: int = ...
) -> Derived[Concatenate[X, P], tuple[float, X]]: ...
@overload
def value_and_grad(
    fn: Callable[P, Scalar], argnums: Sequence[int], *, record: bool = ..., workers: int = ...
) -> Recorded[P, tuple[float, tuple[Any, ...]]]: ...
@overload
def value_and_grad(
    fn: Callable[P, Scalar], argnums: int, *, record: bool = ..., workers: int = ...
) -> Recorded[P, tuple[float, Any]]: ...
@overload
def value_and_grad(
    fn: Callable[P, tuple[Scalar, A]],
    argnums: Argnums = ...,
    has_aux: Literal[True] = ...,
    *,
    record: bool = ...,
    workers: int = ...,
) -> Recorded[P, tuple[tuple[float, A], Any]]: ...
@overload
def value_and_grad(
    fn: None = ...,
    argnums: Argnums = ...,
    has_aux: bool = ...,
    *,
    record: bool = ...,
    workers: int = ...,
) -> Grad: ...

# ---- vmap ------------------------------------------------------------------------------------------

class Vmap(Protocol):
    @overload
    def __call__(self, fn: Callable[P, Scalar], /) -> Mapped[P, Array]: ...
    @overload
    def __call__(self, fn: Callable[P, Any], /) -> Mapped[P, Any]: ...

class Reduced(Protocol):
    @overload
    def __call__(self, fn: Callable[P, Value], /) -> Mapped[P, float]: ...
    @overload
    def __call__(self, fn: Callable[P, R], /) -> Mapped[P, R]: ...

@overload
def vmap(
    fn: Callable[P, Scalar],
    in_axes: Any = ...,
    out_axes: Any = ...,
    *,
    reduce: None = ...,
    record: bool = ...,
    workers: int = ...,
) -> Mapped[P, Array]: ...
@overload
def vmap(
    fn: Callable[P, Any],
    in_axes: Any = ...,
    out_axes: Any = ...,
    *,
    reduce: None = ...,
    record: bool = ...,
    workers: int = ...,
) -> Mapped[P, Any]: ...
@overload
def vmap(
    fn: Callable[P, Value],
    in_axes: Any = ...,
    out_axes: Any = ...,
    *,
    reduce: Reduce,
    record: bool = ...,
    workers: int = ...,
) -> Mapped[P, float]: ...
@overload
def vmap(
    fn: Callable[P, R],
    in_axes: Any = ...,
    out_axes: Any = ...,
    *,
    reduce: Reduce,
    record: bool = ...,
    workers: int = ...,
) -> Mapped[P, R]: ...
@overload
def vmap(
    fn: None = ...,
    in_axes: Any = ...,
    out_axes: Any = ...,
    *,
    reduce: None = ...,
    record: bool = ...,
    workers: int = ...,
) -> Vmap: ...
@overload
def vmap(
    fn: None = ...,
    in_axes: Any = ...,
    out_axes: Any = ...,
    *,
    reduce: Reduce,
    record: bool = ...,
    workers: int = ...,
) -> Reduced: ...

# ---- The others ------------------------------------------------------------------------------------

class _Options(TypedDict, total=False):
    record: bool
    workers: int

class _SparseOptions(_Options, total=False):
    sparse: bool

@overload
def jacobian(
    fn: Callable[P, Any], argnums: Argnums = ..., has_aux: bool = ..., **options: Unpack[_SparseOptions]
) -> Recorded[P, Any]: ...
@overload
def jacobian(
    fn: None = ..., argnums: Argnums = ..., has_aux: bool = ..., **options: Unpack[_SparseOptions]
) -> Grad: ...

hessian = jacobian

@overload
def jacrev(
    fn: Callable[P, Any], argnums: Argnums = ..., has_aux: bool = ..., **options: Unpack[_Options]
) -> Recorded[P, Any]: ...
@overload
def jacrev(fn: None = ..., argnums: Argnums = ..., has_aux: bool = ..., **options: Unpack[_Options]) -> Grad: ...

jacfwd = jacrev

def sparsity(fn: Callable[..., Any], *args: Any, argnums: int = ...) -> Any: ...
@overload
def hvp(
    fn: Callable[Concatenate[X, P], Scalar], *, record: bool = ..., workers: int = ...
) -> Recorded[Concatenate[X, X, P], X]: ...
@overload
def hvp(fn: None = ..., *, record: bool = ..., workers: int = ...) -> Grad: ...
@overload
def jvp(
    fn: Callable[..., Value],
    primals: Sequence[Any],
    tangents: Sequence[Any],
    has_aux: Literal[False] = ...,
    *,
    record: bool = ...,
) -> tuple[float, float]: ...
@overload
def jvp(
    fn: Callable[..., R],
    primals: Sequence[Any],
    tangents: Sequence[Any],
    has_aux: Literal[False] = ...,
    *,
    record: bool = ...,
) -> tuple[R, R]: ...
@overload
def jvp(
    fn: Callable[..., tuple[R, A]],
    primals: Sequence[Any],
    tangents: Sequence[Any],
    has_aux: Literal[True],
    *,
    record: bool = ...,
) -> tuple[R, R, A]: ...
@overload
def vjp(
    fn: Callable[..., Value], *primals: Any, has_aux: Literal[False] = ..., record: bool = ...
) -> tuple[float, Callable[[Any], tuple[Any, ...]]]: ...
@overload
def vjp(
    fn: Callable[..., R], *primals: Any, has_aux: Literal[False] = ..., record: bool = ...
) -> tuple[R, Callable[[Any], tuple[Any, ...]]]: ...
@overload
def vjp(
    fn: Callable[..., tuple[R, A]], *primals: Any, has_aux: Literal[True], record: bool = ...
) -> tuple[R, Callable[[Any], tuple[Any, ...]], A]: ...
@overload
def linearize(
    fn: Callable[P, Value], *primals: Any, has_aux: Literal[False] = ..., record: bool = ...
) -> tuple[float, Callable[P, float]]: ...
@overload
def linearize(
    fn: Callable[P, R], *primals: Any, has_aux: Literal[False] = ..., record: bool = ...
) -> tuple[R, Callable[P, R]]: ...
@overload
def linearize(
    fn: Callable[P, tuple[R, A]], *primals: Any, has_aux: Literal[True], record: bool = ...
) -> tuple[R, Callable[P, R], A]: ...

# ---- Control flow ------------------------------------------------------------------------------------

def scan(
    f: Callable[[C, Any], tuple[Any, Any]],
    init: C,
    xs: Tree = ...,
    length: int | None = ...,
    reverse: bool = ...,
    *,
    checkpoint: Kept = ...,
) -> tuple[C, Any]: ...
def fori_loop(lower: Scalar, upper: Scalar, body: Callable[[Any, C], Any], init: C, *, checkpoint: Kept = ...) -> C: ...
def while_loop(
    cond_fun: Callable[[C], Scalar], body_fun: Callable[[C], Any], init: C, *, max_steps: int | None = ...
) -> C: ...
@overload
def cond(pred: Scalar, true_fun: Callable[[], R], false_fun: Callable[[], R]) -> R: ...
@overload
def cond(pred: Scalar, true_fun: Callable[[A], R], false_fun: Callable[[A], R], operand: A, /) -> R: ...
@overload
def cond(pred: Scalar, true_fun: Callable[[A, B], R], false_fun: Callable[[A, B], R], a: A, b: B, /) -> R: ...
@overload
def cond(
    pred: Scalar, true_fun: Callable[[Unpack[Ts]], R], false_fun: Callable[[Unpack[Ts]], R], *operands: Unpack[Ts]
) -> R: ...
@overload
def switch(index: Scalar, branches: Sequence[Callable[[], R]]) -> R: ...
@overload
def switch(index: Scalar, branches: Sequence[Callable[[A], R]], operand: A, /) -> R: ...
@overload
def switch(index: Scalar, branches: Sequence[Callable[[A, B], R]], a: A, b: B, /) -> R: ...
@overload
def switch(index: Scalar, branches: Sequence[Callable[[Unpack[Ts]], R]], *operands: Unpack[Ts]) -> R: ...
@overload
def checkpoint(fn: F, **options: Any) -> F: ...
@overload
def checkpoint(fn: None = ..., **options: Any) -> Callable[[F], F]: ...

# ---- Rules -------------------------------------------------------------------------------------------

class _WithRule(Generic[P, R_co]):
    """A function with a rule for its derivative: it has the parameters and the result of the function."""

    __name__: str
    nondiff_argnums: tuple[int, ...]
    def __init__(self, fun: Callable[P, R_co], nondiff_argnums: Argnums = ...) -> None: ...
    def __call__(self, *args: P.args, **keywords: P.kwargs) -> R_co: ...

class custom_vjp(_WithRule[P, R_co]):  # noqa: N801
    def defvjp(self, fwd: Callable[P, tuple[Any, Any]], bwd: Callable[..., Any]) -> None: ...

class custom_jvp(_WithRule[P, R_co]):  # noqa: N801
    def defjvp(self, rule: F) -> F: ...
    def defjvps(self, *rules: Callable[..., Any] | None) -> None: ...
