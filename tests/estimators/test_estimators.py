"""What the estimators learn with, and have beyond scikit-learn's."""

import pickle

import numpy as np
import pytest
from estimator_samples import BINARY, COUNTS, LABELS, SMALL, WEIGHTS, said
from irises import IRIS, SPECIES, quiet
from sklearn import neural_network
from sklearn.base import clone
from sklearn.datasets import make_multilabel_classification

from portnn import MLPClassifier, MLPRegressor, functional, losses, nn, optim
from portnn.errors import ConfigError
from portnn.training import Callback, EarlyStopping

# Short runs, which do not converge, and say so.
pytestmark = quiet


def test_warm_start_goes_on_with_the_memory_of_the_optimizer():
    options = SMALL | {"shuffle": False}
    whole = MLPClassifier(**options | {"max_iter": 10}).fit(IRIS, SPECIES)
    parts = MLPClassifier(**options | {"max_iter": 5}, warm_start=True).fit(IRIS, SPECIES).fit(IRIS, SPECIES)
    np.testing.assert_array_equal(parts.coefs_[0], whole.coefs_[0])
    assert parts.loss_curve_ == whole.loss_curve_
    assert len(parts.history_) == 10
    assert parts.n_iter_ == 5
    afresh = (
        neural_network.MLPClassifier(**options | {"max_iter": 5}, warm_start=True).fit(IRIS, SPECIES).fit(IRIS, SPECIES)
    )
    assert not np.allclose(afresh.coefs_[0], whole.coefs_[0], rtol=1e-3)  # the difference is there to be seen


def test_warm_start_with_other_parameters():
    classifier = MLPClassifier(**SMALL, solver="lbfgs", warm_start=True, n_iter_no_change=np.inf).fit(IRIS, SPECIES)
    assert not hasattr(classifier, "loss_curve_")
    classifier.set_params(solver="adam").fit(IRIS, SPECIES)
    assert len(classifier.loss_curve_) == 15
    before = min(classifier.loss_curve_)
    assert classifier.best_loss_ == before
    classifier.set_params(early_stopping=True).fit(IRIS, SPECIES)
    assert len(classifier.validation_scores_) == classifier.n_iter_
    classifier.set_params(solver="sgd", early_stopping=False, learning_rate="invscaling", power_t=1.0).fit(
        IRIS, SPECIES
    )
    assert classifier.history_["lr"][-1] == pytest.approx(0.001 / (classifier.t_ - 150 + 1))
    classifier.set_params(learning_rate="constant", learning_rate_init=0.1).fit(IRIS, SPECIES)
    assert classifier.history_["lr"][-1] == 0.1


def test_a_full_batch_method_that_is_stopped_does_not_complain():
    class Stop(Callback):
        def on_epoch_end(self, trainer, record):
            if record["epoch"] == 4:
                self.end(trainer)

    class Ask(Stop):
        def end(self, trainer):
            trainer.stop()

    class Interrupt(Stop):
        def end(self, trainer):
            raise KeyboardInterrupt

    for callback, expected in ((Ask(), []), (Interrupt(), [(UserWarning, "Training interrupted by user.")])):
        regressor = MLPRegressor(**SMALL, solver="lbfgs", callbacks=[callback])
        assert said(lambda r=regressor: r.fit(IRIS, COUNTS)) == expected
        assert regressor.n_iter_ == 4
        assert regressor.loss_ == regressor.history_["loss"][-1]


def test_weights_that_a_user_changes_are_used():
    regressor = MLPRegressor(**SMALL).fit(IRIS, COUNTS)
    regressor.coefs_[-1][:] = 0.0
    regressor.intercepts_[-1] = np.asarray([7.0])
    np.testing.assert_allclose(regressor.predict(IRIS), 7.0)
    regressor.partial_fit(IRIS, np.full(150, 7.0))
    assert regressor.loss_ < 0.01
    assert abs(regressor.intercepts_[-1][0] - 7.0) < 0.01


