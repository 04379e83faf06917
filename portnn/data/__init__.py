"""Data sets, batches and feature scaling, on the host; augmentation, on the device."""

from portnn.data import augmentation
from portnn.data.batches import batches, in_batches, shuffled_batches
from portnn.data.dataset import Dataset
from portnn.data.digits import load_digits
from portnn.data.idx import read_idx
from portnn.data.mnist import load_mnist
from portnn.data.prefetch import prefetch
from portnn.data.scaling import Scaling
from portnn.data.year_prediction import YEAR_PREDICTION_TRAIN_ROWS, stream_year_prediction

__all__ = [
    "YEAR_PREDICTION_TRAIN_ROWS",
    "Dataset",
    "Scaling",
    "augmentation",
    "batches",
    "in_batches",
    "load_digits",
    "load_mnist",
    "prefetch",
    "read_idx",
    "shuffled_batches",
    "stream_year_prediction",
]
