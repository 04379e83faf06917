"""Every CUDA source compiles, for every type and architecture, without a GPU: NVRTC needs none."""

import functools
import re
from importlib.resources import files

import numpy as np
import pytest
from convolutions import plans, recipes
from parity import RULES
from portnn_backends.on_cupy import affine_groups as cupy_affine_groups
from portnn_backends.on_cupy import compile as cupy_compile
from portnn_backends.on_cupy import loss_groups as cupy_loss_groups
from portnn_backends.on_cupy import updates as cupy_updates

import portnn.optim  # noqa: F401  (the twins of its rules ask for their signatures)

REALS = [np.dtype("float32"), np.dtype("float64")]
ARCHITECTURES = ["sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120"]

#: What is to be chosen in each source: the least and the widest choice at least.
CHOICES = {
    "activations": [{}],
    "affine_groups": [{"ACTIVATION": kind.__name__} for kind in cupy_affine_groups.ACTIVATIONS],
    "bfloat16": [{}],
    "convolution": [{"PLACE": "unsigned int"}, {"PLACE": "unsigned long long"}],
    "linear": [{}],
    "loss_groups": [
        {
            "LOSS": loss.__name__,
            "ACTIVATION": activation,
            "SCORES": scores,
            "PER": per,
            "TARGET": target,
            "ROUNDED": rounded,
        }
        for loss, activation, scores, per, target, rounded in zip(
            cupy_loss_groups.LOSSES,
            ["ReLU", "GELU", "None", "Tanh"],
            [cupy_loss_groups.MOST_SCORES, 10, 1, 3],
            [4, 4, 16, 8],
            [np.dtype("int64"), *["REAL"] * 3],
            [0, 1, 0, 1],
            strict=True,
        )
    ],
    "losses": [{"INDEX": np.dtype("uint8")}, {"INDEX": np.dtype("int64")}],
    "noise": [{}],
    "normalization": [{}],
    "pooling": [{"PLACE": "unsigned int"}, {"PLACE": "unsigned long long"}],
    "reductions": [{}, {"REAL": np.dtype("int64")}],
    "rows": [{"INDEX": np.dtype("uint8")}, {"INDEX": np.dtype("int64")}],
    "steps": [{}],
    "sums": [{}],
    "updates": [{"LEAVES": cupy_updates._LEAVES, "PIECE": cupy_updates._PIECE}],
}

#: Those that are compiled for the shapes of a network, by the types of its numbers: what is chosen for the networks of
#: train_mnist.py. Tried in every run: the two layers of one of them.
DIRECT = {f"direct_{name}": name for name in ("values", "slopes", "weights")}
CHOICES |= {
    subject: [each for real in REALS for each in plans(name, ("cnn",), real)] for subject, name in DIRECT.items()
}


def no_compiler():
    """Why NVRTC cannot be used here; None if it can."""
    try:
        from cupy_backends.cuda.libs import nvrtc

        nvrtc.getVersion()
    except (ImportError, RuntimeError) as error:  # cuda.pathfinder's DynamicLibNotFoundError is a RuntimeError
        return f"CUDA's compiler NVRTC is not installed: {type(error).__name__}"
    return None


needs_compiler = pytest.mark.skipif(no_compiler() is not None, reason=str(no_compiler()))


def compile_source(code, options, architecture, method="cubin"):
    """A device program; CompileException, with the lines, where there is none."""
    from cupy.cuda.compiler import _NVRTCProgram  # compile_using_nvrtc asks the GPU for its architecture

    program = _NVRTCProgram(code, "kernels.cu", method=method)
    return program.compile((*options, "-ftz=true", f"-arch={architecture}"))[0]  # as CuPy does


def log_of(code, options, architecture):
    """What the assembler says of a program."""
    from cupy_backends.cuda.libs import nvrtc

    program = nvrtc.createProgram(code, "kernels.cu", (), ())
    try:
        nvrtc.compileProgram(program, (*options, f"-arch={architecture}", "--ptxas-options=-v"))
        return nvrtc.getProgramLog(program)
    finally:
        nvrtc.destroyProgram(program)


