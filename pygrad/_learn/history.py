"""The history of a training, and its plot."""

from __future__ import annotations

from typing import Any, NamedTuple


class Best(NamedTuple):
    """The best epoch of a training so far."""

    loss: float
    epoch: int
    w: Any  # the parameters


class History:
    """The history of a training: lists with one number per epoch, and how it ended.

    loss: the mean over the epoch's batches, while parameters change; validation: the loss on the validation data after
    the epoch; seconds: since the start. stopped: 'finished', 'early' or 'interrupted'.
    """

    def __init__(self) -> None:
        self.loss: list[float] = []
        self.validation: list[float] = []
        self.seconds: list[float] = []
        self.stopped = ""

    def __repr__(self) -> str:
        last = f", loss {self.loss[-1]:.6g}" if self.loss else ""
        return f"<History of {len(self.loss)} epochs{last}, {self.stopped}>"

    def plot(self, ax: Any = None) -> Any:
        """Plot losses by epoch on a logarithmic scale, into `ax` or new Axes (matplotlib). Returns the Axes."""
        return loss_history(self, ax)


def axes(ax: Any) -> Any:
    """`ax`, or new matplotlib Axes. Raises an ImportError that says how to install it."""
    if ax is not None:
        return ax
    try:
        from matplotlib import pyplot
    except ImportError:
        raise ImportError("pictures need matplotlib: pip install 'pygrad-engine[plot]'") from None
    return pyplot.subplots()[1]


def loss_history(history: Any, ax: Any = None) -> Any:
    """Plot losses by epoch, from fit's History or a list; the scale is logarithmic if all are above 0.

    >>> loss_history([1.0, 0.5, 0.25]).get_xlabel()
    'epoch'
    """
    ax = axes(ax)
    loss = list(getattr(history, "loss", history))
    validation = list(getattr(history, "validation", []))
    epochs = range(1, len(loss) + 1)
    ax.plot(epochs, loss, label="training")
    if validation:
        ax.plot(range(1, len(validation) + 1), validation, label="validation")
        ax.legend()
    if loss and min([*loss, *validation]) > 0:
        ax.set_yscale("log")
    ax.set(xlabel="epoch", ylabel="loss")
    return ax
