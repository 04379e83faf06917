"""Training: `Trainer` runs the steps, `History` keeps what they gave, callbacks watch, checkpoints bring back."""

from portnn.training.callback import Callback, Training
from portnn.training.callbacks import EarlyStopping, ProgressBar, ReduceOnPlateau
from portnn.training.checkpoint import Checkpoint, checkpoints, latest_checkpoint
from portnn.training.history import History
from portnn.training.interrupts import stop_on_signals
from portnn.training.logs import CSVLog, JSONLinesLog, TensorBoardLog
from portnn.training.progress import Progress
from portnn.training.pseudo_labels import fit_with_pseudo_labels, pseudo_labels
from portnn.training.trainer import Trainer

__all__ = [
    "CSVLog",
    "Callback",
    "Checkpoint",
    "EarlyStopping",
    "History",
    "JSONLinesLog",
    "Progress",
    "ProgressBar",
    "ReduceOnPlateau",
    "TensorBoardLog",
    "Trainer",
    "Training",
    "checkpoints",
    "fit_with_pseudo_labels",
    "latest_checkpoint",
    "pseudo_labels",
    "stop_on_signals",
]
