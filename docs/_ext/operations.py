"""The reference's page of operations, generated from the table that the C library is built of, csrc/ops/pgr_ops.h."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib import pyplot

from pygrad import Value, value_and_grad, vmap
from pygrad._core.ops import OPERATIONS, Operation
from pygrad._views.chain_rule import partial

# What to plot of an operation: from, to, and the second operand. Others are plotted from -3 to 3, with b = 2.
RANGES = {"gamma": (-3.0, 5.0), "lgamma": (-3.0, 5.0), "digamma": (-3.0, 5.0), "polygamma": (0.2, 5.0)}
RANGES |= {"exp": (-3.0, 2.0), "exp2": (-3.0, 2.0), "expm1": (-3.0, 2.0), "log_ndtr": (-5.0, 3.0)}
RANGES |= dict.fromkeys(("log", "log10", "log2", "sqrt"), (0.0, 5.0))
RANGES |= dict.fromkeys(("asin", "acos", "atanh", "erfinv"), (-1.0, 1.0))
RANGES |= {"acosh": (1.0, 5.0), "log1p": (-1.0, 4.0), "logit": (0.0, 1.0), "ndtri": (0.0, 1.0), "powc": (-2.0, 2.0)}
WITH = {"leaky_relu": 0.1, "elu": 1.0, "powc": 3.0, "polygamma": 1.0, "pick": 1.0, "keep": 1.0, "gate": 1.0}
# An example's operands; others are at 0.5, and 2.
AT = {"acosh": (1.5,), "polygamma": (1.0, 0.5), "powc": (0.5, 3.0), "leaky_relu": (-0.5, 0.1), "elu": (-0.5, 1.0)}


def page(folder: Path) -> str:
    """The Markdown of the table and of one section for each row; their plots go to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = "\n".join(_row(row) for row in OPERATIONS)
    sections = "\n".join(_section(row, folder) for row in OPERATIONS)
    return (
        f"The {len(OPERATIONS)} operations; `a` and `b` are the operands, `v` is the result.\n\n"
        "| method | in drawings | what it is | ∂/∂a | ∂/∂b |\n| --- | --- | --- | --- | --- |\n"
        f"{rows}\n\n## One by one\n\n{sections}"
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*").replace("_", "\\_")


def _partials(row: Operation) -> list[str]:
    if not row.operands:
        return ["0", ""]
    names = ("a", "b", "v")
    return [partial(row.op, 0, names), partial(row.op, 1, names) if row.is_binary else ""]


def _row(row: Operation) -> str:
    by_a, by_b = (f"`{text}`".replace("|", "\\|") if text else "" for text in _partials(row))
    return f"| [{row.name}](#op-{row.name}) | `{row.symbol}` | {_cell(row.doc)} | {by_a} | {by_b} |"


def _section(row: Operation, folder: Path) -> str:
    _plot(row, folder / f"{row.name}.svg")
    operands = AT.get(row.name, (0.5, 2.0))
    a, rest = Value(operands[0]), operands[1:2] if row.is_binary or row.has_param else ()
    result = getattr(a, row.name)(*rest)
    result.backward()
    call = f"Value({operands[0]}).{row.name}({', '.join(map(str, rest))})"
    lines = [
        f"(op-{row.name})=",
        f"### {row.name}".replace("_", "\\_"),
        "",
        _cell(row.doc),
        "",
        f"![{row.name} and its derivative](/_generated/{row.name}.svg)",
        "",
        f"`{call}` is `{result.data!r}`, its derivative by `a` `{a.grad!r}`. In C: `{row.c}`.",
    ]
    if row.rule:
        lines.append(f"Outside its domain it raises an error: {row.rule}.")
    return "\n".join(lines) + "\n"


def _plot(row: Operation, path: Path) -> None:
    low, high = RANGES.get(row.name, (-3.0, 3.0))
    xs = np.linspace(low, high, 601)
    if row.is_binary:
        b = WITH.get(row.name, 2.0)
        first_is_order = row.name in ("polygamma", "pick", "keep", "gate")

        def f(x: Value) -> Value:
            if first_is_order:
                return getattr(Value(b), row.name)(x)
            return getattr(x, row.name)(b)

        title = f"{row.name}({b:g}, x)" if first_is_order else f"{row.name}(x, {b:g})"
    else:
        parameter = (WITH[row.name],) if row.has_param else ()

        def f(x: Value) -> Value:
            return getattr(x, row.name)(*parameter)

        title = f"{row.name}({', '.join(['x', *(f'{p:g}' for p in parameter)])})"
    values, slopes = vmap(value_and_grad(f))(xs)
    with matplotlib.rc_context({"svg.hashsalt": "pygrad", "font.size": 9, "svg.fonttype": "path"}):
        figure, axes = pyplot.subplots(figsize=(5, 2.6))
        seen = np.concatenate([values, slopes])
        seen = seen[np.isfinite(seen)]
        bottom, top = np.clip([seen.min(), seen.max()], -6, 6)
        margin = 0.05 * (top - bottom) or 0.5
        for numbers, label, style in ((values, title, "-"), (slopes, "its derivative by x", "--")):
            with np.errstate(invalid="ignore"):
                jumps = np.abs(np.diff(numbers, append=numbers[-1])) > 8  # a pole is no line
            axes.plot(xs, np.where(jumps, np.nan, numbers), style, label=label)
        axes.set(xlabel="x", ylim=(bottom - margin, top + margin))
        axes.axhline(0, color="gray", linewidth=0.5)
        axes.legend(loc="best")
        figure.tight_layout()
        figure.savefig(path, metadata={"Date": None})
        pyplot.close(figure)
