"""Training: `Trainer` runs the steps, `History` keeps what they gave, callbacks watch."""

from portnn.training.callbacks import Callback, EarlyStopping, ProgressBar
from portnn.training.history import History
from portnn.training.trainer import Trainer

__all__ = ["Callback", "EarlyStopping", "History", "ProgressBar", "Trainer"]
