// Update rules, for many leaves in one launch: one pass over parameters, gradients and slots.
//
// Each kernel has the keywords of the portable rule of its name in portnn.optim, whose docstring has the formula, in
// their order. Differences that would cancel in float are taken in double. What changes from step to step is rounded
// to REAL before anything else, as it is in the device's memory: so a recorded step has the bits of any other.

// Leaves of a launch, and values that a block works on: see LEAVES and PIECE in on_cupy/updates.py.
struct Leaves {
  REAL* p[LEAVES];
  const REAL* g[LEAVES];
  REAL* slots[3][LEAVES];
  Size size[LEAVES];
  Size block[LEAVES];  // the first one of the leaf
  Size count;
};

// What a block works on: the values from first to last, and the arrays of their leaf.
struct Part {
  REAL *p, *a, *b, *c;
  const REAL* g;
  Size first, last;
  __device__ Part(const Leaves& leaves) {
    int leaf = 0;
    while (leaf + 1 < leaves.count && leaves.block[leaf + 1] <= blockIdx.x) leaf++;
    p = leaves.p[leaf];
    g = leaves.g[leaf];
    a = leaves.slots[0][leaf];
    b = leaves.slots[1][leaf];
    c = leaves.slots[2][leaf];
    const Size start = (blockIdx.x - leaves.block[leaf]) * PIECE, end = start + PIECE;
    first = start + threadIdx.x;
    last = end < leaves.size[leaf] ? end : leaves.size[leaf];
  }
};

#define LEAVES_GIVEN const __grid_constant__ Leaves leaves
#define EACH_OF(part, i) for (Size i = part.first; i < part.last; i += blockDim.x)

KERNEL sgd(LEAVES_GIVEN, Number lr) {
  const Part part(leaves);
  const REAL rate = lr();
  EACH_OF(part, i) part.p[i] -= rate * part.g[i];
}

KERNEL momentum(LEAVES_GIVEN, Number lr, Number alpha) {
  const Part part(leaves);
  const REAL rate = lr(), keep = alpha();
  EACH_OF(part, i) {
    const REAL v = part.a[i] = keep * part.a[i] - rate * part.g[i];
    part.p[i] += v;
  }
}

KERNEL nesterov(LEAVES_GIVEN, Number lr, Number alpha) {
  const Part part(leaves);
  const REAL rate = lr(), keep = alpha();
  EACH_OF(part, i) {
    const REAL push = rate * part.g[i];
    const REAL v = part.a[i] = keep * part.a[i] - push;
    part.p[i] += keep * v - push;
  }
}

KERNEL adagrad(LEAVES_GIVEN, Number lr, Number eps) {
  const Part part(leaves);
  const REAL rate = lr(), tiny = eps();
  EACH_OF(part, i) {
    const REAL g = part.g[i];
    const REAL h = part.a[i] += g * g;
    part.p[i] -= rate * g / (sqrt(h) + tiny);
  }
}

KERNEL adadelta(LEAVES_GIVEN, Number lr, Number rho, Number eps) {
  const Part part(leaves);
  const REAL rate = lr(), keep = rho(), rest = 1 - rho(), tiny = eps();
  EACH_OF(part, i) {
    const REAL g = part.g[i];
    const REAL h = part.a[i] = keep * part.a[i] + rest * (g * g);
    const REAL update = sqrt(part.b[i] + tiny) / sqrt(h + tiny) * g;
    part.b[i] = keep * part.b[i] + rest * (update * update);
    part.p[i] -= rate * update;
  }
}

KERNEL rmsprop(LEAVES_GIVEN, Number lr, Number decay, Number eps) {
  const Part part(leaves);
  const REAL rate = lr(), keep = decay(), rest = 1 - decay(), tiny = eps();
  EACH_OF(part, i) {
    const REAL g = part.g[i];
    const REAL v = part.a[i] = keep * part.a[i] + rest * (g * g);
    part.p[i] -= rate * g / (sqrt(v) + tiny);
  }
}

