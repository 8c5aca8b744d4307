"""Optimisers, with PyTorch's names, defaults and arithmetic; a step is one call into C.

They update Values from their grads after backward(). They also take NumPy arrays, single or nested in lists, tuples
and dicts, and update them in place: `optimizer.step(grads)`, with the grads that value_and_grad returned.

`state_dict()` returns their state as plain Python objects, and `load_state_dict()` restores it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from pygrad._core.errors import check, shown
from pygrad._core.numbers import as_number, way_out
from pygrad._core.trees import as_float64, is_array, real_number, tree_flatten
from pygrad._pgr import ffi, lib
from pygrad.engine import TAPE, Value

__all__ = ["SGD", "Adam", "AdamW", "Optimizer"]


def _parameters(params: Any, kind: str) -> tuple[bool, list[Any], Any]:
    """(whether they are arrays, the list of them, their nesting). `kind` is the optimizer's name, for errors."""
    for part in (params, *(params if isinstance(params, (list, tuple)) else ())):
        if callable(getattr(part, "parameters", None)):
            way = "model.parameters()" if part is params else "[*model.parameters(), ...]"
            raise TypeError(f"params: {shown(part)} is of type {type(part).__name__}: write {kind}({way})")
    if callable(params):
        raise TypeError(f"params: {shown(params)} is not called yet: write {kind}(model.parameters())")
    if not hasattr(type(params), "__iter__"):
        raise TypeError(f"params: {shown(params)} is of type {type(params).__name__}: pass a list, {kind}([x])")
    if not is_array(params) and not isinstance(params, dict):
        params = params if isinstance(params, (list, tuple)) else list(params)
    found, structure = tree_flatten(params)
    of_arrays = any(is_array(p) for p in found)
    for p in found:
        if of_arrays and not (is_array(p) and p.dtype == float and p.flags.c_contiguous and p.flags.writeable):
            what = f"an array of {p.dtype}" if is_array(p) else f"of type {type(p).__name__}"
            raise TypeError(
                f"params: {p!r} is {what}; arrays are updated in place: C-contiguous, writeable float64 ones"
            )
        if not of_arrays and not isinstance(p, Value):
            raise TypeError(
                f"params: {p!r} is of type {type(p).__name__}; an optimizer's parameters are Values or arrays"
            )
    return of_arrays, found, structure


def _is_finite(x: Any) -> bool:
    try:
        return isinstance(x, (bool, int, float)) and math.isfinite(x)
    except OverflowError:  # an int beyond float64
        return False


