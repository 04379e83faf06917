"""What the lecture programs share: their arguments, and how they draw.

Each program is one file that shows one topic: ``python scripts/lectures/<topic>.py`` prints what it found and writes
one picture, ``<topic>.png``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from portnn import get_backend
from portnn.backend import Backend

sys.path.insert(0, str(Path(__file__).parent.parent))  # the folder above is no package, as nothing in scripts/ is
from common import Parser, add_device_arguments, add_seed_argument, run
from drawing import check_picture, figure, save

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Lecture", "figure", "present"]


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
        parser = Parser(description)
        add_device_arguments(parser)
        add_seed_argument(parser, "of everything that is drawn at random", bits=32)
        parser.add_path(
            "--output", default="pictures", metavar="DIR", help="folder for the picture (default: pictures)"
        )
        args = parser.parse_args()
        self.backend: Backend = get_backend(args.backend or args.device)
        self.seed: int = args.seed
        self.picture = Path(args.output) / f"{topic}.png"
        check_picture(self.picture)

    def save(self, drawing: Figure) -> None:
        """Write the picture, whole or not at all."""
        save(drawing, self.picture)


def present(lecture: Callable[[Lecture], None], description: str | None, file: str) -> None:
    """Run a lecture program: ``present(main, __doc__, __file__)``; errors as in the other scripts."""

    def main() -> None:
        asked = Lecture(description or "", Path(file).stem)
        with asked.backend.context():
            lecture(asked)

    run(main)
