"""What the scripts that draw share: figures of one style, and pictures that are written whole or not at all."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from common import check_folder, check_writable

from portnn.errors import ConfigError, PortnnError
from portnn.storage import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Colours that stay apart in print and for colour-blind readers (Okabe and Ito 2008), in the order of their use.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")


def set_style() -> None:
    """Colours, letters and frames of all that is drawn from now on."""
    try:
        from matplotlib import rcParams, rcsetup
    except ImportError as error:
        raise ConfigError("drawing needs matplotlib: pip install matplotlib") from error
    rcParams["axes.prop_cycle"] = rcsetup.cycler("color", COLOURS)
    rcParams |= {"axes.spines.top": False, "axes.spines.right": False, "font.size": 9.0}


def figure(rows: int = 1, columns: int = 1, *, width: float = 9.0, height: float = 3.6) -> tuple[Figure, list]:  # type: ignore[type-arg]
    """A drawing of ``width x height`` inches and its axes, row by row. It belongs to no window: nothing is shown."""
    set_style()
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(width, height), layout="constrained")
    return drawing, list(drawing.subplots(rows, columns, squeeze=False).flat)


def check_picture(path: str | Path) -> None:
    """Raise before any work, not after it, if a picture could not be drawn, or written there."""
    figure()
    check_folder(Path(path).parent)
    if Path(path).parent.is_dir():
        check_writable(path)


def save(drawing: Figure, picture: Path) -> None:
    """Write a PNG file, whole or not at all, into a folder that is made if need be."""
    content = BytesIO()
    drawing.savefig(content, format="png", dpi=100, metadata={"Software": None})
    try:
        picture.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(picture, content.getvalue())
    except OSError as error:
        raise PortnnError(f"{picture} cannot be written: {error.strerror or error}") from error
    print(f"wrote {picture}")
