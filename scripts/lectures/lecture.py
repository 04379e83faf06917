"""What the lecture programs share: their arguments, and how they draw.

Each program is one file that shows one topic: ``python scripts/lectures/<topic>.py`` prints what it found and writes
one picture, ``<topic>.png``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from portnn import get_backend
from portnn.backend import Backend
from portnn.errors import ConfigError, PortnnError
from portnn.storage import write_atomically

sys.path.insert(0, str(Path(__file__).parent.parent))  # the folder above is no package, as nothing in scripts/ is
from common import add_device_arguments, run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Lecture", "figure", "present"]

#: Colours that stay apart in print and for colour-blind readers (Okabe and Ito 2008), in the order of their use.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")


class Lecture:
    """What a person asked for: where to compute, from which seed, and where the picture goes.

    Attributes
    ----------
    backend : Backend
    seed : int
    picture : Path
        The PNG file to write.
    """

    def __init__(self, description: str, topic: str) -> None:
        parser = argparse.ArgumentParser(
            description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
        )
        add_device_arguments(parser)
        parser.add_argument("--seed", type=int, default=0, help="of everything that is drawn at random (default: 0)")
        parser.add_argument(
            "--output", default="pictures", metavar="DIR", help="folder for the picture (default: pictures)"
        )
        args = parser.parse_args()
        self.backend: Backend = get_backend(args.backend or args.device)
        self.seed: int = args.seed
        self.picture = Path(args.output) / f"{topic}.png"

    def save(self, drawing: Figure) -> None:
        """Write the picture, whole or not at all."""
        content = BytesIO()
        drawing.savefig(content, format="png", dpi=100, metadata={"Software": None})
        try:
            self.picture.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(str(self.picture), content.getvalue())
        except OSError as error:
            raise PortnnError(f"{self.picture} cannot be written: {error.strerror or error}") from error
        print(f"wrote {self.picture}")


def figure(rows: int = 1, columns: int = 1, *, width: float = 9.0, height: float = 3.6) -> tuple[Figure, list]:  # type: ignore[type-arg]
    """A drawing of ``width x height`` inches and its axes, row by row. It belongs to no window: nothing is shown."""
    try:
        from matplotlib import rcParams, rcsetup
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError('the lecture programs draw with matplotlib: pip install ".[plot]"') from error
    rcParams["axes.prop_cycle"] = rcsetup.cycler("color", COLOURS)
    rcParams |= {"axes.spines.top": False, "axes.spines.right": False, "font.size": 9.0}
    drawing = Figure(figsize=(width, height), layout="constrained")
    return drawing, list(drawing.subplots(rows, columns, squeeze=False).flat)


def present(lecture: Callable[[Lecture], None], description: str | None, file: str) -> None:
    """Run a lecture program: ``present(main, __doc__, __file__)``; errors as in the other scripts."""

    def main() -> None:
        figure()  # before any work, not after it
        lecture(Lecture(description or "", Path(file).stem))

    run(main)
