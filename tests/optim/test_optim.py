"""Generic tests over the table of optimizers."""

import dataclasses
import math

import numpy as np
import pytest
from families import OPTIMIZERS
from helpers import assert_close, assert_here, get, put
from lanes import host_closed, open_lane

from portnn import get_backend, kernels, optim, tree
from portnn.errors import ConfigError, ShapeError
from portnn.optim import schedules

all_optimizers = pytest.mark.parametrize("opt", OPTIMIZERS.values(), ids=OPTIMIZERS)

START = ({"w": np.asarray([[3.0, -2.0], [0.5, 1.0]]), "b": np.asarray([1.0, -1.0])}, {})
SCALE = {"w": np.asarray([[1.0, 2.0], [3.0, 0.5]]), "b": np.asarray([1.0, 4.0])}


def gradient(params, scale):
    """Of the bowl ``1/2 sum scale * p^2``, whose minimum is at 0."""
    return ({key: scale[key] * params[0][key] for key in scale}, {})


def descend(opt, backend, dtype, steps):
    params, scale = put(backend, (START, SCALE), dtype)
    params = ({key: backend.copy(value) for key, value in params[0].items()}, {})
    state = opt.init(params)
    for _ in range(steps):
        params, state = opt.step(params, gradient(params, scale), state)
    return params, state


@all_optimizers
def test_finds_the_minimum(opt):
    params, state = descend(opt, get_backend("numpy"), "float64", 300)
    assert state["step"] == 300
    assert max(abs(p).max() for p in params[0].values()) < 1e-3


@all_optimizers
def test_same_steps_on_every_backend_in_its_dtype(opt, typed):
    backend, dtype = typed
    params, state = descend(opt, backend, dtype, 5)
    assert_here(backend, dtype, (params, state["slots"]))
    assert_close(get(backend, params), descend(opt, get_backend("numpy"), "float64", 5)[0], dtype)


@all_optimizers
def test_nothing_leaves_the_device(opt):
    with open_lane("strict:device1") as backend:
        params, scale = put(backend, (START, SCALE), "float32")
        with host_closed(backend):
            opt.step(params, gradient(params, scale), opt.init(params))


@all_optimizers
def test_gradients_are_not_changed(opt, backend):
    params, scale = put(backend, (START, SCALE), "float32")
    params = ({key: backend.copy(value) for key, value in params[0].items()}, {})
    before = {key: np.array(value) for key, value in get(backend, scale).items()}
    opt.step(params, (scale, {}), opt.init(params))
    for key, value in get(backend, scale).items():
        np.testing.assert_array_equal(value, before[key])


#: The same rule of torch, for parameters; from torch's module and ours.
THEIRS = {
    "SGD": lambda t, o: lambda p: t.SGD(p, lr=o.lr),
    "Momentum": lambda t, o: lambda p: t.SGD(p, lr=o.lr, momentum=o.alpha),
    "Nesterov": lambda t, o: lambda p: t.SGD(p, lr=o.lr, momentum=o.alpha, nesterov=True),
    "Adagrad": lambda t, o: lambda p: t.Adagrad(p, lr=o.lr, eps=o.eps),
    "Adadelta": lambda t, o: lambda p: t.Adadelta(p, lr=o.lr, rho=o.rho, eps=o.eps),
    "RMSProp": lambda t, o: lambda p: t.RMSprop(p, lr=o.lr, alpha=o.decay, eps=o.eps),
    "CentredRMSProp": lambda t, o: lambda p: t.RMSprop(p, lr=o.lr, alpha=o.decay, eps=o.eps, centered=True),
    "Adam": lambda t, o: lambda p: t.Adam(p, lr=o.lr, betas=(o.beta1, o.beta2), eps=o.eps),
    "AMSGrad": lambda t, o: lambda p: t.Adam(p, lr=o.lr, betas=(o.beta1, o.beta2), eps=o.eps, amsgrad=True),
    "AdamW": lambda t, o: lambda p: t.AdamW(p, lr=o.lr, betas=(o.beta1, o.beta2), weight_decay=o.weight_decay),
    "Adamax": lambda t, o: lambda p: t.Adamax(p, lr=o.lr, betas=(o.beta1, o.beta2), eps=o.eps),
    "NAdam": lambda t, o: (
        lambda p: t.NAdam(p, lr=o.lr, betas=(o.beta1, o.beta2), eps=o.eps, momentum_decay=o.momentum_decay)
    ),
}