def test_dropout():
    dropped = MLPClassifier(**SMALL, dropout=[0.5, 0.0]).fit(IRIS, SPECIES)
    assert [type(layer).__name__ for layer in dropped._trainer.network.layer.layers] == (
        ["Affine", "ReLU", "Dropout", "Affine", "ReLU", "Affine"]
    )
    np.testing.assert_array_equal(dropped.predict_proba(IRIS), dropped.predict_proba(IRIS))
    again = clone(dropped).fit(IRIS, SPECIES)
    np.testing.assert_array_equal(again.coefs_[0], dropped.coefs_[0])
    assert not np.allclose(dropped.coefs_[0], MLPClassifier(**SMALL).fit(IRIS, SPECIES).coefs_[0])
    with pytest.raises(ConfigError, match="dropout has 3 entries, for 2 hidden layers"):
        MLPClassifier(**SMALL, dropout=[0.1, 0.2, 0.3]).fit(IRIS, SPECIES)


def test_batch_norm():
    plain, normed = (
        MLPClassifier((16,) * 6, activation="logistic", random_state=0, batch_norm=flag, batch_size=30).fit(
            IRIS, SPECIES
        )
        for flag in (False, True)
    )
    assert normed.score(IRIS, SPECIES) > 0.9 > plain.score(IRIS, SPECIES)
    restored = pickle.loads(pickle.dumps(normed))
    np.testing.assert_array_equal(restored.predict_proba(IRIS), normed.predict_proba(IRIS))


def test_l1_ratio_makes_weights_small_one_by_one():
    sizes = []
    for ratio in (0.0, 1.0):
        regressor = MLPRegressor(
            hidden_layer_sizes=10,
            alpha=20.0,
            l1_ratio=ratio,
            random_state=0,
            max_iter=600,
            solver="sgd",
            learning_rate="adaptive",
        )
        sizes.append(np.sort(np.abs(regressor.fit(IRIS, IRIS[:, 0]).coefs_[0]).ravel()))
    assert np.median(sizes[1]) < 0.002 < 0.05 < np.median(sizes[0])
    with pytest.raises(ConfigError, match="LBFGS needs a penalty with a derivative everywhere"):
        MLPRegressor(solver="lbfgs", l1_ratio=0.5).fit(IRIS, COUNTS)


def test_class_weight():
    by_class = {0: 1.0, 1: 5.0, 2: 0.5}
    own = MLPClassifier(**SMALL, class_weight=by_class).fit(IRIS, SPECIES, sample_weight=WEIGHTS)
    same = MLPClassifier(**SMALL).fit(IRIS, SPECIES, sample_weight=WEIGHTS * [by_class[k] for k in SPECIES])
    np.testing.assert_allclose(own.coefs_[0], same.coefs_[0], rtol=1e-12)
    few = np.r_[:50, 50:56, 100:150]
    recall = [
        np.mean(
            MLPClassifier(**SMALL | {"max_iter": 200}, class_weight=w).fit(IRIS[few], BINARY[few]).predict(IRIS[50:100])
            == "yes"
        )
        for w in (None, "balanced")
    ]
    assert recall[1] > recall[0]
    with pytest.raises(ValueError, match="needs all samples, and partial_fit sees some"):
        MLPClassifier(class_weight="balanced").partial_fit(IRIS, SPECIES, classes=[0, 1, 2])


@pytest.mark.parametrize(
    ("activation", "layers"),
    [
        (nn.GELU(), ["GELU", "GELU"]),
        (["tanh", nn.SiLU()], ["Tanh", "SiLU"]),
        (functional.softplus, ["Activation", "Activation"]),
        (("relu", lambda x: (x * x, lambda dy: 2 * x * dy)), ["ReLU", "Activation"]),
    ],
)
def test_activations(activation, layers):
    classifier = MLPClassifier(**SMALL | {"max_iter": 100}, activation=activation, learning_rate_init=0.01).fit(
        IRIS, SPECIES
    )
    assert [type(layer).__name__ for layer in classifier._trainer.network.layer.layers][1::2] == layers
    assert classifier.score(IRIS, SPECIES) > 0.94


@pytest.mark.parametrize("activation", ["sigmoid", ["relu", "sigmoid"], nn.ReLU, ["relu"]])
def test_what_is_no_activation_is_refused(activation):
    with pytest.raises(ValueError, match="activation"):
        MLPClassifier(**SMALL, activation=activation).fit(IRIS, SPECIES)


