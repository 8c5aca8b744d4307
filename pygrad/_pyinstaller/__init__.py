"""What PyInstaller must know of pygrad. It finds this folder by the entry point in pyproject.toml."""

from __future__ import annotations

from pathlib import Path


def hook_dirs() -> list[str]:
    """The folder of the hook, hook-pygrad.py."""
    return [str(Path(__file__).parent)]
