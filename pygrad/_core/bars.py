"""Bars that show progress."""

from __future__ import annotations

from typing import Any


def need_tqdm() -> Any:
    """The class tqdm. Raises an ImportError that says how to install it."""
    try:
        from tqdm.auto import tqdm
    except ImportError:
        raise ImportError("a bar of progress needs tqdm: pip install tqdm") from None
    return tqdm
