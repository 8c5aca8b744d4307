"""Optimisers of Values, with PyTorch's names, defaults and arithmetic; a step is one call of the C library.

Their state can be saved and loaded: `state_dict()` is plain Python, `load_state_dict()` takes it back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pygrad._errors import check
from pygrad._pgr import ffi, lib
from pygrad.engine import TAPE, Value

__all__ = ["SGD", "Adam", "AdamW", "Optimizer"]


class Optimizer:
    """What optimisers have in common: parameters, settings, a step count and arrays of state.

    params: Values, at least one, none twice. They are kept alive.
    Raises TypeError for what is no Value, ValueError for a setting out of its range.
    """

    _buffers: dict[str, Any]

    def __init__(self, params: Iterable[Value], settings: Mapping[str, float], buffers: Iterable[str]) -> None:
        self.params = list(params)
        for p in self.params:
            if not isinstance(p, Value):
                raise TypeError(f"params: {p!r} is of type {type(p).__name__}; an optimizer's parameters are Values")
        if not self.params:
            raise ValueError("params is empty: there is nothing to optimize")
        if len(set(self.params)) < len(self.params):
            raise ValueError("params has a Value twice: it would be updated twice a step")
        self._handles = ffi.new("pgr_handle[]", [p._handle for p in self.params])
        self._buffers = {name: ffi.new("double[]", len(self.params)) for name in buffers}
        self._settings = dict(settings)
        self._check()
        self._step = 0

    def __getattr__(self, name: str) -> Any:
        # Settings are attributes, so that opt.lr = ... changes the next step.
        settings = self.__dict__.get("_settings", {})
        if name in settings:
            return settings[name]
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

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
            if not isinstance(value, bool) and not value >= 0.0:
                raise ValueError(f"{name}={value!r}: must not be negative")

    def _update(self, step: int) -> int:
        raise NotImplementedError

    def step(self) -> None:
        """Update every parameter's data from its grad."""
        check(self._update(self._step + 1))
        self._step += 1

    def zero_grad(self) -> None:
        """Set every parameter's grad to 0."""
        check(lib.pgr_h_zero_grads(TAPE, len(self.params), self._handles))

    def state_dict(self) -> dict[str, Any]:
        """Settings, step count and state, as numbers and lists of them."""
        return {
            "settings": dict(self._settings),
            "step": self._step,
            "buffers": {name: list(buffer) for name, buffer in self._buffers.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict()` gave. Raises ValueError, with nothing changed, if it is another optimizer's."""
        buffers = state["buffers"]
        if set(buffers) != set(self._buffers) or set(state["settings"]) != set(self._settings):
            raise ValueError(f"not the state of {type(self).__name__} with these settings")
        for name, numbers in buffers.items():
            if len(numbers) != len(self.params):
                raise ValueError(f"{name} has {len(numbers)} numbers; there are {len(self.params)} parameters")
        new = {name: ffi.new("double[]", list(numbers)) for name, numbers in buffers.items()}
        before = self._settings
        self.__dict__["_settings"] = dict(state["settings"])
        try:
            self._check()
        except (TypeError, ValueError):
            self.__dict__["_settings"] = before
            raise
        self._buffers, self._step = new, int(state["step"])

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in self._settings.items())
        return f"{type(self).__name__}({len(self.params)} parameters, {settings})"


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum if asked for; arguments as torch.optim.SGD's.

    Source: Sutskever et al., On the importance of initialization and momentum in deep learning, ICML 2013.
    """

    def __init__(
        self,
        params: Iterable[Value],
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


class Adam(Optimizer):
    """Adam; arguments as torch.optim.Adam's: weight_decay is added to the grad.

    Source: Kingma & Ba, Adam: A method for stochastic optimization, ICLR 2015, Algorithm 1; amsgrad: Reddi et
    al., On the convergence of Adam and beyond, ICLR 2018, Algorithm 2.
    """

    _decoupled = False

    def __init__(
        self,
        params: Iterable[Value],
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


class AdamW(Adam):
    """Adam with weight decay apart from the grad; arguments and defaults as torch.optim.AdamW's.

    Source: Loshchilov & Hutter, Decoupled weight decay regularization, ICLR 2019, Algorithm 2.
    """

    _decoupled = True

    def __init__(
        self,
        params: Iterable[Value],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize)
