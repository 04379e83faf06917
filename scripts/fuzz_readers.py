"""Give damaged files to the readers: each is read, or refused with a sentence, and nothing else happens.

    python scripts/fuzz_readers.py --count 10000
    python scripts/fuzz_readers.py --count 500 --reader idx checkpoint

Damage is what disks, networks and people do to files: truncation, bytes that flip, pieces that are missing, doubled or
swapped, sizes that claim terabytes; and, for the description in a model file, JSON with other values in it, under a
header that is in order. The process may not have more than 1 GiB of memory of its own, and no file may take longer than
ten seconds.
"""

from __future__ import annotations

import gzip
import io
import json
import random
import signal
import struct
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import Parser, add_seed_argument, run
from safetensors.numpy import save
from tables import read_table

from portnn import Network, Trainer, losses, nn, optim
from portnn.data import read_idx, stream_year_prediction
from portnn.errors import MissingLibraryError, PortnnError
from portnn.storage import read_tensors
from portnn.training import Callback, CSVLog, EarlyStopping, JSONLinesLog, ReduceOnPlateau, Training

MEMORY = 2**30
SECONDS = 10

Reader = Callable[[Path], object]
READERS = (
    "idx",
    "idx.gz",
    "network",
    "checkpoint",
    "jsonl",
    "csv",
    "songs",
    "songs.gz",
    "songs.zip",
    "table",
    "table.gz",
)


