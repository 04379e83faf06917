"""Every CUDA source compiles, for every type and architecture, without a GPU: NVRTC needs none."""

from importlib.resources import files

import numpy as np
import pytest
from convolutions import plans, recipes
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
        {"LOSS": loss.__name__, "ACTIVATION": activation, "SCORES": scores, "PER": per, "TARGET": target}
        for loss, activation, scores, per, target in zip(
            cupy_loss_groups.LOSSES,
            ["ReLU", "GELU", "None", "Tanh"],
            [cupy_loss_groups.MOST_SCORES, 10, 1, 3],
            [4, 4, 16, 8],
            [np.dtype("int64"), *["REAL"] * 3],
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


def compile_source(code, options, architecture):
    """A device program; CompileException, with the lines, where there is none."""
    from cupy.cuda.compiler import _NVRTCProgram  # compile_using_nvrtc asks the GPU for its architecture

    program = _NVRTCProgram(code, "kernels.cu", method="cubin")
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
    from cupy.cuda.compiler import _NVRTCProgram

    return (
        _NVRTCProgram(code, "kernels.cu", method="ptx").compile((*options, "-ftz=true", "-arch=compute_90"))[0].decode()
    )


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