@pytest.mark.parametrize("name", THEIRS)
def test_equals_torch(name, request):
    torch, opt = pytest.importorskip("torch"), OPTIMIZERS[name]
    if isinstance(opt.lr, optim.schedules.Schedule):
        opt = dataclasses.replace(opt, lr=0.05)
    theirs = THEIRS[type(opt).__name__](torch.optim, opt)
    # The scalars of torch's NAdam are float32 unless the default dtype is another.
    torch.set_default_dtype(torch.float64)
    request.addfinalizer(lambda: torch.set_default_dtype(torch.float32))
    leaves = {key: torch.tensor(value, requires_grad=True) for key, value in START[0].items()}
    optimizer = theirs(list(leaves.values()))
    for _ in range(50):
        for key, leaf in leaves.items():
            leaf.grad = torch.tensor(SCALE[key]) * leaf.detach()
        optimizer.step()
    params, _ = descend(opt, get_backend("numpy"), "float64", 50)
    for key, leaf in leaves.items():
        np.testing.assert_allclose(params[0][key], leaf.detach().numpy(), rtol=1e-10, atol=1e-12)


@all_optimizers
def test_trees_must_match(opt):
    params = {"w": np.ones(2), "b": np.ones(1)}
    with pytest.raises(ShapeError, match=r"trees differ at the top: a dict with keys \['b', 'w'\] against .*\['w'\]"):
        opt.step(params, {"w": np.ones(2)}, opt.init(params))


@all_optimizers
def test_is_frozen_and_its_repr_says_all(opt):
    assert eval(repr(opt), vars(optim) | vars(optim.schedules)) == opt
    with pytest.raises(dataclasses.FrozenInstanceError):
        opt.lr = 1.0


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: optim.SGD(lr=-0.1), r"lr must be a number in \(0, inf\), not -0.1"),
        (lambda: optim.SGD(lr=0), "lr must be"),
        (lambda: optim.SGD(lr=float("nan")), "lr must be"),
        (lambda: optim.SGD(lr="fast"), "lr must be"),
        (lambda: optim.Momentum(alpha=1.0), r"alpha must be a number in \[0, 1\), not 1.0"),
        (lambda: optim.Adam(beta2=1.0), r"beta2 must be a number in \[0, 1\), not 1.0"),
        (lambda: optim.Adam(eps=-1e-8), "eps must be"),
        (lambda: optim.Nesterov(alpha=-0.1), "alpha must be"),
        (lambda: optim.Adagrad(eps=-1), "eps must be"),
        (lambda: optim.Adadelta(rho=1), "rho must be"),
        (lambda: optim.RMSProp(decay=1), "decay must be"),
        (lambda: optim.CentredRMSProp(lr=0), "lr must be"),
        (lambda: optim.AdamW(weight_decay=-1), "weight_decay must be"),
        (lambda: optim.NAdam(momentum_decay=-1), "momentum_decay must be"),
        (lambda: optim.ClipByNorm(0), "limit must be"),
        (lambda: optim.ClipByValue(-1), "limit must be"),
        (lambda: optim.L1(-1), "rate must be"),
        (lambda: optim.L2(float("inf")), "rate must be"),
        (lambda: optim.WeightDecay(-1, optim.SGD()), "rate must be"),
        (lambda: optim.WeightDecay(0.1, optim.SGD), r"optimizer must be an Optimizer, .*; write SGD\(\)"),
        (lambda: optim.chain(), "chain needs an optimizer"),
        (lambda: optim.chain(optim.SGD(), optim.L2(0.1)), "chain links gradient transforms before its last entry"),
        (lambda: optim.chain(optim.L2(0.1)), "chain ends with an optimizer"),
        (lambda: schedules.Step(0.1, every=0), "every must be a positive int"),
        (lambda: schedules.Exponential(0.1, factor=1.1), "factor must be"),
        (lambda: schedules.InverseTime(0.1, rate=-1), "rate must be"),
        (lambda: schedules.Cosine(-0.1, steps=3), "lr must be"),
        (lambda: schedules.Polynomial(0.1, steps=3, power=0), "power must be"),
        (lambda: schedules.WarmUp(0.1, steps=3), "WarmUp goes on with a schedule"),
        (lambda: schedules.OneCycle(0.1, steps=3, rise=1), "rise must be"),
    ],
)
def test_bad_hyper_parameters_fail_at_construction(make, sentence):
    with pytest.raises(ConfigError, match=sentence):
        make()


