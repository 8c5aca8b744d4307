"""pygrad: reverse-mode automatic differentiation of scalar Python code.

micrograd's API at C's speed: `from pygrad.engine import Value`, `from pygrad.nn import MLP`. Transforms of recorded
functions, named as in JAX: `from pygrad import grad, jit, vmap`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from pygrad import engine
from pygrad._core.layer import collect, dot
from pygrad.engine import Value, tape_stats

if TYPE_CHECKING:
    from pygrad import formula as formula, math as math, nn as nn, optim as optim, plot as plot, sklearn as sklearn
    from pygrad._core.anomaly import detect_anomaly
    from pygrad._core.errors import RecordingError
    from pygrad._core.scopes import scope
    from pygrad._core.trees import tree_leaves
    from pygrad._custom import custom_op
    from pygrad._gradcheck import GradcheckError, gradcheck
    from pygrad._learn.fit import fit
    from pygrad._program.program import Program
    from pygrad._record.derivatives import grad, hessian, hvp, jacobian, jvp, value_and_grad, vjp
    from pygrad._record.function import jit
    from pygrad._record.roots import custom_root, fixed_point
    from pygrad._record.rules import custom_jvp, custom_vjp
    from pygrad._record.vmap import vmap
    from pygrad._views.draw import draw_dot, trace
    from pygrad._views.explorer import explore
    from pygrad._views.formats import label_from, to_json, to_mermaid, to_networkx, to_text
    from pygrad.math import clip, maximum, minimum, where

# Names that are imported on first use (PEP 562): graphviz and the rest take longer to load than the engine.
_HOMES = {
    "_core.anomaly": ("detect_anomaly",),
    "_core.errors": ("RecordingError",),
    "_core.scopes": ("scope",),
    "_core.trees": ("tree_leaves",),
    "_custom": ("custom_op",),
    "_gradcheck": ("GradcheckError", "gradcheck"),
    "_learn.fit": ("fit",),
    "_program.program": ("Program",),
    "_record.derivatives": ("grad", "hessian", "hvp", "jacobian", "jvp", "value_and_grad", "vjp"),
    "_record.function": ("jit",),
    "_record.roots": ("custom_root", "fixed_point"),
    "_record.rules": ("custom_jvp", "custom_vjp"),
    "_record.vmap": ("vmap",),
    "_views.draw": ("draw_dot", "trace"),
    "_views.explorer": ("explore",),
    "_views.formats": ("label_from", "to_json", "to_mermaid", "to_networkx", "to_text"),
    "math": ("clip", "maximum", "minimum", "where"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}
_MODULES = {"formula", "math", "nn", "optim", "plot", "sklearn"}
_ELSEWHERE = {"nn": {"MLP", "Layer", "Module", "Neuron"}, "optim": {"SGD", "Adam", "AdamW"}}  # often looked for here

__all__ = [
    "GradcheckError",
    "Program",
    "RecordingError",
    "Value",
    "clip",
    "collect",
    "custom_jvp",
    "custom_op",
    "custom_root",
    "custom_vjp",
    "detect_anomaly",
    "dot",
    "draw_dot",
    "explore",
    "fit",
    "fixed_point",
    "grad",
    "gradcheck",
    "hessian",
    "hvp",
    "jacobian",
    "jit",
    "jvp",
    "label_from",
    "maximum",
    "minimum",
    "scope",
    "tape_stats",
    "to_json",
    "to_mermaid",
    "to_networkx",
    "to_text",
    "trace",
    "tree_leaves",
    "value_and_grad",
    "vjp",
    "vmap",
    "where",
]


if TYPE_CHECKING:
    __version__: str
else:

    def __getattr__(name: str) -> Any:
        if name in _HOME:
            value = getattr(importlib.import_module(f"pygrad.{_HOME[name]}"), name)
        elif name in _MODULES:
            value = importlib.import_module(f"pygrad.{name}")
        elif name == "__version__":
            from importlib.metadata import version

            value = version("pygrad-engine")
        else:
            hint = "".join(f": from pygrad.{home} import {name}" for home, names in _ELSEWHERE.items() if name in names)
            raise AttributeError(f"module 'pygrad' has no attribute {name!r}{hint}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return list(__all__)


def _display(value: Value) -> dict[str, str]:
    from pygrad._views.draw import mimebundle

    return mimebundle(value)


engine.display = _display
