"""Training: `Trainer` runs the steps, `History` keeps what they gave, callbacks watch."""

from portnn.training.callbacks import Callback, EarlyStopping, ProgressBar, ReduceOnPlateau
from portnn.training.history import History
from portnn.training.pseudo_labels import fit_with_pseudo_labels, pseudo_labels
from portnn.training.trainer import Trainer

__all__ = [
    "Callback",
    "EarlyStopping",
    "History",
    "ProgressBar",
    "ReduceOnPlateau",
    "Trainer",
    "fit_with_pseudo_labels",
    "pseudo_labels",
]