@all_optimizers
def test_shapes_must_match(opt):
    """A rule that works on flat memory would not notice."""
    params = {"w": np.ones((2, 3))}
    with pytest.raises(ShapeError, match=r"a gradient of shape \(3, 2\) for a parameter of shape \(2, 3\)"):
        opt.step(params, {"w": np.ones((3, 2))}, opt.init(params))


def test_bias_correction_of_adam_is_in_double_precision():
    hyper = optim.Adam().hyper(1)
    assert hyper["bias2"] == 1 - 0.999
    assert all(isinstance(value, float) for value in hyper.values())


@pytest.mark.parametrize("form", ["twin", "portable"])
def test_centred_rmsprop_of_gradients_that_hardly_change(form, backend):
    """They are 10,000, give or take 1: of the difference of two running means float32 would leave nothing."""
    gradients = 1e4 + np.random.default_rng(0).normal(size=(400, 5))
    v = m = np.zeros(5, np.longdouble)
    for g in gradients.astype(np.float32).astype(np.longdouble):
        v, m = 0.9 * v + 0.1 * g * g, 0.9 * m + 0.1 * g
    rule = optim.adaptive.centred_rmsprop
    p, s, mean = put(backend, (np.zeros(5),) * 3, "float32")
    for g in gradients:
        function = rule if form == "twin" else rule.portable
        before = np.array(get(backend, p))
        p, s, mean = function(p, put(backend, g, "float32"), backend.copy(s), mean, lr=1e-9, decay=0.9, eps=1e-8)
    np.testing.assert_allclose(get(backend, mean), m.astype(float), rtol=1e-6)
    np.testing.assert_allclose(get(backend, s), (v - m * m).astype(float), rtol=1e-2)
    np.testing.assert_allclose(
        get(backend, p) - before, (-1e-9 * gradients[-1] / np.sqrt(v - m * m)).astype(float), rtol=1e-1
    )


# ---- schedules


def torch_schedule(make, steps):
    """The rates of torch's scheduler, from the first step on."""
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    scheduler = make(torch.optim.lr_scheduler)(optimizer)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


SCHEDULES = {
    "Constant": (schedules.Constant(0.5), lambda t: lambda o: t.ConstantLR(o, factor=1.0)),
    "Step": (schedules.Step(0.5, every=4, factor=0.3), lambda t: lambda o: t.StepLR(o, 4, gamma=0.3)),
    "Exponential": (schedules.Exponential(0.5, factor=0.9), lambda t: lambda o: t.ExponentialLR(o, 0.9)),
    "InverseTime": (
        schedules.InverseTime(0.5, rate=0.2),
        lambda t: lambda o: t.LambdaLR(o, lambda k: 1 / (1 + 0.2 * k)),
    ),
    "Polynomial": (
        schedules.Polynomial(0.5, steps=10, power=2.0),
        lambda t: lambda o: t.PolynomialLR(o, 10, power=2.0),
    ),
    "Cosine": (
        schedules.Cosine(0.5, steps=20, end=0.1),
        lambda t: lambda o: t.CosineAnnealingLR(o, 20, eta_min=0.1),
    ),
    "WarmUp": (
        schedules.WarmUp(schedules.Constant(0.5), steps=5),
        lambda t: lambda o: t.LinearLR(o, start_factor=0.2, total_iters=4),
    ),
    "OneCycle": (
        schedules.OneCycle(0.5, steps=20),
        lambda t: lambda o: t.OneCycleLR(o, 0.5, total_steps=20, cycle_momentum=False),
    ),
}


