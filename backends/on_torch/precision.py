"""The precision of products inside the contexts of torch's backend; asked by its twins."""

from ..precision import Precision

__all__ = ["precision"]

precision = Precision("torch")
