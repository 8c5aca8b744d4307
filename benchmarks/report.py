"""What a run found, as RESULTS.md and as a plot."""

from __future__ import annotations

import platform
import statistics
import subprocess
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from benchmarks.peers import FAST, PEERS
from benchmarks.run import PHASES, SEED, total

OURS = "pygrad"


def machine() -> dict[str, str]:
    """Where this is: processor, cores, system, Python, compiler, date."""
    processor = platform.processor()
    cores = "?"
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        processor, cores = (models[0], str(len(models))) if models else (processor, cores)
    except OSError:
        pass
    gcc = subprocess.run(["gcc", "--version"], capture_output=True, text=True, check=False).stdout.split("\n")[0]
    return {
        "processor": f"{processor}, {cores} cores",
        "system": platform.platform(),
        "Python": platform.python_version(),
        "compiler": gcc or "none",
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "seed": str(SEED),
    }


def median(row: dict[str, Any]) -> float:
    """Seconds of a step."""
    return statistics.median(map(total, row["times"]))


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def figure(x: float) -> str:
    """Three digits, without exponents."""
    return f"{x:,.0f}" if abs(x) >= 100 else f"{x:.3g}"


def steps(rows: dict[str, Any], unit: str) -> str:
    """A row a peer: its phases' medians, the step's minimum and median, and how many times pygrad's that is."""
    ours = rows.get(OURS)
    reference = median(ours) / ours.get("nodes", 1) if ours and "times" in ours else None
    measured, missing = [], []
    for name, row in rows.items():
        if "times" not in row:
            missing.append([name, row["lacks"]])
            continue
        scale = 1e9 / row["nodes"] if unit == "ns a node" else 1e3
        phases = [statistics.median(t[phase] for t in row["times"]) * scale for phase in PHASES]
        times = sorted(map(total, row["times"]))
        ratio = "" if reference is None else f"{median(row) / row.get('nodes', 1) / reference:.3g}"
        cells = [*phases, times[0] * scale, median(row) * scale]
        measured.append((median(row) / row.get("nodes", 1), [name, *map(figure, cells), ratio, str(len(times))]))
    measured.sort(key=lambda pair: pair[0])
    header = ["", *PHASES, f"minimum, {unit}", "median", f"times {OURS}'s", "rounds"]
    text = table(header, [row for _, row in measured])
    if missing:
        text += "\n\nNot in the table: " + "; ".join(f"{name} ({why})" for name, why in missing) + "."
    return text


def growth(rows: dict[str, Any]) -> str:
    sizes = sorted({int(size) for row in rows.values() for size in row.get("ns", {})})
    body = []
    for name, row in rows.items():
        if "ns" not in row:
            body.append([name, row["lacks"], *[""] * len(sizes)])
            continue
        ns = {int(size): phases for size, phases in row["ns"].items()}
        cells = [figure(sum(ns[size].values())) if size in ns else "" for size in sizes]
        body.append([name, f"{row['bytes_a_node']:.0f} at {row['bytes_nodes']:,}", *cells])
    text = table(["", "bytes a node, at nodes", *(f"ns a node at {size:,}" for size in sizes)], body)
    ours = {int(size): phases for size, phases in rows.get(OURS, {}).get("ns", {}).items()}
    if ours:
        parts = "; ".join(f"{size:,} nodes {1e-6 * size * ours[size]['free']:.3g} ms" for size in sizes if size in ours)
        text += f"\n\nDropping a graph in {OURS}: {parts}."
    return text


def operations(rows: dict[str, Any]) -> str:
    snippets = list(next(row for row in rows.values() if "lacks" not in row))
    body = []
    for snippet in snippets:
        cells = []
        for row in rows.values():
            pair = row.get(snippet)
            cells.append("-" if pair is None else f"{pair[0]:.1f} ({pair[0] / max(pair[1], 0.1):.1f} x {pair[1]:.1f})")
        body.append([f"`{snippet}`", *cells])
    return table(["ns (ratio x ns of floats)", *rows], body)


PROBLEM_TITLES = {
    "moons": "Value and gradient of a network (2-16-16-1, 337 parameters) over 100 points, from Python",
    "expression": "Value and gradient of 20,000 terms `tanh(x[i]*w + b)` by x, w and b, one lane",
    "random": "Value and gradient of 60,000 sums, differences and products in random order, one lane",
    "two_floats": "Value and gradient of `tanh(x*y + x)*y - x`, two floats, the whole call",
    "rosenbrock_gradient": "Rosenbrock's function in 1,000 dimensions: value and gradient",
    "rosenbrock_hvp": "The same: Hessian times vector",
    "batch": "Sum of a 50-operation function over 1,000,000 points",
    "batch_gradient": "Value and gradient of that at each of the points",
    "greeks": "Black-Scholes price and five Greeks of 100,000 options",
    "transformer": "A step of value, gradient and Adam of the character-level GPT, one name",
}


