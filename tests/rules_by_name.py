"""A function with a rule that pickle finds by its name, over either copy of the package."""

_made = {}


def over(pg):
    """`half` over this copy."""
    global half
    if pg not in _made:

        @pg.custom_jvp
        def half(x):
            return x / 2

        half.__qualname__ = "half"
        _made[pg] = half
    half = _made[pg]
    return half