KERNEL centred_rmsprop(LEAVES_GIVEN, Number lr, Number decay, Number eps) {
  const Part part(leaves);
  const REAL rate = lr(), keep = decay(), rest = 1 - decay(), tiny = eps();
  EACH_OF(part, i) {
    const REAL g = part.g[i];
    const REAL apart = g - part.b[i];
    const REAL s = part.a[i] = keep * (part.a[i] + rest * (apart * apart));
    part.b[i] += rest * apart;
    part.p[i] -= rate * g / (sqrt(s) + tiny);
  }
}

// The step of adam, from a parameter that may have been shrunk before.
__device__ void adam_step(const Part& part, REAL shrink, REAL rate, double beta1, double beta2, REAL tiny, REAL bias2) {
  const REAL b1 = beta1, rest1 = 1 - beta1, b2 = beta2, rest2 = 1 - beta2;
  EACH_OF(part, i) {
    const REAL g = part.g[i], p = part.p[i];
    const REAL m = part.a[i] = b1 * part.a[i] + rest1 * g;
    const REAL v = part.b[i] = b2 * part.b[i] + rest2 * (g * g);
    part.p[i] = p - shrink * p - rate * m / (sqrt(v / bias2) + tiny);
  }
}

KERNEL adam(LEAVES_GIVEN, Number lr, Number beta1, Number beta2, Number eps, Number bias1, Number bias2) {
  adam_step(leaves, 0, (REAL)lr() / (REAL)bias1(), beta1(), beta2(), eps(), bias2());
}

KERNEL adamw(
    LEAVES_GIVEN, Number lr, Number beta1, Number beta2, Number eps, Number weight_decay, Number bias1, Number bias2) {
  adam_step(leaves, (REAL)lr() * (REAL)weight_decay(), (REAL)lr() / (REAL)bias1(), beta1(), beta2(), eps(), bias2());
}

KERNEL amsgrad(LEAVES_GIVEN, Number lr, Number beta1, Number beta2, Number eps, Number bias1, Number bias2) {
  const Part part(leaves);
  const REAL b1 = beta1(), rest1 = 1 - beta1(), b2 = beta2(), rest2 = 1 - beta2();
  const REAL rate = (REAL)lr() / (REAL)bias1(), correction = bias2(), tiny = eps();
  EACH_OF(part, i) {
    const REAL g = part.g[i];
    const REAL m = part.a[i] = b1 * part.a[i] + rest1 * g;
    const REAL v = part.b[i] = b2 * part.b[i] + rest2 * (g * g);
    const REAL most = part.c[i] = part.c[i] > v ? part.c[i] : v;  // NaN stays NaN
    part.p[i] -= rate * m / (sqrt(most / correction) + tiny);
  }
}

KERNEL adamax(LEAVES_GIVEN, Number lr, Number beta1, Number beta2, Number eps, Number bias1, Number bias2) {
  const Part part(leaves);
  const REAL b1 = beta1(), rest1 = 1 - beta1(), b2 = beta2();
  const REAL rate = (REAL)lr() / (REAL)bias1(), tiny = eps();
  EACH_OF(part, i) {
    const REAL g = part.g[i];
    const REAL m = part.a[i] = b1 * part.a[i] + rest1 * g;
    const REAL before = b2 * part.b[i], now = fabs(g) + tiny;
    const REAL u = part.b[i] = before > now ? before : now;
    part.p[i] -= rate * m / u;
  }
}

KERNEL nadam(
    LEAVES_GIVEN, Number lr, Number beta1, Number beta2, Number eps, Number momentum_decay, Number bias1, Number bias2,
    Number now, Number ahead) {
  const Part part(leaves);
  const REAL b1 = beta1(), rest1 = 1 - beta1(), b2 = beta2(), rest2 = 1 - beta2();
  const REAL rate = lr(), correction = bias2(), tiny = eps();
  const REAL rate_now = rate * (REAL)now(), rate_ahead = rate * (REAL)ahead();
  EACH_OF(part, i) {
    const REAL g = part.g[i];
    const REAL m = part.a[i] = b1 * part.a[i] + rest1 * g;
    const REAL v = part.b[i] = b2 * part.b[i] + rest2 * (g * g);
    part.p[i] -= (rate_now * g + rate_ahead * m) / (sqrt(v / correction) + tiny);
  }
}
