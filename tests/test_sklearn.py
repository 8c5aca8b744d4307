"""scikit-learn estimators, by scikit-learn's own checks and on its digits."""

import pytest

pytest.importorskip("numpy")
pytest.importorskip("numpy")
pytest.importorskip("sklearn", minversion="1.6")
import numpy as np
from sklearn.datasets import load_diabetes, load_digits
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from pygrad.sklearn import MLPClassifier, MLPRegressor


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("estimator", [MLPClassifier, MLPRegressor])
def test_estimators_pass_scikit_learns_own_checks(estimator):
    checks = check_estimator(estimator(), on_fail=None, on_skip=None)
    failed = [(check["check_name"], check["exception"]) for check in checks if check["status"] == "failed"]
    assert len(checks) > 40 and not failed


def test_handwritten_digits_are_read():
    X, y = load_digits(return_X_y=True)
    train, test, y_train, y_test = train_test_split(X / 16, y, test_size=0.2, random_state=0, stratify=y)
    model = MLPClassifier(hidden=(32,), lr=3e-3, epochs=40, random_state=0).fit(train, y_train)
    assert model.score(test, y_test) >= 0.96
    again = MLPClassifier(hidden=(32,), lr=3e-3, epochs=40, random_state=0).fit(train, y_train)
    assert (again.predict_proba(test) == model.predict_proba(test)).all()


def test_pipelines_grids_and_cross_validation_work():
    X, y = load_diabetes(return_X_y=True)
    model = make_pipeline(StandardScaler(), MLPRegressor(hidden=(8,), epochs=100, random_state=0))
    grid = GridSearchCV(model, {"mlpregressor__l2": [1e-3, 1.0]}, cv=3).fit(X, y / y.std())
    assert grid.best_score_ > 0.3
    linear = cross_val_score(LinearRegression(), X, y, cv=3).mean()
    assert cross_val_score(grid.best_estimator_, X, y / y.std(), cv=3).mean() > 0.7 * linear


@pytest.mark.parametrize("estimator", [MLPClassifier, MLPRegressor])
def test_text_and_masks_are_not_read_as_numbers(estimator):
    X, y = np.array([[0.0], [1.0], [2.0]]), np.array([0, 1, 1])
    model = estimator(hidden=(2,), epochs=1).fit(X, y)
    hidden = np.ma.array(X, mask=[[True], [False], [False]])
    for bad in (X.astype(str), X.astype(str).astype(object), X.astype(str).tolist(), hidden, list(hidden)):
        for call in (lambda X: model.predict(X), lambda X: estimator(hidden=(2,), epochs=1).fit(X, y)):
            with pytest.raises(TypeError, match="X: "):
                call(bad)
    if estimator is MLPRegressor:
        for bad in (y.astype(str), np.ma.array(y, mask=[True, False, False])):
            with pytest.raises(TypeError, match="y: "):
                model.fit(X, bad)
