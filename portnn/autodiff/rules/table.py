"""All rules in one table: for every function of the array API standard 2024.12 that has a derivative.

A rule is written once, for both directions (`portnn.autodiff.rules.forms`), in functions of the standard alone, which
are differentiated in their turn: so it holds to any order. A few names are internal: ``getitem``, ``place``,
``setitem`` and ``cast`` stand for indexing, its adjoint, assignment and ``astype``; ``sum_over`` and ``scatter_add``
are the registered functions of these names, and ``product`` is the registered ``matmul``, whose twins multiply on the
way back, too.
"""

from portnn.autodiff.rules.decompositions import DECOMPOSITIONS
from portnn.autodiff.rules.elementwise import ELEMENTWISE
from portnn.autodiff.rules.forms import Rule
from portnn.autodiff.rules.fourier import FOURIER
from portnn.autodiff.rules.products import PRODUCTS
from portnn.autodiff.rules.reductions import REDUCTIONS
from portnn.autodiff.rules.shapes import SHAPES

__all__ = ["CREATION", "NO_DERIVATIVE", "RULES"]

#: By name; those of the extensions as ``"linalg.inv"``.
RULES: dict[str, Rule] = {**ELEMENTWISE, **REDUCTIONS, **SHAPES, **PRODUCTS, **DECOMPOSITIONS, **FOURIER}

#: Functions of arrays whose results have no derivative, or one that is 0 wherever there is one.
NO_DERIVATIVE = frozenset(
    """
    all any argmax argmin argsort bitwise_and bitwise_invert bitwise_left_shift bitwise_or bitwise_right_shift
    bitwise_xor can_cast ceil count_nonzero empty_like equal finfo floor floor_divide full_like greater greater_equal
    iinfo isdtype isfinite isin isinf isnan less less_equal logical_and logical_not logical_or logical_xor nextafter
    nonzero not_equal ones_like result_type round searchsorted sign signbit trunc unique_all unique_counts
    unique_inverse unique_values zeros_like linalg.matrix_rank
    """.split()  # noqa: SIM905
)

#: Functions that make arrays of nothing, or of numbers.
CREATION = frozenset(
    "arange empty eye from_dlpack full linspace ones zeros fft.fftfreq fft.rfftfreq".split()  # noqa: SIM905
)
