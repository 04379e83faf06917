"""What the benchmarks share with the programs in scripts/: arguments, how errors are shown, pictures and networks."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "scripts"))  # no package, so that each program in it can be run
from common import (
    Parser,
    add_data_arguments,
    add_device_arguments,
    add_precision_argument,
    add_seed_argument,
    check_writable,
    load_images,
    run,
    write_json,
)
from curve import Watch
from drawing import check_picture, figure, save
from models import RECIPES, Recipe, mlp

__all__ = [
    "RECIPES",
    "Parser",
    "Recipe",
    "Watch",
    "add_data_arguments",
    "add_device_arguments",
    "add_precision_argument",
    "add_seed_argument",
    "check_picture",
    "check_writable",
    "figure",
    "load_images",
    "mlp",
    "run",
    "save",
    "write_json",
]
