"""pygrad: reverse-mode automatic differentiation of scalar Python code.

micrograd's API at C's speed: `from pygrad.engine import Value`, `from pygrad.nn import MLP`. Recorded functions, named
as in JAX: `from pygrad import grad, jit, vmap`.
"""

from importlib.metadata import version

from pygrad import _support  # noqa: F401  (first: it says in one sentence what can't be)
from pygrad.checking import GradcheckError, detect_anomaly, gradcheck
from pygrad.custom import custom_op
from pygrad.draw import draw_dot, trace
from pygrad.engine import Value, collect, dot, tape_stats
from pygrad.explore import explore
from pygrad.graph import label_from, to_json, to_mermaid, to_networkx, to_text
from pygrad.math import clip, maximum, minimum, where
from pygrad.program import Program
from pygrad.scopes import scope
from pygrad.training import fit
from pygrad.transforms import (
    RecordingError,
    grad,
    hessian,
    hvp,
    jacobian,
    jit,
    jvp,
    leaves,
    value_and_grad,
    vjp,
    vmap,
)

__all__ = [
    "GradcheckError",
    "Program",
    "RecordingError",
    "Value",
    "clip",
    "collect",
    "custom_op",
    "detect_anomaly",
    "dot",
    "draw_dot",
    "explore",
    "fit",
    "grad",
    "gradcheck",
    "hessian",
    "hvp",
    "jacobian",
    "jit",
    "jvp",
    "label_from",
    "leaves",
    "maximum",
    "minimum",
    "scope",
    "tape_stats",
    "to_json",
    "to_mermaid",
    "to_networkx",
    "to_text",
    "trace",
    "value_and_grad",
    "vjp",
    "vmap",
    "where",
]
__version__ = version("pygrad")
