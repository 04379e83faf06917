// Update rules, for many leaves in one launch: one pass over parameters, gradients and slots.
//
// Each kernel has the keywords of the portable rule of its name in portnn.optim, whose docstring has the formula, in
// their order. Differences that would cancel in float are taken in double. What changes from step to step is rounded
// to REAL before anything else, as it is in the device's memory: so a recorded step has the bits of any other.

#include "vectors.cuh"

// Leaves of a launch, and values that a block works on: see LEAVES and PIECE in on_cupy/updates.py.
struct Leaves {
  REAL* p[LEAVES];
  const REAL* g[LEAVES];
  REAL* slots[3][LEAVES];
  Size size[LEAVES];
  Size block[LEAVES];  // the first one of the leaf
  Size count;
};

// rule(p, g, ...) for each value of what a block works on, a piece of a leaf; with a reference to each of its SLOTS slots.
template <int SLOTS, class Rule>
__device__ void update(const Leaves& leaves, Rule rule) {
  int leaf = 0;
  while (leaf + 1 < leaves.count && leaves.block[leaf + 1] <= blockIdx.x) leaf++;
  const Size start = (blockIdx.x - leaves.block[leaf]) * PIECE, rest = leaves.size[leaf] - start;
  REAL* const p = leaves.p[leaf] + start;
  const REAL* const g = leaves.g[leaf] + start;
  REAL* slots[3];
  bool wide = aligned(p, g);
  for_each<SLOTS>([&](int k) {
    slots[k] = leaves.slots[k][leaf] + start;
    wide = wide && aligned(slots[k]);
  });
  each_some<LANES<REAL>, 1>(threadIdx.x, blockDim.x, rest < PIECE ? rest : PIECE, wide, [=](auto at) {
    const auto slopes = at.load(g);
    auto values = at.load(p);
    decltype(values) kept[3];
    for_each<SLOTS>([&](int k) { kept[k] = at.load(slots[k]); });
    at.each([&](int j) {
      if constexpr (SLOTS == 0) rule(values[j], slopes[j]);
      if constexpr (SLOTS == 1) rule(values[j], slopes[j], kept[0][j]);
      if constexpr (SLOTS == 2) rule(values[j], slopes[j], kept[0][j], kept[1][j]);
      if constexpr (SLOTS == 3) rule(values[j], slopes[j], kept[0][j], kept[1][j], kept[2][j]);
    });
    at.store(p, values);
    for_each<SLOTS>([&](int k) { at.store(slots[k], kept[k]); });
  });
}

#define LEAVES_GIVEN const __grid_constant__ Leaves leaves

KERNEL sgd(LEAVES_GIVEN, Number lr) {
  const REAL rate = lr();
  update<0>(leaves, [=](REAL& p, REAL g) { p -= rate * g; });
}

KERNEL momentum(LEAVES_GIVEN, Number lr, Number alpha) {
  const REAL rate = lr(), keep = alpha();
  update<1>(leaves, [=](REAL& p, REAL g, REAL& v) {
    v = keep * v - rate * g;
    p += v;
  });
}

KERNEL nesterov(LEAVES_GIVEN, Number lr, Number alpha) {
  const REAL rate = lr(), keep = alpha();
  update<1>(leaves, [=](REAL& p, REAL g, REAL& v) {
    const REAL push = rate * g;
    v = keep * v - push;
    p += keep * v - push;
  });
}

KERNEL adagrad(LEAVES_GIVEN, Number lr, Number eps) {
  const REAL rate = lr(), tiny = eps();
  update<1>(leaves, [=](REAL& p, REAL g, REAL& h) {
    h += g * g;
    p -= rate * g / (sqrt(h) + tiny);
  });
}

KERNEL adadelta(LEAVES_GIVEN, Number lr, Number rho, Number eps) {
  const REAL rate = lr(), keep = rho(), rest = 1 - rho(), tiny = eps();
  update<2>(leaves, [=](REAL& p, REAL g, REAL& h, REAL& r) {
    h = keep * h + rest * (g * g);
    const REAL update = sqrt(r + tiny) / sqrt(h + tiny) * g;
    r = keep * r + rest * (update * update);
    p -= rate * update;
  });
}

