"""pygrad: reverse-mode automatic differentiation of scalar Python code.

micrograd's API at C's speed: `from pygrad.engine import Value`, `from pygrad.nn import MLP`. Transforms of recorded
functions, named as in JAX: `from pygrad import grad, jit, vmap`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from pygrad import engine
from pygrad._core.layer import collect as collect, dot as dot
from pygrad.engine import Value as Value, tape_stats as tape_stats

if TYPE_CHECKING:  # what _HOMES and _MODULES name
    from pygrad import (
        formula as formula,
        math as math,
        nn as nn,
        optim as optim,
        plot as plot,
        scipy as scipy,
        sklearn as sklearn,
    )
    from pygrad._core.anomaly import detect_anomaly as detect_anomaly
    from pygrad._core.errors import RecordingError as RecordingError
    from pygrad._core.scopes import scope as scope
    from pygrad._core.tree_nodes import register_tree_node as register_tree_node
    from pygrad._core.trees import (
        tree_flatten as tree_flatten,
        tree_leaves as tree_leaves,
        tree_map as tree_map,
        tree_unflatten as tree_unflatten,
    )
    from pygrad._custom import custom_op as custom_op
    from pygrad._gradcheck import GradcheckError as GradcheckError, gradcheck as gradcheck
    from pygrad._learn.fit import fit as fit
    from pygrad._playground import playground as playground
    from pygrad._program.program import Program as Program
    from pygrad._program.progress import progress as progress
    from pygrad._record.debug import debug_print as debug_print
    from pygrad._record.roots import custom_root as custom_root, fixed_point as fixed_point
    from pygrad._record.signatures import (
        checkpoint as checkpoint,
        cond as cond,
        custom_jvp as custom_jvp,
        custom_vjp as custom_vjp,
        fori_loop as fori_loop,
        grad as grad,
        hessian as hessian,
        hvp as hvp,
        jacfwd as jacfwd,
        jacobian as jacobian,
        jacrev as jacrev,
        jit as jit,
        jvp as jvp,
        linearize as linearize,
        scan as scan,
        sparsity as sparsity,
        switch as switch,
        value_and_grad as value_and_grad,
        vjp as vjp,
        vmap as vmap,
        while_loop as while_loop,
    )
    from pygrad._views.draw import draw_dot as draw_dot, trace as trace
    from pygrad._views.explorer import explore as explore
    from pygrad._views.formats import (
        label_from as label_from,
        to_json as to_json,
        to_mermaid as to_mermaid,
        to_networkx as to_networkx,
        to_text as to_text,
    )
    from pygrad.math import clip as clip, maximum as maximum, minimum as minimum, where as where

    __version__: str
else:
    # Names that are imported on first use (PEP 562): graphviz and the rest take longer to load than the engine.
    _HOMES = {
        "_core.anomaly": ("detect_anomaly",),
        "_core.errors": ("RecordingError",),
        "_core.scopes": ("scope",),
        "_core.tree_nodes": ("register_tree_node",),
        "_core.trees": ("tree_flatten", "tree_leaves", "tree_map", "tree_unflatten"),
        "_custom": ("custom_op",),
        "_gradcheck": ("GradcheckError", "gradcheck"),
        "_learn.fit": ("fit",),
        "_playground": ("playground",),
        "_program.program": ("Program",),
        "_program.progress": ("progress",),
        "_record.debug": ("debug_print",),
        "_record.control": ("checkpoint", "cond", "fori_loop", "scan", "switch", "while_loop"),
        "_record.derivatives": ("grad", "jvp", "linearize", "value_and_grad", "vjp"),
        "_record.function": ("jit",),
        "_record.jacobians": ("hessian", "hvp", "jacfwd", "jacobian", "jacrev", "sparsity"),
        "_record.roots": ("custom_root", "fixed_point"),
        "_record.rules": ("custom_jvp", "custom_vjp"),
        "_record.vmap": ("vmap",),
        "_views.draw": ("draw_dot", "trace"),
        "_views.explorer": ("explore",),
        "_views.formats": ("label_from", "to_json", "to_mermaid", "to_networkx", "to_text"),
        "math": ("clip", "maximum", "minimum", "where"),
    }
    _HOME = {name: home for home, names in _HOMES.items() for name in names}
    _MODULES = {"formula", "math", "nn", "optim", "plot", "scipy", "sklearn"}
    # Often looked for here.
    _ELSEWHERE = {"nn": {"MLP", "Layer", "Module", "Neuron"}, "optim": {"SGD", "Adam", "AdamW"}}

    __all__ = sorted([*_HOME, "Value", "collect", "dot", "tape_stats"])

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
