"""Labels and names made safe to read: invisible characters, and those that move their neighbours, are escaped."""

from __future__ import annotations

LABEL_AT_MOST = 60  # characters, in views
_JOINER = "\u200d"  # joins the parts of one emoji; harmless


def visible(text: str) -> str:
    r"""`text` on one line: any blank becomes a space; control characters, direction marks and lone surrogates are
    escaped as in Python, such as \u202e.
    """
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c == _JOINER else " " if c.isspace() else c.encode("unicode_escape").decode("ascii")
        for c in text
    )


def shortened(label: str) -> str:
    """The label, or only its beginning and end if it is long."""
    half = LABEL_AT_MOST // 2
    return label if len(label) <= LABEL_AT_MOST else f"{label[: half - 1]} … {label[2 - half :]}"
