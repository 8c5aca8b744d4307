"""Drawings of programs: a box for each argument, number and result, an oval for each instruction, and a double box for
each call of other programs.
"""

from __future__ import annotations

from typing import Any

from pygrad._core.text import shortened
from pygrad._pgr import lib
from pygrad._program.code import Code
from pygrad._program.inner import operand_counts
from pygrad._program.listing import steps
from pygrad._views.drawing import Drawing

INSTRUCTIONS_AT_MOST = 1000
EDGES_AT_MOST = 20_000


def _refuse_large(parts: Any) -> None:
    instructions = [parts.instructions[i] for i in range(parts.instruction_count)]
    shown = sum(i.op not in (lib.PGR_PROGRAM_RUN, lib.PGR_PROGRAM_LOAD) for i in instructions)
    shown += sum(parts.outputs[i].node != lib.PGR_REGISTER_LANE for i in range(parts.output_count))
    if shown > INSTRUCTIONS_AT_MOST:
        raise ValueError(
            f"the program has {shown} instructions and results, more than the {INSTRUCTIONS_AT_MOST} that can be "
            "drawn legibly: print(program) lists them"
        )
    products = sum(parts.dots[i.b].count for i in instructions if i.op == lib.PGR_PROGRAM_DOT)
    calls = [parts.calls[i.a] for i in instructions if i.op == lib.PGR_PROGRAM_CALL]
    operands = sum(count for call in calls for _, count in operand_counts(call))
    for count, what in ((products, f"dots have {products} products"), (operands, f"calls have {operands} operands")):
        if count > EDGES_AT_MOST:
            raise ValueError(
                f"the program's {what}, more than the {EDGES_AT_MOST} that can be drawn legibly: print(program) lists "
                "them"
            )


def draw_program(drawing: Drawing, code: Code) -> None:
    """Draw a program into `drawing`. Raises ValueError if it is too large to be legible."""
    parts = code.parts()
    _refuse_large(parts)
    found = list(steps(code))
    ids: dict[tuple[Any, ...], str] = {}
    for group in dict.fromkeys(step.group for step in found):
        part = Drawing(
            name="once" if group is None else f"cluster{group}",
            graph_attr={}
            if group is None
            else {"label": f"for each of {parts.group_lanes[group]} lanes", "fontname": "Courier"},
        )
        for i, step in enumerate(found):
            if step.group != group:
                continue
            for source, name in zip(step.sources, step.operands):
                if source not in ids and source[0] != "result":
                    ids[source] = f"a{len(ids)}"
                    part.put(ids[source], shortened(name), shape="box")
            label, shape = (step.operation, "oval") if step.operation else (step.result, "box")
            looks = {"shape": "box", "peripheries": "2"} if step.is_call else {"shape": shape}
            part.put(f"i{i}", shortened(label), **looks)
            if step.operation:
                ids["result", step.number] = f"i{i}"
        drawing.subgraph(part)
    for i, step in enumerate(found):
        for source in dict.fromkeys(step.sources) if step.is_call else step.sources:
            drawing.join(ids[source], f"i{i}")