def recorded(problems: dict[str, Any]) -> str:
    """A table a problem: its rivals' minimum and median, and how many times pygrad's that is."""
    parts = []
    for problem, found in problems.items():
        rows = {name: row for name, row in found["rivals"].items() if "times" in row}
        missing = [f"{name} ({row['lacks']})" for name, row in found["rivals"].items() if "times" not in row]
        body = []
        for name, row in sorted(rows.items(), key=lambda pair: median(pair[1])):
            ratio = f"{median(row) / median(rows[OURS]):.3g}" if OURS in rows else ""
            least = min(map(total, row["times"]))
            cells = [figure(1e6 * least), figure(1e6 * median(row)), figure(1e9 * median(row) / found["operations"])]
            body.append([name, *cells, ratio])
        header = ["", "minimum, µs", "median, µs", "ns an operation", f"times {OURS}'s"]
        text = f"**{PROBLEM_TITLES[problem]}**\n\n{table(header, body)}"
        parts.append(text + (f"\n\nNot in the table: {'; '.join(missing)}." if missing else ""))
    return "\n\n".join(parts)


def building(rows: dict[str, Any]) -> str:
    if "lacks" in rows:
        return f"Not run: {rows['lacks']}"
    body = []
    for size, row in rows.items():
        times = [figure(1e3 * row["build"]), figure(1e9 * row["build"] / int(size))]
        body.append([f"{int(size):,}", f"{row['recording_to_eager']:.2f}", *times, f"{row['bytes']:.0f}"])
    return table(
        ["operations", "recording, times eager", "building, ms", "ns an operation", "bytes more at peak"], body
    )


def in_c(result: dict[str, Any]) -> str:
    if "lacks" in result:
        return f"Not run: {result['lacks']}"
    rows = []
    for row in result["rows"]:
        limit = row.get("limit_median")
        share = f"{100 * limit / row['median']:.0f} %" if limit is not None else ""
        times = [figure(row["minimum"]), figure(row["median"]), "" if limit is None else figure(limit)]
        rows.append([row["case"], f"{row['nodes']:,}", *times, share, row.get("limit", "")])
    absent = f"\n\nNot installed: {', '.join(result['absent'])}." if result["absent"] else ""
    header = ["case", "nodes", "minimum, ns a node", "median", "limit's median", "share of the limit", "limit"]
    return f"{result['compiler']}, `{result['flags']}`, seed {result['seed']}.\n\n{table(header, rows)}{absent}"


TITLES = {
    "expression, tanh": ("Eager expression: `s = s + (x*w + b).tanh()`, 20,000 times", "ns a node"),
    "expression, relu": ("The same with ReLU, for those without tanh", "ns a node"),
    "mlp, generic code": ("Eager MLP: a step of the moons demo, generic code", "ms"),
    "mlp, own nn": ("Eager MLP: the same with each library's own `nn`", "ms"),
    "transformer": ("Eager transformer: a step of a character-level GPT over scalars", "ms"),
}


def text(results: dict[str, Any]) -> str:
    """The whole of RESULTS.md."""
    parts = [
        "# Results",
        "Written by `python -m benchmarks`"
        + (" --quick: a look, not a measurement" if results["quick"] else "")
        + ". Every peer runs in a process and an environment of its own; they take turns, in an order drawn anew"
        " for each round; gradients are compared before anything is timed. Phases are medians.",
        "\n".join(f"- {key}: {value}" for key, value in results["machine"].items()),
    ]
    for key, (title, unit) in TITLES.items():
        if key in results:
            parts += [f"## {title}", steps(results[key], unit)]
    if "growth" in results:
        parts += ["## Growth: the expression by size, record + backward + free", growth(results["growth"])]
    if "operation" in results:
        parts += ["## One operation, without the loop around it", operations(results["operation"])]
    if "recorded" in results:
        about = "Functions are recorded once, then run, and return floats and arrays. They use one thread unless noted."
        parts += ["## Recorded functions", about, recorded(results["recorded"])]
        parts += ["## Recording and building", building(results["building"])]
    if "c" in results:
        parts += ["## In C", in_c(results["c"])]
    peers = [[peer.name, " ".join(peer.requires).format(root="this tree") or "-", peer.note] for peer in [*PEERS, FAST]]
    parts += ["## Who", table(["", "installed as", "note"], peers)]
    return "\n\n".join(parts) + "\n"


def plot(results: dict[str, Any], path: Path) -> None:
    """Bars of ns a node by library, on the expression: record, backward, free."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = {}
    for key in ("expression, relu", "expression, tanh"):  # ReLU's figure stands for those without tanh
        for name, row in results.get(key, {}).items():
            if "times" in row:
                rows[name] = (1e9 * median(row) / row["nodes"], "" if key.endswith("tanh") else " (ReLU)")
    names = sorted(rows, key=lambda name: rows[name][0], reverse=True)
    figure_, ax = pyplot.subplots(figsize=(8, 0.42 * len(names) + 1.2))
    colours = ["#c0392b" if name.startswith(OURS) else "#7f8c8d" for name in names]
    bars = ax.barh([name + rows[name][1] for name in names], [rows[name][0] for name in names], color=colours)
    ax.bar_label(bars, labels=[f"{rows[name][0]:,.0f}" for name in names], padding=4)
    ax.set_xscale("log")
    ax.set_xlim(left=1, right=5 * max(ns for ns, _ in rows.values()))
    ax.set_xlabel("ns a node: record + backward + free, s = s + (x*w + b).tanh()")
    ax.spines[["top", "right"]].set_visible(False)
    figure_.tight_layout()
    figure_.savefig(path, metadata={"Date": None})
    pyplot.close(figure_)
