"""What the lectures share: where they compute, and where their pictures go.

Each lecture is one file on one topic, in cells of text, code and pictures. ``make docs`` makes a page of it, with
sphinx-gallery. As a program, ``python scripts/lectures/<topic>.py`` runs the same cells, prints what is printed on the
page, and writes the pictures: ``<topic>.png``, ``<topic>_2.png`` and so on.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

from portnn import get_backend

sys.path.insert(0, str(Path(__file__).parent.parent))  # the folder above is no package, as nothing in scripts/ is
from common import Parser, add_device_arguments, add_seed_argument, begin
from drawing import check_picture, save, set_style

__all__ = ["asked", "show"]

#: Where the next pictures go; nowhere on a page, which takes them itself.
_places: Iterator[Path] | None = None
_computing = ExitStack()


def asked(description: str | None) -> tuple[str, int]:
    """What a person asked for who runs a lecture as a program; on a page, the defaults.

    Parameters
    ----------
    description : str or None
        The docstring of the lecture, for ``--help``.

    Returns
    -------
    device : str
        As `get_backend` takes it, and ``device=``.
    seed : int
    """
    global _places
    _computing.close()  # of the page before this one
    if "sphinx_gallery.gen_rst" in sys.modules:  # its arguments are those of Sphinx, and it may not be ended
        device, seed, _places = "cpu", 0, None
        _computing.enter_context(get_backend(device).context())
    else:
        device, seed, _places = begin(lambda: _options(description))
    set_style()
    import matplotlib

    matplotlib.use("agg")  # no windows
    return device, seed


def _options(description: str | None) -> tuple[str, int, Iterator[Path]]:
    """Device, seed and the places of pictures, once they are known to be usable."""
    parser = Parser(description)
    add_device_arguments(parser)
    add_seed_argument(parser, "of everything that is drawn at random", bits=32)
    parser.add_path("--output", default="pictures", metavar="DIR", help="folder for the pictures (default: pictures)")
    args = parser.parse_args()
    device, topic, folder = args.backend or args.device, Path(sys.argv[0]).stem, Path(args.output)
    _computing.enter_context(get_backend(device).context())
    check_picture(folder / f"{topic}.png")
    return device, args.seed, (folder / (f"{topic}_{i}.png" if i > 1 else f"{topic}.png") for i in count(1))


def show() -> None:
    """Show the figures that are open: a program writes them and closes them."""
    if _places is None:
        return
    from matplotlib import pyplot

    for number in pyplot.get_fignums():
        save(pyplot.figure(number), next(_places))
        pyplot.close(number)
    sys.stdout.flush()  # here it can be said if that fails
