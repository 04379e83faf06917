"""Measure a saved network on the test images that it was trained for.

python scripts/predict_mnist.py --model model.safetensors --data-dir path/to/data
"""

from __future__ import annotations

import numpy as np
from common import Parser, add_data_arguments, add_device_arguments, load_images, run

from portnn import Network
from portnn.errors import ShapeError

DATA_OF_SHAPE: dict[tuple[int, ...], str] = {(28, 28): "mnist", (8, 8): "digits"}


def main() -> None:
    parser = Parser(__doc__)
    parser.add_path("--model", required=True, metavar="FILE", help="what train_mnist.py --save wrote")
    add_data_arguments(parser, auto="by the size of its images")
    add_device_arguments(parser)
    args = parser.parse_args()

    net = Network.load(args.model, device=args.backend or args.device)
    name = DATA_OF_SHAPE.get(net.input_shape) if args.data == "auto" else args.data
    if name is None:
        raise ShapeError(f"{args.model} takes rows of shape {net.input_shape}; known images are {DATA_OF_SHAPE}")
    data = load_images(name, args.data_dir)
    if net.output_shape != (data.classes,):
        raise ShapeError(
            f"{args.model} has outputs of shape {net.output_shape}; {data.name} has {data.classes} classes"
        )
    scores = np.asarray(net.predict(data.x_test))
    right = int((scores.argmax(axis=1) == data.y_test).sum())
    print(f"test accuracy {right / len(data.y_test):.2%} on {data.name}: {right:,} of {len(data.y_test):,} right")


if __name__ == "__main__":
    run(main)
