"""Distributions: `norm`."""

from pygrad.scipy.stats import norm

__all__ = ["norm"]
