"""scikit-learn estimators: small networks for pipelines, grid search and cross-validation.

    make_pipeline(StandardScaler(), MLPClassifier(hidden=(32,))).fit(X, y).score(X, y)

Like scikit-learn's estimators of these names, but trained by `pygrad.fit`: float64, and the same bits for the same
random_state.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

try:
    import numpy as np
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError:
    raise ImportError("pygrad.sklearn needs scikit-learn 1.6 or later: pip install 'pygrad-engine[sklearn]'") from None

from pygrad import nn
from pygrad._core.numbers import way_out
from pygrad._core.trees import masked_in
from pygrad._learn.fit import fit

__all__ = ["MLPClassifier", "MLPRegressor"]


def _refuse(name: str, X: Any) -> None:
    """Raise TypeError for text and masks, which scikit-learn reads as plain numbers. It checks the rest itself."""
    if hasattr(X, "toarray"):  # sparse
        return
    try:
        fault = masked_in(X)
        array = np.asarray(X)
    except ValueError:
        return
    text: Any = array if array.dtype.kind in "US" else None
    if array.dtype.kind == "O":
        text = next((x for x in array.ravel() if isinstance(x, (str, bytes))), None)
    if fault is None and text is not None:
        fault = f"text{way_out(text)}"
    if fault is not None:
        raise TypeError(f"{name}: {fault}")


class _MLP(BaseEstimator):
    """Parameters:

    hidden: neurons of each hidden layer; nonlin: their activation, see pygrad.nn.Neuron; optimizer, lr, epochs,
    batch_size, l2, patience, workers: see pygrad.fit; random_state: an int, or None for new numbers on every fit.

    Fitted attributes: model_, a pygrad.nn.MLP; history_, the History that fit returned; n_features_in_; n_iter_, the
    epochs.
    """

    def __init__(
        self,
        hidden: Sequence[int] = (32,),
        *,
        nonlin: str = "relu",
        optimizer: str = "adam",
        lr: float = 0.01,
        epochs: int = 200,
        batch_size: int = 32,
        l2: float = 1e-4,
        patience: int | None = 20,
        workers: int = 1,
        random_state: Any = None,
    ) -> None:
        self.hidden = hidden
        self.nonlin = nonlin
        self.optimizer = optimizer
        self.lr = lr
        self.epochs = epochs
        self.batch_size = batch_size
        self.l2 = l2
        self.patience = patience
        self.workers = workers
        self.random_state = random_state

    def _train(self, X: Any, targets: Any, outputs: int, loss: str) -> None:
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        before = random.getstate()  # Python's generator draws the parameters: restore the caller's state
        try:
            nn.seed(seed)
            self.model_ = nn.MLP(X.shape[1], [*self.hidden, outputs], nonlin=self.nonlin, init="he")
        finally:
            random.setstate(before)
        self.history_ = fit(
            self.model_,
            X,
            targets,
            loss=loss,
            optimizer=self.optimizer,
            lr=self.lr,
            epochs=self.epochs,
            batch_size=self.batch_size,
            patience=self.patience,
            l2=self.l2,
            seed=seed,
            workers=self.workers,
        )
        self.n_iter_ = len(self.history_.loss)

    def _outputs(self, X: Any) -> Any:
        check_is_fitted(self)
        _refuse("X", X)
        return self.model_.predict(validate_data(self, X, reset=False, dtype=np.float64))


class MLPClassifier(ClassifierMixin, _MLP):
    __doc__ = f"""A multi-layer perceptron for classes, trained on cross-entropy.

    {(_MLP.__doc__ or "").strip()}

    >>> X = [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]
    >>> model = MLPClassifier(hidden=(8,), lr=0.05, random_state=0).fit(X, ["even", "odd", "odd", "even"])
    >>> model.predict([[0.0, 1.0]]).tolist()
    ['odd']
    """

    def fit(self, X: Any, y: Any) -> MLPClassifier:
        """Train on samples X, shape (n, features), and their classes y, numbers or names. Returns itself."""
        _refuse("X", X)
        X, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        self.classes_, targets = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y has one class, {self.classes_[0]!r}: a classifier needs at least two to tell apart")
        self._train(X, targets, len(self.classes_), "cross_entropy")
        return self

    def decision_function(self, X: Any) -> Any:
        """The logits, shape (n, classes); for two classes the second's minus the first's, shape (n,)."""
        logits = self._outputs(X)
        return logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 else logits

    def predict_proba(self, X: Any) -> Any:
        """The classes' probabilities, shape (n, classes), in the order of classes_."""
        logits = self._outputs(X)
        exps = np.exp(logits - logits.max(axis=1, keepdims=True))
        return exps / exps.sum(axis=1, keepdims=True)

    def predict(self, X: Any) -> Any:
        """The most probable class of each sample, shape (n,)."""
        best = self._outputs(X).argmax(axis=1)
        return self.classes_[best]


class MLPRegressor(RegressorMixin, _MLP):
    __doc__ = f"""A multi-layer perceptron for one or more numbers, trained on their mean squared error.

    {(_MLP.__doc__ or "").strip()}

    >>> model = MLPRegressor(hidden=(), epochs=500, patience=None, lr=0.05, random_state=0)
    >>> model.fit([[0.0], [1.0], [2.0]], [1.0, 3.0, 5.0]).predict([[3.0]]).round(2).tolist()
    [7.0]
    """

    def fit(self, X: Any, y: Any) -> MLPRegressor:
        """Train on samples X, shape (n, features), and targets y, shape (n,) or (n, outputs). Returns itself."""
        _refuse("X", X)
        _refuse("y", y)
        X, y = validate_data(self, X, y, dtype=np.float64, multi_output=True, y_numeric=True)
        self._train(X, y.astype(np.float64), 1 if y.ndim == 1 else y.shape[1], "mse")
        self._columns = y.ndim
        return self

    def predict(self, X: Any) -> Any:
        """The targets of each sample, shaped as they were in training."""
        outputs = self._outputs(X)
        return outputs[:, None] if self._columns == 2 and outputs.ndim == 1 else outputs

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