@pytest.mark.parametrize(
    ("loss", "y", "outputs"),
    [
        (losses.SoftmaxCrossEntropy(label_smoothing=0.1), SPECIES, 3),
        (losses.SoftmaxCrossEntropy(), SPECIES == 0, 2),
        (losses.SigmoidCrossEntropy(), SPECIES, 3),
        (losses.SigmoidCrossEntropy(class_weight=(1.0, 3.0)), SPECIES == 0, 1),
        (losses.SigmoidCrossEntropy(), LABELS, 3),
    ],
)
def test_losses_of_classifiers(loss, y, outputs):
    classifier = MLPClassifier(
        **SMALL | {"max_iter": 100}, loss=loss, learning_rate_init=0.02, validation_data=(IRIS, y)
    ).fit(IRIS, y)
    assert classifier.n_outputs_ == outputs
    p = classifier.predict_proba(IRIS)
    assert p.shape == (150, max(2, outputs))
    if y.ndim == 1:
        np.testing.assert_allclose(p.sum(axis=1), 1)
    assert classifier.score(IRIS, y) == classifier.validation_scores_[-1] > 0.9


@pytest.mark.parametrize(
    ("make", "y"),
    [
        (lambda: MLPClassifier(loss=losses.HalfSquaredError()), SPECIES),
        (lambda: MLPClassifier(loss=losses.NegativeLogLikelihood()), SPECIES),
        (lambda: MLPClassifier(loss=losses.SoftmaxCrossEntropy()), LABELS),
        (lambda: MLPRegressor(losses.SoftmaxCrossEntropy()), COUNTS),
    ],
)
def test_a_loss_of_another_kind_is_refused(make, y):
    with pytest.raises(ConfigError, match=r"take .*(SoftmaxCrossEntropy|SigmoidCrossEntropy|HalfSquaredError)"):
        make().fit(IRIS, y)


@pytest.mark.parametrize("loss", [losses.Huber(), losses.MeanAbsoluteError(), losses.Poisson()])
def test_losses_of_regressors(loss):
    regressor = MLPRegressor(loss, **SMALL | {"max_iter": 300}, learning_rate_init=0.01).fit(IRIS, np.exp(IRIS[:, 2]))
    assert regressor.score(IRIS, np.exp(IRIS[:, 2])) > 0.9


@pytest.mark.parametrize(
    "optimizer",
    [optim.AdamW(0.01), optim.chain(optim.ClipByNorm(1.0), optim.Momentum(0.05)), optim.BFGS(), optim.LBFGS(gtol=1e-3)],
)
def test_optimizers(optimizer):
    classifier = MLPClassifier(8, max_iter=100, random_state=0, optimizer=optimizer, alpha=0.01).fit(IRIS, SPECIES)
    assert classifier.score(IRIS, SPECIES) > 0.95
    assert hasattr(classifier, "partial_fit") != isinstance(optimizer, optim.FullBatch)
    assert clone(classifier).optimizer == optimizer


def test_a_learning_rate_falls_for_any_optimizer():
    rates = {
        schedule: MLPClassifier(**SMALL, optimizer=optim.SGD(0.1), learning_rate=schedule)
        .fit(IRIS, SPECIES)
        .history_["lr"]
        for schedule in ("constant", "invscaling")
    }
    assert set(rates["constant"]) == {0.1}
    assert rates["invscaling"][2] == pytest.approx(0.1 / 301**0.5)


def test_validation_data():
    train, test = slice(0, 150, 2), slice(1, 150, 2)
    data = (IRIS[test], SPECIES[test])
    classifier = MLPClassifier(**SMALL, validation_data=data).fit(IRIS[train], SPECIES[train])
    reference = MLPClassifier(**SMALL).fit(IRIS[train], SPECIES[train])
    np.testing.assert_array_equal(classifier.coefs_[0], reference.coefs_[0])
    assert classifier.history_["val_score"] == classifier.validation_scores_
    assert classifier.validation_scores_[-1] == classifier.score(*data)
    p = classifier.predict_proba(IRIS[test])
    assert classifier.history_["val_loss"][-1] == pytest.approx(-np.log(p[np.arange(75), SPECIES[test]]).mean())
    weighted = MLPRegressor(**SMALL, validation_data=(*data, WEIGHTS[test])).fit(IRIS[train], SPECIES[train])
    assert weighted.validation_scores_[-1] == pytest.approx(weighted.score(*data, WEIGHTS[test]))
    with pytest.raises(ConfigError, match=r"validation_data must be \(X, y\)"):
        MLPClassifier(validation_data=(IRIS,)).fit(IRIS, SPECIES)
    with pytest.raises(ValueError, match=r"`y` has classes not in"):
        MLPClassifier(validation_data=data).fit(IRIS[:100], SPECIES[:100])