def test_every_schedule_is_in_the_table():
    assert set(SCHEDULES) == set(schedules.__all__) - {"Schedule"}


@pytest.mark.parametrize(("schedule", "theirs"), SCHEDULES.values(), ids=SCHEDULES)
def test_schedule_equals_torch(schedule, theirs):
    steps = 19
    np.testing.assert_allclose([schedule(k) for k in range(1, steps + 1)], torch_schedule(theirs, steps), rtol=1e-12)
    assert isinstance(schedule(7), float)


@pytest.mark.parametrize("schedule", [schedules.Polynomial(1.0, steps=5, end=0.1), schedules.Cosine(1.0, 5, 0.1)])
def test_schedules_stay_at_their_end(schedule):
    assert schedule(6) == schedule(7) == schedule(10**6) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("schedule", "end"),
    [
        (schedules.Step(0.1, every=1, factor=2.0), math.inf),
        (schedules.Step(0.1, every=3, factor=1e200), math.inf),
        (schedules.WarmUp(schedules.Step(1e-300, every=1, factor=10.0), steps=5), math.inf),
        (schedules.Step(1e300, every=2, factor=1.5), math.inf),
        (schedules.Step(0.1, every=1, factor=0.5), 0.0),
        (schedules.Step(0.1, every=1, factor=1.0), 0.1),
        (schedules.Exponential(0.1, factor=1e-300), 0.0),
        (schedules.InverseTime(0.1, rate=1e308), 0.0),
        (schedules.OneCycle(1e-100, steps=10, start=1e-200, end=1e-200), 1e-100 / 1e-200 / 1e-200),
        (schedules.OneCycle(0.1, steps=10, start=1e200, end=1e200), 0.0),
    ],
    ids=repr,
)
def test_schedules_far_out(schedule, end):
    for step in (5_000, 2**64 - 1, np.int64(2**62)):
        assert type(schedule(step)) is float
        assert schedule(step) == end


@pytest.mark.parametrize("step", [0, -3, 2**64, math.inf, math.nan, 1.5, True, None])
@pytest.mark.parametrize("schedule", [schedule for schedule, _ in SCHEDULES.values()], ids=SCHEDULES)
def test_what_is_no_number_of_a_step_is_refused(schedule, step):
    with pytest.raises(ConfigError, match="a schedule is called with the number of a step, an int from 1 on, not"):
        schedule(step)


# ---- transforms


def transformed(backend, link):
    params = ({"w": np.asarray([[3.0, -4.0]]), "b": np.asarray([2.0])}, {})
    grads = ({"w": np.asarray([[6.0, 0.0]]), "b": np.asarray([-8.0])}, {})
    params, grads = put(backend, (params, grads), "float32")
    result = link.transform(params, grads)
    assert_here(backend, "float32", result)
    return tree.map(lambda a: a.tolist(), get(backend, result))[0]


def test_transforms(backend):
    assert transformed(backend, optim.ClipByValue(5.0)) == {"w": [[5.0, 0.0]], "b": [-5.0]}
    assert transformed(backend, optim.ClipByNorm(5.0)) == {"w": [[3.0, 0.0]], "b": [-4.0]}
    assert transformed(backend, optim.ClipByNorm(50.0)) == {"w": [[6.0, 0.0]], "b": [-8.0]}
    # Penalties leave the bias alone.
    assert transformed(backend, optim.L2(0.5)) == {"w": [[7.5, -2.0]], "b": [-8.0]}
    assert transformed(backend, optim.L1(0.5)) == {"w": [[6.5, -0.5]], "b": [-8.0]}


def test_clip_of_a_huge_gradient(backend):
    """Its squares overflow float32."""
    grads = put(backend, {"w": np.asarray([3e30, 4e30])}, "float32")
    clipped = optim.ClipByNorm(1.0).transform(grads, grads)["w"]
    np.testing.assert_allclose(get(backend, clipped), [0.6, 0.8], rtol=1e-6)


