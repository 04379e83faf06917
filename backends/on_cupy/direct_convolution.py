"""What a direct convolution computes: the shapes that its CUDA sources are compiled for."""

from __future__ import annotations

from dataclasses import dataclass

from portnn.functional.windows import Axis

__all__ = ["Convolution"]


@dataclass(frozen=True)
class Convolution:
    """A convolution with what stands behind it.

    Attributes
    ----------
    rows, columns : Axis
        The windows.
    channels, filters : int
        Of the images, and of what is made of them.
    pool : (int, int)
        Size of the windows of the pooling, which overlap no others; (1, 1) for none.
    relu : bool
        Whether there is a ReLU.
    relu_first : bool
        Whether it stands in front of the pooling.
    bytes : int, default 4
        Of a number.
    """

    rows: Axis
    columns: Axis
    channels: int
    filters: int
    pool: tuple[int, int] = (1, 1)
    relu: bool = False
    relu_first: bool = False
    bytes: int = 4

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of the value of one image."""
        return self.rows.count // self.pool[0], self.columns.count // self.pool[1], self.filters

    @property
    def nan_stays(self) -> bool:
        """Whether each NaN of a window of the pooling goes back to its own place, and not the last one alone."""
        return self.relu and (self.relu_first or self.pool == (1, 1))

    @property
    def coded(self) -> bool:
        """Whether the way back needs a byte for each cell."""
        return self.relu or self.pool != (1, 1)

    @property
    def cells(self) -> tuple[int, int]:
        """Windows of the pooling along both axes, with those that places are left out in where they count."""
        counts = zip((self.rows.count, self.columns.count), self.pool, strict=True)
        rows, columns = (-(-n // size) if self.nan_stays else n // size for n, size in counts)
        return rows, columns

    @property
    def options(self) -> dict[str, int]:
        return {
            "HEIGHT": self.rows.size,
            "WIDTH": self.columns.size,
            "CHANNELS": self.channels,
            "FILTERS": self.filters,
            "KERNEL_ROWS": self.rows.kernel,
            "KERNEL_COLUMNS": self.columns.kernel,
            "STRIDE_ROWS": self.rows.stride,
            "STRIDE_COLUMNS": self.columns.stride,
            "TOP": self.rows.before,
            "LEFT": self.columns.before,
            "COUNT_ROWS": self.rows.count,
            "COUNT_COLUMNS": self.columns.count,
            "POOL_ROWS": self.pool[0],
            "POOL_COLUMNS": self.pool[1],
            "RELU": int(self.relu),
            "NAN_STAYS": int(self.nan_stays),
        }