def test_early_stopping_on_data_of_ones_own_holds_nothing_out():
    options = SMALL | {"max_iter": 200}
    data = (IRIS[1::2], SPECIES[1::2])
    best, last = (
        MLPClassifier(**options, early_stopping=True, validation_data=data, restore_best=flag, n_iter_no_change=4).fit(
            IRIS[::2], SPECIES[::2]
        )
        for flag in (True, False)
    )
    assert best.n_iter_ < 200
    assert best.t_ == 75 * best.n_iter_
    assert best.score(*data) == best.best_validation_score_
    assert last.score(*data) == last.validation_scores_[-1]
    assert best.validation_scores_ == last.validation_scores_
    assert not np.allclose(best.coefs_[0], last.coefs_[0])


def test_early_stopping_ends_well_when_the_loss_is_no_number():
    regressor = MLPRegressor(learning_rate_init=1e200, solver="sgd", early_stopping=True, max_iter=5, random_state=0)
    regressor.fit(IRIS, COUNTS)
    assert np.isnan(regressor.validation_scores_[-1])
    assert len(regressor.loss_curve_) == regressor.n_iter_ == len(regressor.validation_scores_)
    assert np.isfinite(regressor.predict(IRIS)).all()
    with pytest.raises(ValueError, match="Solver produced non-finite parameter weights"):
        regressor.set_params(early_stopping=False).fit(IRIS, COUNTS)


def test_callbacks_and_augmentation():
    seen = []

    class Watch(Callback):
        def on_epoch_end(self, trainer, record):
            seen.append(record["val_loss"])

    stop = EarlyStopping(patience=2, min_delta=10.0)
    noise = lambda x, rng: x + 0.1 * rng.normal_like(x)  # noqa: E731
    classifier = MLPClassifier(
        **SMALL | {"max_iter": 50}, callbacks=[Watch(), stop], validation_data=(IRIS, SPECIES), augment=noise
    ).fit(IRIS, SPECIES)
    assert seen == classifier.history_["val_loss"]
    assert classifier.n_iter_ == 3
    assert not np.allclose(classifier.coefs_[0], MLPClassifier(**SMALL | {"max_iter": 3}).fit(IRIS, SPECIES).coefs_[0])


def test_progress_shows_a_bar(monkeypatch):
    import tqdm.auto

    titles = []
    original = tqdm.auto.tqdm
    monkeypatch.setattr(tqdm.auto, "tqdm", lambda **kw: titles.append(kw["desc"]) or original(**kw | {"disable": True}))
    MLPClassifier(**SMALL | {"max_iter": 2}, progress=True).fit(IRIS, SPECIES)
    assert titles == ["epoch 1/2", "epoch 2/2"]


def test_interruption_keeps_what_was_learned():
    class Interrupt(Callback):
        def on_epoch_end(self, trainer, record):
            if record["epoch"] == 3:
                raise KeyboardInterrupt

    with pytest.warns(UserWarning, match="Training interrupted by user"):
        classifier = MLPClassifier(**SMALL, callbacks=[Interrupt()]).fit(IRIS, SPECIES)
    assert classifier.n_iter_ == 3
    np.testing.assert_array_equal(
        classifier.coefs_[0], MLPClassifier(**SMALL | {"max_iter": 3}).fit(IRIS, SPECIES).coefs_[0]
    )


def test_one_class():
    assert set(MLPClassifier(**SMALL).fit(IRIS, np.full(150, 7)).predict(IRIS)) == {7}


def test_partial_fit_learns_online():
    classifier = MLPClassifier(hidden_layer_sizes=12, random_state=0, learning_rate_init=0.01)
    order = np.random.default_rng(0).permutation(150)
    for _ in range(10):
        for i in range(0, 150, 10):
            classifier.partial_fit(IRIS[order[i : i + 10]], SPECIES[order[i : i + 10]], classes=[0, 1, 2])
    assert classifier.t_ == 1500
    assert len(classifier.loss_curve_) == 150
    assert classifier.score(IRIS, SPECIES) > 0.9


def test_multilabel_validation_counts_samples_with_all_labels_right():
    x, y = make_multilabel_classification(n_samples=100, random_state=0)
    classifier = MLPClassifier(**SMALL, validation_data=(x, y)).fit(x, y)
    assert classifier.validation_scores_[-1] == classifier.score(x, y)
