"""How direct convolutions are shared out between blocks and threads: the constants that their CUDA sources leave open.

A source is compiled for the shapes of one network. Each way to part the work that fits into registers and shared memory
is given a cost, in cycles of a multiprocessor, and the least one is taken: see `_cost`. The choice depends on shapes
alone, not on the GPU, and so does the order of every sum.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from .direct_convolution import Convolution

__all__ = ["ROWS", "Plan", "fits", "inputs", "options_of", "values", "weights"]

#: Bytes of shared memory that every GPU gives a block without being asked.
_SHARED = 48 * 1024

#: Threads of a block: each may take 255 registers then, and the launch fits.
_THREADS = 256

#: Registers of a thread for its sums, and with what it multiplies: with the rest, about 128 in all.
_SUMS, _HELD = 72, 112

#: Products that are written out in one loop, at most: the compiler takes a second for some thousands.
_UNROLLED = 2400

#: Channels and filters, at most. With 16 and 32 of them, kernels of this kind took half the time of unfolded products
#: on an H100; where there are hundreds, a product is what a GPU is made for.
_CHANNELS = 64

#: For this many images, so many warps keep the 132 multiprocessors of an H100 busy.
_IMAGES, _BUSY = 128, 132 * 8

#: Cycles for each piece, of some channels, that is brought from memory into shared memory: 20 instructions, 16 bytes.
_BRING = 0.4

#: Rows of sums that the gradients of a kernel are left in, at most: they are summed in one launch then.
ROWS = 128


@dataclass(frozen=True, order=True)
class Plan:
    """How the work of a kernel, or of a part of one, is shared out.

    Attributes
    ----------
    cost : float
        See `_cost`.
    block, blocks : int
        Threads of a block, and blocks for an image, or for a row of sums.
    shared : int
        Numbers in shared memory.
    options : dict
        What is put into the source.
    bands : int
        Into which an image is parted.
    """

    cost: float
    block: int
    blocks: int
    shared: int
    options: dict[str, int] = field(compare=False)
    bands: int = field(compare=False)


def fits(conv: Convolution) -> bool:
    """Whether somebody may ask for plans at all: small enough, and without gaps in the windows."""
    return (
        max(conv.channels, conv.filters) <= _CHANNELS
        and conv.rows.dilation == conv.columns.dilation == 1
        and conv.pool[0] * conv.pool[1] <= 7  # bits of a byte
        and min(*conv.shape, conv.rows.size, conv.columns.size, conv.channels) > 0
    )


@functools.cache
def values(conv: Convolution) -> Plan | None:
    """For the way forth; None where no way to part the work fits."""
    return min(_values(conv), default=None)


@functools.cache
def inputs(conv: Convolution) -> Plan | None:
    """For the gradient of the images."""
    return min(_inputs(conv), default=None)


@functools.cache
def weights(conv: Convolution) -> Plan | None:
    """For the gradients of kernel and bias."""
    return min(_weights(conv), default=None)


def options_of(*plans: Plan) -> dict[str, int]:
    """What is put into a source whose blocks follow one of these plans each."""
    together = {"BLOCK": max(plan.block for plan in plans), "SHARED": max(plan.shared for plan in plans)}
    return {key: value for plan in plans for key, value in plan.options.items()} | together


def _values(conv: Convolution) -> Iterator[Plan]:
    rows, columns, (high, wide_pool), (cell_rows, cell_columns) = conv.rows, conv.columns, conv.pool, conv.cells
    kernel = rows.kernel * columns.kernel * conv.channels
    for tile, wide in _tiles(conv.filters, conv.bytes):
        for length in _shares(cell_columns):
            places, strips = length * wide_pool, -(-cell_columns // length)
            span = (places - 1) * columns.stride + columns.kernel
            image_columns = (strips * places - 1) * columns.stride + columns.kernel
            for deep in _widths(conv.channels, conv.bytes):
                depths, sums = conv.channels // deep, high * places * wide
                products = rows.kernel * high * columns.kernel * deep * places * wide
                if not _held(conv, sums, span * deep + wide, products // rows.kernel):
                    continue
                read = rows.kernel * high * deep * (span + columns.kernel * wide)
                for band in _shares(cell_rows):
                    image_rows = (band * high - 1) * rows.stride + rows.kernel
                    pitch, units = image_columns * depths | 1, tile // wide * band * strips
                    lying = kernel * tile + image_rows * pitch * deep
                    bands = -(-cell_rows // band)
                    for parts in _parts(depths):
                        turns = -(-depths // parts)
                        yield from _plan(
                            conv,
                            {"TILE": tile, "WIDE": wide, "LENGTH": length, "DEEP": deep, "BAND": band, "PARTS": parts},
                            bands=bands,
                            blocks=bands * conv.filters // tile,
                            block=units * parts,
                            shared=max(lying, parts * units * sums),
                            work=(turns * products, turns * read + 2 * sums),
                            brought=kernel * tile // wide + image_rows * image_columns * depths,
                        )


def _inputs(conv: Convolution) -> Iterator[Plan]:
    rows, columns = conv.rows, conv.columns
    reach = [-(-a.kernel // a.stride) for a in (rows, columns)]
    patches = [-(-(a.size + a.before) // a.stride) - a.before // a.stride for a in (rows, columns)]
    kernel = rows.kernel * columns.kernel * conv.filters
    for tile, wide in _tiles(conv.channels, conv.bytes):
        for length in _shares(patches[1]):
            pixels, strips, span = length * columns.stride, -(-patches[1] // length), length + reach[1] - 1
            slope_columns = strips * length + reach[1] - 1
            for deep in _widths(conv.filters, conv.bytes):
                depths, sums = conv.filters // deep, rows.stride * pixels * wide
                products = rows.kernel * columns.kernel * deep * length * wide
                if not _held(conv, sums, span * deep + wide, products // reach[0]):
                    continue
                read = deep * (reach[0] * span + rows.kernel * columns.kernel * wide)
                for band in _shares(patches[0]):
                    slope_rows, bands = band + reach[0] - 1, -(-patches[0] // band)
                    pitch, units = slope_columns * depths | 1, tile // wide * band * strips
                    lying = kernel * tile + slope_rows * pitch * deep
                    for parts in _parts(depths):
                        turns = -(-depths // parts)
                        yield from _plan(
                            conv,
                            _called("INPUTS", TILE=tile, WIDE=wide, LENGTH=length, DEEP=deep, BAND=band, PARTS=parts),
                            bands=bands,
                            blocks=bands * conv.channels // tile,
                            block=units * parts,
                            shared=max(lying, parts * units * sums),
                            work=(turns * products, turns * read + 2 * sums),
                            brought=kernel * tile + slope_rows * slope_columns * depths,
                        )


def _weights(conv: Convolution) -> Iterator[Plan]:
    rows, columns = conv.rows, conv.columns
    image_columns = (columns.count - 1) * columns.stride + columns.kernel
    for (tile_in, deepest), (tile, wide) in _pairs(_tiles(conv.channels, conv.bytes), _tiles(conv.filters, conv.bytes)):
        for deep in _widths(deepest, conv.bytes):
            depths, groups, sums = tile_in // deep, tile // wide, columns.kernel * deep * wide
            if not _held(conv, sums, columns.kernel * deep + wide, sums * columns.kernel):
                continue
            units, kernel = groups * depths * rows.kernel, rows.kernel * columns.kernel * tile_in * tile
            read = min(columns.stride, columns.kernel) * deep + wide
            for band in _shares(rows.count):
                image_rows, pitch = (band - 1) * rows.stride + rows.kernel, image_columns * depths | 1
                slopes, bands = -(-band * (columns.count | 1) * tile // 4) * 4, -(-rows.count // band)
                for parts in _parts(min(band, _THREADS // units)):
                    if units * parts < tile:
                        continue
                    places = -(-band // parts) * columns.count
                    yield from _plan(
                        conv,
                        _called("WEIGHTS", TILE_IN=tile_in, TILE=tile, WIDE=wide, DEEP=deep, BAND=band, PARTS=parts),
                        bands=bands,
                        # All bands of an image are taken by a block, and by so many others of other channels.
                        blocks=conv.channels // tile_in * conv.filters // tile,
                        block=units * parts,
                        shared=max(slopes + image_rows * pitch * deep, parts * kernel) + _THREADS,
                        work=(bands * places * sums, bands * places * read + 2 * sums),
                        brought=bands * (image_rows * image_columns * depths + band * columns.count * groups),
                    )


def _plan(
    conv: Convolution,
    options: dict[str, int],
    *,
    bands: int,
    blocks: int,
    block: int,
    shared: int,
    work: tuple[int, int],
    brought: int,
) -> Iterator[Plan]:
    """The plan, if it fits into a block."""
    if 0 < block <= _THREADS and conv.bytes * shared <= _SHARED:
        cost = _cost(blocks, block, *work, brought)
        yield Plan(cost, block, blocks, shared, {**conv.options, **options}, bands)


def _called(part: str, **options: int) -> dict[str, int]:
    return {f"{part}_{key}": value for key, value in options.items()}


def _cost(blocks: int, block: int, products: int, read: int, brought: int) -> float:
    """Cycles for an image, of one multiprocessor that has enough to do.

    It multiplies 4 times 32 numbers in a cycle, and reads 32 from shared memory; ``products`` and ``read`` are those of
    a thread. Warps that are fewer than keep all multiprocessors busy wait for each other.
    """
    warps = -(-block // 32)
    cycles = warps * max(products / 4, read) + brought * _BRING
    return blocks * cycles * (1 + _BUSY / (_IMAGES * blocks * warps))


def _held(conv: Convolution, sums: int, beside: int, unrolled: int) -> bool:
    """Whether a thread's numbers fit into its registers, and its loop into the compiler's patience."""
    words = conv.bytes // 4
    return sums * words <= _SUMS and (sums + beside) * words <= _HELD and unrolled <= _UNROLLED


def _widths(n: int, size: int) -> list[int]:
    """Channels, of so many bytes, that may be read at once: 16 bytes or less."""
    return [width for width in (4, 2, 1) if n % width == 0 and width * size <= 16]


def _tiles(n: int, size: int) -> list[tuple[int, int]]:
    """Ways to part channels into tiles of one length, and how many of them a thread takes."""
    width = _widths(n, size)[0]
    return [(tile, width) for tile in range(width, n + 1, width) if n % tile == 0]


def _shares(n: int) -> list[int]:
    """Lengths into which n may be parted: none that leaves more over than another one of as many parts."""
    return sorted({-(-n // k) for k in range(1, n + 1)})


def _parts(n: int) -> Iterable[int]:
    return [k for k in (1, 2, 4, 8, 16) if k <= n]


def _pairs(a: Iterable[tuple[int, int]], b: Iterable[tuple[int, int]]) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    return [(one, other) for one in a for other in b]