def ptx_of(code, options):
    """What the compiler gives to the assembler."""
    text = compile_source(code, options, "compute_90", "ptx")
    return text.decode() if isinstance(text, bytes) else text


def test_every_source_is_compiled_here():
    folder = files("portnn_backends.on_cupy").joinpath("cuda")
    assert {path.name.removesuffix(".cu") for path in folder.iterdir() if path.name.endswith(".cu")} == CHOICES.keys()


def check(subject, architecture, real, choices):
    for choice in choices:
        if choice.get("REAL", real) in REALS and choice.get("REAL", real) != real:
            continue  # a plan of the other type
        options = cupy_compile.compiler_options({"REAL": real} | choice)
        assert compile_source(cupy_compile.source(subject), options, architecture).startswith(b"\x7fELF")


@needs_compiler
@pytest.mark.parametrize(("architecture", "real"), [("sm_75", REALS[0]), ("sm_100", REALS[1])], ids=str)
@pytest.mark.parametrize("subject", sorted(CHOICES))
def test_compiles(subject, architecture, real):
    check(subject, architecture, real, CHOICES[subject][: 4 if subject in DIRECT else 2])


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("real", REALS, ids=str)
@pytest.mark.parametrize("subject", sorted(CHOICES))
def test_compiles_for_every_architecture(subject, architecture, real):
    check(subject, architecture, real, CHOICES[subject])


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("subject", DIRECT)
def test_convolutions_of_every_network_compile(subject, architecture):
    for real in REALS:
        chosen = plans(DIRECT[subject], tuple(recipes()), real)
        assert len(chosen) == 8
        check(subject, architecture, real, chosen)


@needs_compiler
@pytest.mark.parametrize("names", [("cnn",), pytest.param(tuple(recipes()), marks=pytest.mark.slow)], ids=len)
@pytest.mark.parametrize("subject", DIRECT)
def test_sums_of_convolutions_stay_in_registers(subject, names):
    """Local memory, where the compiler puts what it has no registers for, is as far away as any other."""
    for choice in plans(DIRECT[subject], names, REALS[0]):
        log = log_of(cupy_compile.source(subject), cupy_compile.compiler_options(choice), "sm_90")
        assert "0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads" in log


@needs_compiler
@pytest.mark.parametrize(("subject", "scalars"), [("direct_values", 0), ("direct_slopes", 1), ("direct_weights", 1)])
def test_convolutions_write_vectors(subject, scalars):
    """All that goes to memory but the gradient of a bias: the compiler must see that it begins where a vector may."""
    (_, choice) = plans(DIRECT[subject], ("cnn",), REALS[0])
    code = ptx_of(cupy_compile.source(subject), cupy_compile.compiler_options(choice))
    assert code.count("st.global.v4.f32") == 1 + (subject == "direct_slopes")
    assert code.count("st.global.f32") == scalars


@needs_compiler
def test_a_wrong_source_is_refused():
    from cupy.cuda.compiler import CompileException

    with pytest.raises(CompileException, match="undefined"):
        compile_source("KERNEL f(float* x) { *x = 1; }", (), "sm_90")


def test_arguments_fit():
    """A kernel takes 4 KiB of arguments."""
    numbers = max(len(kernel.function._keywords) for kernel in cupy_updates.KERNELS.values())
    assert cupy_updates._TABLE.itemsize + numbers * cupy_compile._NUMBER.itemsize <= 4096


#: What a kernel reads and writes 16 bytes at a time: arrays that are read value by value, those that are read once for
#: some columns, and those that are written.
WORDS = {
    "activations": {"relu_values": (1, 0, 1), "relu_slopes": (2, 0, 1)},
    "affine_groups": {"activated": (1, 1, 1), "activated_slopes": (2, 1, 1)},
    "linear": {"add_row": (1, 1, 1)},
    "losses": {"class_slopes": (1, 0, 1)},
    "normalization": {
        "centred_sums": (1, 1, 0),
        "normalise": (1, 4, 1),
        "slope_sums": (2, 1, 0),
        "slopes": (2, 5, 1),
    },
    "rows": {"divided_rows": (1, 0, 1)},
    "sums": {"column_sums": (1, 0, 0)},
}


