"""Pictures of the training of an estimator, in the style of scikit-learn's display objects."""

from __future__ import annotations

from typing import Any

from portnn.errors import MissingLibraryError
from portnn.training import History

__all__ = ["LossCurveDisplay"]


class LossCurveDisplay:
    """The loss in training and, where there are validation data, on those, epoch by epoch.

    Make one by `from_estimator` or `from_history`, which also draw it.

    Parameters
    ----------
    epochs : list of float, length n
    train_loss : list of float, length n
    val_loss : list of float, length n, or None
    name : str or None
        Begins the labels of the curves.

    Attributes
    ----------
    ax_, figure_ : matplotlib Axes and Figure
    lines_ : list of matplotlib Line2D

    Examples
    --------
    >>> from portnn.training import History
    >>> display = LossCurveDisplay.from_history(History([{"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": 1.0}]))
    >>> display.ax_.get_xlabel()
    'Epoch'
    """

    def __init__(
        self, epochs: list[float], train_loss: list[float], val_loss: list[float] | None = None, name: str | None = None
    ) -> None:
        self.epochs, self.train_loss, self.val_loss, self.name = epochs, train_loss, val_loss, name

    @classmethod
    def from_estimator(cls, estimator: Any, *, name: str | None = None, ax: Any = None, **kwargs: Any) -> Any:
        """Draw the loss of a fitted `MLPClassifier` or `MLPRegressor`; a pipeline's last step counts.

        Parameters
        ----------
        estimator : estimator
        name : str, optional
            Default: the name of the estimator's class.
        ax : matplotlib Axes, optional
        **kwargs
            Passed on to ``ax.plot``.

        Returns
        -------
        LossCurveDisplay
        """
        from sklearn.pipeline import Pipeline
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(estimator)
        while isinstance(estimator, Pipeline):
            estimator = estimator[-1]
        name = type(estimator).__name__ if name is None else name
        return cls.from_history(estimator.history_, name=name, ax=ax, **kwargs)

    @classmethod
    def from_history(cls, history: History, *, name: str | None = None, ax: Any = None, **kwargs: Any) -> Any:
        """Draw the loss that a `Trainer` recorded; arguments and result as of `from_estimator`."""
        validated = any("val_loss" in record for record in history.records)
        display = cls(history["epoch"], history["loss"], history["val_loss"] if validated else None, name)
        return display.plot(ax, **kwargs)

    def plot(self, ax: Any = None, *, name: str | None = None, **kwargs: Any) -> LossCurveDisplay:
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Default: those of a new figure.
        name : str, optional
            In the place of that of the display.
        **kwargs
            Passed on to ``ax.plot``.

        Returns
        -------
        self
        """
        try:
            from matplotlib import pyplot as plt
        except ImportError:
            raise MissingLibraryError(
                "drawing needs matplotlib, which is not installed: pip install matplotlib"
            ) from None
        self.figure_, self.ax_ = (ax.figure, ax) if ax is not None else plt.subplots()
        name = self.name if name is None else name
        before = f"{name}, " if name else ""
        self.lines_ = self.ax_.plot(self.epochs, self.train_loss, **({"label": f"{before}train"} | kwargs))
        if self.val_loss is not None:
            # The colour of the training, dashed, so that several estimators can share axes.
            style = {"label": f"{before}validation", "color": self.lines_[0].get_color(), "linestyle": "--"}
            self.lines_ += self.ax_.plot(self.epochs, self.val_loss, **(kwargs | style))
        self.ax_.set(xlabel="Epoch", ylabel="Loss")
        self.ax_.legend()
        return self
