"""Labels and names as others may read them: what has no shape of its own, or moves its neighbours, is written out."""

from __future__ import annotations

LABEL_AT_MOST = 60  # characters, where labels are shown
_JOINER = "\u200d"  # between the parts of one emoji; moves nothing


def visible(text: str) -> str:
    r"""`text` on one line: blanks of any kind as spaces; control characters, marks of direction and lone surrogates as
    Python writes them, such as \u202e.
    """
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c == _JOINER else " " if c.isspace() else c.encode("unicode_escape").decode("ascii")
        for c in text
    )


def shortened(label: str) -> str:
    """A label's beginning and end, if it is long."""
    half = LABEL_AT_MOST // 2
    return label if len(label) <= LABEL_AT_MOST else f"{label[: half - 1]} … {label[2 - half :]}"
