"""The portable operand layer: csrc/python's twin in Python, through cffi.

It serves interpreters without C number slots (PyPy), and comparisons: PYGRAD_OPERANDS=cffi. An Operand
is one hold on one node. Attributes that users set live in its __dict__, which moves to the node's notes
when the object dies, and on to the next object of that node. A closure that captures its own output is
a cycle of Python objects here, which Python's collector finds.
"""

from pygrad._core.portable.call import call, on_progress, plan_items, run, structure_kinds
from pygrad._core.portable.operand import Operand
from pygrad._core.portable.operators import dot
from pygrad._core.portable.place import note_change
from pygrad._core.portable.registry import drop_dead, end_objects
from pygrad._core.portable.slots import adopt
from pygrad._core.portable.tape import active_scopes, call_in_scopes, enter_scope, present_scope, tape

__all__ = [
    "Operand",
    "active_scopes",
    "adopt",
    "call",
    "call_in_scopes",
    "dot",
    "drop_dead",
    "end_objects",
    "enter_scope",
    "note_change",
    "on_progress",
    "plan_items",
    "present_scope",
    "run",
    "structure_kinds",
    "tape",
]