class Optimizer:
    """Base of the optimisers: parameters, settings, a step count and arrays of state.

    params: Values, or C-contiguous float64 arrays, in any nesting; at least one, each only once. The optimizer keeps
    them alive. Raises TypeError for other parameters, ValueError for a setting out of its range.

    >>> SGD([Value(1.0)])
    SGD(1 parameters, lr=0.001, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False, maximize=False)
    """

    _buffers: dict[str, Any]

    def __init__(self, params: Any, settings: Mapping[str, float], buffers: Iterable[str]) -> None:
        self._of_arrays, self.params, self._structure = _parameters(params, type(self).__name__)
        if not self.params:
            raise ValueError(
                "params is empty: there is nothing to optimize; return the Values of a Module from its parameters()"
            )
        seen: dict[Any, int] = {}
        for i, p in enumerate(self.params):
            first = seen.setdefault(id(p) if self._of_arrays else p, i)
            if first < i:
                raise ValueError(
                    f"params has the same parameter twice, as number {first} and {i}: it would be updated twice a step"
                )
        self._sizes = [p.size if self._of_arrays else 1 for p in self.params]
        self._handles = None if self._of_arrays else ffi.new("pgr_handle[]", [p._handle for p in self.params])
        self._buffers = {name: ffi.new("double[]", sum(self._sizes)) for name in buffers}
        self._settings = dict(settings)
        self._check()
        self._step = 0

    def __getattr__(self, name: str) -> Any:
        # Settings are attributes, so that assigning opt.lr changes the next step.
        settings = self.__dict__.get("_settings", {})
        if name in settings:
            return settings[name]
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}; its settings are {', '.join(settings)}")

    def __setattr__(self, name: str, value: Any) -> None:
        settings = self.__dict__.get("_settings", {})
        if name not in settings:
            super().__setattr__(name, value)
            return
        before = settings[name]
        settings[name] = value
        try:
            self._check()
        except (TypeError, ValueError):
            settings[name] = before
            raise

    def _check(self) -> None:
        for name, value in self._settings.items():
            found = None if isinstance(value, Value) else as_number(value)
            if found is None:
                raise TypeError(f"{name}={shown(value)}: must be a number, not {type(value).__name__}{way_out(value)}")
            if not isinstance(value, (bool, int, float)):
                self._settings[name] = found
            if not isinstance(value, bool) and not found >= 0.0:
                raise ValueError(f"{name}={value!r}: must not be negative")

    def _update(self, step: int) -> int:
        raise NotImplementedError

    def _update_array(self, step: int, size: int, data: Any, grad: Any, at: int) -> None:
        """Update one array; its state starts at index `at` of the buffers."""
        raise NotImplementedError

    def step(self, grads: Any = None) -> None:
        """Update every parameter: Values from their grads; arrays from `grads`, of the same structure and shapes.

        Raises ValueError, with nothing changed, if `grads` has another structure or other shapes.

        >>> w = Value(1.0)
        >>> opt = SGD([w], lr=0.1)
        >>> (w * 5.0).backward(); opt.step(); w.data
        0.5
        """
        if not self._of_arrays:
            if grads is not None:
                raise TypeError("step() of Values takes no grads: each Value has its own")
            check(self._update(self._step + 1))
        else:
            if grads is None:
                raise TypeError("step(grads): the parameters are arrays; pass their grads")
            given, structure = tree_flatten(grads)
            if structure != self._structure:
                raise ValueError("step(grads): grads must have the structure and the shapes of the parameters")
            at = 0
            for p, g, size in zip(self.params, map(as_float64, given), self._sizes):
                data = ffi.from_buffer("double[]", p, require_writable=True)
                self._update_array(self._step + 1, size, data, ffi.from_buffer("double[]", g), at)
                at += size
        self._step += 1

    def zero_grad(self) -> None:
        """Set every parameter's grad to 0. Arrays have no grads, so there it does nothing."""
        if self._handles is not None:
            check(lib.pgr_h_zero_grads(TAPE, len(self.params), self._handles))

    def state_dict(self) -> dict[str, Any]:
        """Settings, step count and state, as numbers and lists of numbers."""
        return {
            "settings": dict(self._settings),
            "step": self._step,
            "buffers": {name: list(buffer) for name, buffer in self._buffers.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state from `state_dict()`. Raises ValueError, with nothing changed, for another optimizer's."""
        buffers, settings, step = state["buffers"], state["settings"], state["step"]
        if set(buffers) != set(self._buffers) or set(settings) != set(self._settings):
            raise ValueError(f"not the state of {type(self).__name__} with these settings")
        for name, value in settings.items():
            if isinstance(value, bool) != isinstance(self._settings[name], bool) or not _is_finite(value):
                raise ValueError(f"{name}={value!r}: not a setting of {type(self).__name__}")
        if isinstance(step, bool) or not isinstance(step, int) or not 0 <= step < 2**53:
            raise ValueError(f"step={step!r}: must be a whole number of steps, from 0 on")
        for name, numbers in buffers.items():
            if len(numbers) != sum(self._sizes):
                raise ValueError(f"{name} has {len(numbers)} numbers; there are {sum(self._sizes)} parameters")
        new = {name: ffi.new("double[]", [real_number(x, name) for x in numbers]) for name, numbers in buffers.items()}
        before = self._settings
        self.__dict__["_settings"] = dict(state["settings"])
        try:
            self._check()
        except (TypeError, ValueError):
            self.__dict__["_settings"] = before
            raise
        self._buffers, self._step = new, step

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in self._settings.items())
        return f"{type(self).__name__}({sum(self._sizes)} parameters, {settings})"


class SGD(Optimizer):
    """Stochastic gradient descent, with optional momentum; the arguments of torch.optim.SGD.

    Raises ValueError for arguments out of range and for no parameters, TypeError for what is not a parameter.
    Source: Sutskever et al., On the importance of initialization and momentum in deep learning, ICML 2013.

    >>> w = Value(1.0)
    >>> w.grad = 2.0
    >>> SGD([w], lr=0.25).step(); w.data
    0.5
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        settings = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
        }
        super().__init__(params, settings, ["momentum_buffer"])

    def _check(self) -> None:
        super()._check()
        if self.nesterov and (self.momentum <= 0.0 or self.dampening != 0.0):
            raise ValueError("nesterov=True needs a momentum above 0 and a dampening of 0")

    def _update(self, step: int) -> int:
        options = ffi.new("pgr_sgd *", self._settings)
        buffer = self._buffers["momentum_buffer"] if self.momentum != 0.0 else ffi.NULL
        return int(lib.pgr_h_sgd(TAPE, len(self.params), self._handles, options, step, buffer))

    def _update_array(self, step: int, size: int, data: Any, grad: Any, at: int) -> None:
        options = ffi.new("pgr_sgd *", self._settings)
        buffer = self._buffers["momentum_buffer"] + at if self.momentum != 0.0 else ffi.NULL
        lib.pgr_sgd_array(size, data, grad, options, step, buffer)


class Adam(Optimizer):
    """Adam, with the arguments of torch.optim.Adam: weight_decay is added to the grad.

    Raises ValueError for arguments out of range and for no parameters, TypeError for what is not a parameter.
    Source: Kingma & Ba, Adam: A method for stochastic optimization, ICLR 2015, Algorithm 1; amsgrad: Reddi et
    al., On the convergence of Adam and beyond, ICLR 2018, Algorithm 2.

    >>> w = Value(1.0)
    >>> w.grad = 2.0
    >>> Adam([w], lr=0.5).step(); round(w.data, 6)
    0.5
    """

    _decoupled = False

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        beta1, beta2 = betas
        settings = {
            "lr": lr,
            "beta1": beta1,
            "beta2": beta2,
            "eps": eps,
            "weight_decay": weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, settings, ["exp_avg", "exp_avg_sq", *(["max_exp_avg_sq"] if amsgrad else [])])

    def _check(self) -> None:
        super()._check()
        for name in ("beta1", "beta2"):
            if not self._settings[name] < 1.0:
                raise ValueError(f"{name}={self._settings[name]!r}: must lie in [0, 1)")

    def _update(self, step: int) -> int:
        options = ffi.new("pgr_adam *", {**self._settings, "decoupled": self._decoupled})
        m, v, *v_max = self._buffers.values()
        v_max = v_max[0] if v_max else ffi.NULL
        return int(lib.pgr_h_adam(TAPE, len(self.params), self._handles, options, step, m, v, v_max))

    def _update_array(self, step: int, size: int, data: Any, grad: Any, at: int) -> None:
        options = ffi.new("pgr_adam *", {**self._settings, "decoupled": self._decoupled})
        m, v, *v_max = [buffer + at for buffer in self._buffers.values()]
        lib.pgr_adam_array(size, data, grad, options, step, m, v, v_max[0] if v_max else ffi.NULL)


class AdamW(Adam):
    """Adam with weight decay decoupled from the grad; the arguments and defaults of torch.optim.AdamW.

    Raises ValueError for arguments out of range and for no parameters, TypeError for what is not a parameter.
    Source: Loshchilov & Hutter, Decoupled weight decay regularization, ICLR 2019, Algorithm 2.

    >>> w = Value(1.0)
    >>> w.grad = 2.0
    >>> AdamW([w], lr=0.5, weight_decay=0.1).step(); round(w.data, 6)
    0.45
    """

    _decoupled = True

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize)