class SaveOnce(Callback):
    """A checkpoint from within a run, so that callbacks have something to remember."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_pause(self, trainer: Training) -> None:
        trainer.save(self.path)


def make_trainer() -> Trainer:
    layer = nn.Sequential([nn.Conv2D(2), nn.BatchNorm(), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5), nn.Affine(2)])
    callbacks = [EarlyStopping("loss"), ReduceOnPlateau("loss")]
    return Trainer(Network(layer, (4, 4, 1), rng=0), losses.SoftmaxCrossEntropy(), optim.Adam(), callbacks=callbacks)


def load_checkpoint(path: Path) -> object:
    make_trainer().load(path)
    return Network.load(path)


def seeds(folder: Path) -> dict[str, tuple[Reader, list[bytes], str]]:
    """For each reader: the function, some sound files, and what they are called."""
    checkpoint, network, log = folder / "checkpoint", folder / "network", folder / "log"
    trainer = make_trainer()
    trainer.callbacks += (SaveOnce(checkpoint), JSONLinesLog(log), CSVLog(folder / "csv"))
    x = np.random.default_rng(0).normal(size=(10, 4, 4, 1)).astype(np.float32)
    trainer.fit(x, np.arange(10) % 2, epochs=3, batch_size=5)
    trainer.network.save(network)
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    idx = struct.pack(">BBBB3I", 0, 0, 0x0B, 3, *array.shape) + array.astype(">i2").tobytes()
    return {
        "idx": (read_idx, [idx, idx[:3] + b"\1" + struct.pack(">I", 24) + idx[16:]], "damaged"),
        "idx.gz": (read_idx, [gzip.compress(idx, mtime=0)], "damaged.gz"),
        "network": (Network.load, [network.read_bytes(), without_hash(network), without_hash(checkpoint)], "damaged"),
        "checkpoint": (load_checkpoint, [checkpoint.read_bytes(), without_hash(checkpoint)], "damaged"),
        "jsonl": (JSONLinesLog, [log.read_bytes()], "damaged"),
        "csv": (CSVLog, [(folder / "csv").read_bytes()], "damaged"),
        "songs": (read_songs, [SONGS], "YearPredictionMSD.txt"),
        "songs.gz": (read_songs, [gzip.compress(SONGS, mtime=0)], "YearPredictionMSD.txt.gz"),
        "songs.zip": (read_songs, [zipped("YearPredictionMSD.txt", SONGS)], "yearpredictionmsd.zip"),
        "table": (read_people, [PEOPLE], "people.csv"),
        "table.gz": (read_people, [gzip.compress(PEOPLE, mtime=0)], "people.csv.gz"),
    }


SONGS = b"".join(b"%d,%s\n" % (1990 + i, b",".join(b"%.5f" % (i - 0.37 * j) for j in range(90))) for i in range(6))
PEOPLE = b'Name,Age,Fare\n"Braund, Mr. Owen",22,7.25\n"Heikkinen, Miss Laina",,7.925\n"Moran, Mr. James",54,51.8625\n'


def zipped(name: str, content: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return made.getvalue()


def read_songs(path: Path) -> object:
    return [len(x) for x, _ in stream_year_prediction(path.parent, block=2, train_rows=4)]


def read_people(path: Path) -> object:
    return read_table(path, ["Name", "Age", "Fare"], text=["Name"])


def without_hash(path: Path) -> bytes:
    """The file as an editor would leave it, so that damage is met by what lies behind the hash."""
    content: bytes = save(*read_tensors(path))
    return content


def mutate(content: bytes, rng: random.Random) -> bytes:
    """Damage a file in one to four ways."""
    for _ in range(rng.randint(1, 4)):
        content = rng.choice(DAMAGE)(content, rng)
    return content


def _cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def _flip(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        if changed:
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _overwrite(content: bytes, rng: random.Random) -> bytes:
    """Bytes that are often the length of something."""
    piece = rng.choice((b"\xff" * 4, b"\x7f" + b"\xff" * 7, b"\0" * 8, rng.randbytes(rng.randint(1, 16)), b"\n", b'"'))
    at = rng.choice((rng.randrange(len(content) + 1), rng.randrange(min(len(content), 24) + 1)))
    return content[:at] + piece + content[at + len(piece) :]


def _rearrange(content: bytes, rng: random.Random) -> bytes:
    a, b = sorted(rng.randrange(len(content) + 1) for _ in range(2))
    return rng.choice((content[:a] + content[b:], content[:b] + content[a:], content[b:] + content[:a]))


def _header(content: bytes, rng: random.Random) -> bytes:
    """Another value somewhere in the JSON of a safetensors header, its description included."""
    try:
        size = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + size])
        header = _other_value(header, rng)
        encoded = json.dumps(header).encode()
    except (ValueError, RecursionError):
        return _flip(content, rng)
    return len(encoded).to_bytes(8, "little") + encoded + content[8 + size :]


def _other_value(value: Any, rng: random.Random) -> Any:
    """JSON with one value replaced, removed, or descended into; text that holds JSON is opened."""
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            return json.dumps(_other_value(json.loads(value), rng))
        except (ValueError, RecursionError):
            return rng.choice(VALUES)
    if isinstance(value, dict | list) and value and rng.random() < 0.95:
        keys: list[Any] = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = rng.choice(keys)
        if rng.random() < 0.05:
            del value[key]
        else:
            value[key] = _other_value(value[key], rng)
        return value
    if isinstance(value, int) and rng.random() < 0.3:
        return value + rng.choice((-1, 1, 2**31, 10**12))
    return rng.choice(VALUES)


DAMAGE = (_cut, _flip, _flip, _overwrite, _rearrange, _header, _header, _header)
VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 2, 2**31, 2**63, 10**400, 0.5, -0.5, 1e300, float("nan"), float("inf")),
    *("", "x", "NaN", "1" * 5000, [], [0], {}, [[[]]], "F64", "I8", "BF16", "valid", {"type": "Affine"}),
    *({"type": "Sequential", "layers": [{"type": "Affine", "units": 10**9}] * 3}, [0, 2**40], [10**12, 10**12]),
)


def read_all(name: str, count: int, seed: int, folder: Path) -> Counter[str]:
    """How many of the damaged files were read, and how many refused; anything else is raised."""
    reader, sound, called = seeds(folder)[name]
    path, outcomes = folder / called, Counter[str]()
    rng = random.Random(f"{name} {seed}")
    for content in sound:
        path.write_bytes(content)
        reader(path)
    # Every length and every byte of the smallest file, then anything.
    smallest = min(sound, key=len)
    systematic = [smallest[:i] for i in range(min(len(smallest), count // 4))]
    for i in range(count):
        content = systematic[i] if i < len(systematic) else mutate(rng.choice(sound), rng)
        path.write_bytes(content)
        signal.alarm(SECONDS)
        try:
            reader(path)
            outcomes["read"] += 1
        except PortnnError as error:
            if not str(error) or "\n" in str(error):
                raise AssertionError(f"{error!r} is not one sentence") from error
            outcomes["refused"] += 1
        except BaseException:
            failed = Path(tempfile.gettempdir()) / f"portnn-fuzz-{name}-{called}"
            failed.write_bytes(content)
            print(f"{name}: file {i} of seed {seed} is kept as {failed}", flush=True)
            raise
        finally:
            signal.alarm(0)
    return outcomes


def main() -> int:
    parser = Parser(__doc__)
    parser.add_count("--count", default=10_000, help="files for each reader (default: 10000)")
    add_seed_argument(parser, "of the damage")
    parser.add_argument("--reader", nargs="+", choices=READERS, default=READERS, help="default: all")
    args = parser.parse_args()
    try:
        import resource
    except ImportError:
        raise MissingLibraryError(
            "limits of memory and time are those of Unix: there are none on this system"
        ) from None
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    with tempfile.TemporaryDirectory() as folder:
        for name in args.reader:
            place = Path(folder) / name
            place.mkdir()
            begin = time.perf_counter()
            outcomes = read_all(name, args.count, args.seed, place)
            seconds = time.perf_counter() - begin
            print(
                f"{name:10}  {outcomes['read']:6,} read  {outcomes['refused']:6,} refused  {seconds:6.1f} s", flush=True
            )
    print("no file did anything else")
    return 0


if __name__ == "__main__":
    run(main)
