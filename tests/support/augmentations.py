"""An augmentation of every kind, and all in a row."""

from portnn.data.augmentation import Brightness, Compose, Contrast, Cutout, Flip, Noise, RandomCrop, Rotate, Shift, Zoom

MEMBERS = {
    "Shift": Shift(2),
    "Shift-each axis": Shift((0, 3)),
    "RandomCrop": RandomCrop((7, 5), padding=(1, 2)),
    "RandomCrop-smaller": RandomCrop(4),
    "Flip": Flip(),
    "Flip-both": Flip(vertical=True),
    "Rotate": Rotate(30),
    "Zoom": Zoom(0.4),
    "Brightness": Brightness(0.3),
    "Contrast": Contrast(0.5),
    "Noise": Noise(0.1),
    "Cutout": Cutout(3),
}
ALL = Compose([Flip(), Shift(1), Rotate(15), Zoom(0.2), Brightness(0.1), Contrast(0.1), Noise(0.1), Cutout(2)])