KERNEL rmsprop(LEAVES_GIVEN, Number lr, Number decay, Number eps) {
  const REAL rate = lr(), keep = decay(), rest = 1 - decay(), tiny = eps();
  update<1>(leaves, [=](REAL& p, REAL g, REAL& v) {
    v = keep * v + rest * (g * g);
    p -= rate * g / (sqrt(v) + tiny);
  });
}

KERNEL centred_rmsprop(LEAVES_GIVEN, Number lr, Number decay, Number eps) {
  const REAL rate = lr(), keep = decay(), rest = 1 - decay(), tiny = eps();
  update<2>(leaves, [=](REAL& p, REAL g, REAL& s, REAL& mean) {
    const REAL apart = g - mean;
    s = keep * (s + rest * (apart * apart));
    mean += rest * apart;
    p -= rate * g / (sqrt(s) + tiny);
  });
}

// The step of adam, from a parameter that may have been shrunk before.
__device__ void adam_step(
    const Leaves& leaves, REAL shrink, REAL rate, double beta1, double beta2, REAL tiny, REAL bias2) {
  const REAL b1 = beta1, rest1 = 1 - beta1, b2 = beta2, rest2 = 1 - beta2;
  update<2>(leaves, [=](REAL& p, REAL g, REAL& m, REAL& v) {
    m = b1 * m + rest1 * g;
    v = b2 * v + rest2 * (g * g);
    p = p - shrink * p - rate * m / (sqrt(v / bias2) + tiny);
  });
}

KERNEL adam(LEAVES_GIVEN, Number lr, Number beta1, Number beta2, Number eps, Number bias1, Number bias2) {
  adam_step(leaves, 0, (REAL)lr() / (REAL)bias1(), beta1(), beta2(), eps(), bias2());
}

KERNEL adamw(
    LEAVES_GIVEN, Number lr, Number beta1, Number beta2, Number eps, Number weight_decay, Number bias1, Number bias2) {
  adam_step(leaves, (REAL)lr() * (REAL)weight_decay(), (REAL)lr() / (REAL)bias1(), beta1(), beta2(), eps(), bias2());
}

KERNEL amsgrad(LEAVES_GIVEN, Number lr, Number beta1, Number beta2, Number eps, Number bias1, Number bias2) {
  const REAL b1 = beta1(), rest1 = 1 - beta1(), b2 = beta2(), rest2 = 1 - beta2();
  const REAL rate = (REAL)lr() / (REAL)bias1(), correction = bias2(), tiny = eps();
  update<3>(leaves, [=](REAL& p, REAL g, REAL& m, REAL& v, REAL& most) {
    m = b1 * m + rest1 * g;
    v = b2 * v + rest2 * (g * g);
    most = most > v ? most : v;  // NaN stays NaN
    p -= rate * m / (sqrt(most / correction) + tiny);
  });
}

KERNEL adamax(LEAVES_GIVEN, Number lr, Number beta1, Number beta2, Number eps, Number bias1, Number bias2) {
  const REAL b1 = beta1(), rest1 = 1 - beta1(), b2 = beta2();
  const REAL rate = (REAL)lr() / (REAL)bias1(), tiny = eps();
  update<2>(leaves, [=](REAL& p, REAL g, REAL& m, REAL& u) {
    m = b1 * m + rest1 * g;
    const REAL before = b2 * u, now = fabs(g) + tiny;
    u = before > now ? before : now;
    p -= rate * m / u;
  });
}

KERNEL nadam(
    LEAVES_GIVEN, Number lr, Number beta1, Number beta2, Number eps, Number momentum_decay, Number bias1, Number bias2,
    Number now, Number ahead) {
  const REAL b1 = beta1(), rest1 = 1 - beta1(), b2 = beta2(), rest2 = 1 - beta2();
  const REAL rate = lr(), correction = bias2(), tiny = eps();
  const REAL rate_now = rate * (REAL)now(), rate_ahead = rate * (REAL)ahead();
  update<2>(leaves, [=](REAL& p, REAL g, REAL& m, REAL& v) {
    m = b1 * m + rest1 * g;
    v = b2 * v + rest2 * (g * g);
    p -= (rate_now * g + rate_ahead * m) / (sqrt(v / correction) + tiny);
  });
}