def test_centred_rmsprop_survives_a_steady_gradient():
    opt = optim.CentredRMSProp(lr=1e-4)
    params = {"w": np.ones(5, dtype=np.float32)}
    state, steady = opt.init(params), {"w": np.asarray([0.1, 1.0, 0.3, 3.7, 1e-3], dtype=np.float32)}
    for _ in range(3000):
        params, state = opt.step(params, steady, state)
    assert np.isfinite(params["w"]).all()


def test_portable_rules_are_pure():
    for opt in OPTIMIZERS.values():
        if isinstance(opt, optim.UpdateRule):
            p, g, *slots = np.abs(np.random.default_rng(0).normal(size=(2 + opt.slot_count, 3)))
            before = [a.copy() for a in (p, g, *slots)]
            kernels.registry[opt.rule.__name__].portable(p, g, *slots, **(vars(opt) | opt.hyper(3)))
            for array, old in zip((p, g, *slots), before, strict=True):
                np.testing.assert_array_equal(array, old)


def test_a_schedule_of_ones_own_may_return_a_numpy_number():
    class Wave(schedules.Schedule):
        def __call__(self, step):
            return np.cos(step) ** 2

    assert type(optim.SGD(lr=Wave()).hyper(1)["lr"]) is float


@pytest.mark.parametrize(
    "schedule", [schedules.OneCycle(0.1, steps=10, rise=0.1), schedules.OneCycle(0.1, steps=2, rise=0.5)]
)
def test_one_cycle_that_begins_at_its_top(schedule):
    assert schedule(1) == 0.1
    assert schedule(schedule.steps) == pytest.approx(0.1 / 25 / 1e4)


def test_clip_of_a_zero_gradient():
    zero = {"w": np.zeros(3)}
    assert optim.ClipByNorm(1.0).transform(zero, zero)["w"].tolist() == [0.0, 0.0, 0.0]


def test_links_act_in_their_order():
    params, grads = {"w": np.asarray([2.0])}, {"w": np.asarray([10.0])}
    for links, expected in (
        ((optim.ClipByValue(1.0), optim.L2(0.5)), 0.0),
        ((optim.L2(0.5), optim.ClipByValue(1.0)), 1.0),
    ):
        opt = optim.chain(*links, optim.SGD(lr=1.0))
        assert opt.step({"w": np.asarray([2.0])}, grads, opt.init(params))[0]["w"].tolist() == [expected]


def test_weight_decay_is_decoupled_and_leaves_biases_alone():
    params = {"w": np.asarray([2.0]), "b": np.asarray([2.0])}
    opt = optim.WeightDecay(0.5, optim.Adam(lr=0.1))
    stepped, _ = opt.step(params, {"w": np.asarray([0.0]), "b": np.asarray([0.0])}, opt.init(params))
    assert stepped["w"].tolist() == pytest.approx([2.0 * (1 - 0.1 * 0.5)])
    assert stepped["b"].tolist() == [2.0]


def test_the_lectures_form_of_adam_is_the_original():
    """``lr_t = lr sqrt(1 - beta2^t) / (1 - beta1^t)``, with epsilon scaled alike, steps to the same place."""
    opt, rng = optim.Adam(lr=0.01), np.random.default_rng(0)
    p = q = rng.normal(size=20)
    m = v = np.zeros(20)
    state = opt.init({"w": p})
    params = {"w": p.copy()}
    for t in range(1, 51):
        g = rng.normal(size=20)
        params, state = opt.step(params, {"w": g}, state)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + (1 - 0.999) * g * g
        lr_t = 0.01 * np.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        q = q - lr_t * m / (np.sqrt(v) + 1e-8 * np.sqrt(1 - 0.999**t))
    np.testing.assert_allclose(params["w"], q, rtol=1e-12)


def test_nadam_resumes_at_any_step():
    """Its running product depends on the step alone, not on the calls before."""
    opt = optim.NAdam()
    in_order = [opt.hyper(step) for step in range(1, 30)]
    assert opt.hyper(20) == in_order[19]
    assert opt.hyper(5) == in_order[4]