@functools.cache
def instructions(subject, real):
    """Of each kernel, all that its source, with its first choices, becomes for a virtual machine."""
    options = cupy_compile.compiler_options({"REAL": real} | CHOICES[subject][0])
    text = ptx_of(cupy_compile.source(subject), options)
    return dict(re.findall(r"^\.visible \.entry (\w+)(.*?)^}", text, re.MULTILINE | re.DOTALL))


def words(text, kind):
    """How many instructions there are for several values at once."""
    return len(re.findall(rf"\b{kind}\.global[.\w]*\.(?:v4\.[bfsu]32|v2\.[bfsu]64|v4\.[bsu]8)\b", text))


@needs_compiler
@pytest.mark.parametrize("real", [REALS[0], pytest.param(REALS[1], marks=pytest.mark.slow)], ids=str)
@pytest.mark.parametrize(("subject", "name"), [(subject, name) for subject in WORDS for name in WORDS[subject]])
def test_memory_is_read_and_written_by_words(subject, name, real):
    """Several of them before a thread waits, and once more for what is left; and no register lies in memory."""
    text = instructions(subject, real)[name]
    values, columns, written = WORDS[subject][name]
    times = cupy_compile._FLIGHT + 1
    # Four bytes become four numbers, which are one word or two.
    longer = 2 if name == "divided_rows" and real == REALS[1] else 1
    assert (words(text, "ld"), words(text, "st")) == (values * times + columns, written * times * longer)
    assert ".local" not in text


@needs_compiler
@pytest.mark.parametrize("real", [REALS[0], pytest.param(REALS[1], marks=pytest.mark.slow)], ids=str)
def test_leaves_are_updated_by_words(real):
    """All arrays of a thread are on their way at once: once is enough."""
    kernels = instructions("updates", real)
    assert kernels.keys() == RULES.keys()
    for name, text in kernels.items():
        slots = RULES[name].slot_count
        assert (words(text, "ld"), words(text, "st")) == (2 + slots, 1 + slots), name
        assert ".local" not in text, name


@needs_compiler
@pytest.mark.parametrize("subject", ["convolution", "pooling"])
def test_channels_are_read_and_written_by_words(subject):
    for name, text in instructions(subject, REALS[0]).items():
        # The numbers of places, too.
        both = {"largest_values": (1, 2), "largest_slopes": (2, 1)}.get(name, (1, 1))
        # The compiler may repeat a loop over the values of a window.
        assert words(text, "ld") >= both[0], name
        assert words(text, "st") == both[1], name
        assert ".local" not in text, name


@needs_compiler
def test_factors_are_rounded_by_words():
    times = cupy_compile._FLIGHT + 1
    for name, text in instructions("bfloat16", REALS[0]).items():
        # Two words become one, where only the upper halves stay.
        assert (words(text, "ld"), words(text, "st")) == (times * (2 if name == "to_bfloat16" else 1), times)
        assert ".local" not in text


@needs_compiler
def test_noise_is_written_by_words():
    for text in instructions("noise", REALS[0]).values():
        assert (words(text, "ld"), words(text, "st")) == (0, 2)
        assert ".local" not in text


@needs_compiler
def test_words_that_are_lost_are_missed(monkeypatch):
    text = cupy_compile.source("activations").replace("wide ? size / N : 0", "0")
    assert text != cupy_compile.source("activations")
    monkeypatch.setattr(cupy_compile, "source", lambda subject: text)
    uncached = instructions.__wrapped__("activations", REALS[0])
    assert words(uncached["relu_values"], "ld") == words(uncached["relu_values"], "st") == 0
