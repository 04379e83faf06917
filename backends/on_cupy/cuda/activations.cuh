// Activations, value by value, as portnn.functional.activations has them: a structure for each layer, by its name.
// Its gradient is made of what was kept of the forward pass: the input x, or the output y where `of_output` says so,
// which is in the place of x then. The parameter is the one field that a layer may have.

#define ACTIVATION_OF(kept)                \
  static constexpr bool of_output = kept;  \
  static __device__ REAL

// exp(-|x|), of which nothing overflows.
__device__ REAL decayed(REAL x) { return exp(-fabs(x)); }
__device__ REAL logistic(REAL x) { return (x < 0 ? decayed(x) : (REAL)1) / (1 + decayed(x)); }
__device__ REAL logistic_gradient(REAL dy, REAL x) {
  const REAL e = decayed(x);
  return dy * (e / ((1 + e) * (1 + e)));
}

// x gate(x): the gate is closed, and has no slope any more, long before x is infinite.
__device__ REAL gated(REAL x, REAL gate) { return (isinf(x) && x < 0 ? (REAL)-0.0 : x) * gate; }
__device__ REAL unless_infinite(REAL x) { return isinf(x) ? (REAL)0 : x; }

// From here on the gates of the GELUs are closed.
__device__ REAL within_gates(REAL x) { return x > 100 ? (REAL)100 : x < -100 ? (REAL)-100 : x; }

struct ReLU {
  ACTIVATION_OF(true) value(REAL x, REAL) { return x < 0 ? (REAL)0 : x; }  // NaN stays NaN
  static __device__ REAL gradient(REAL dy, REAL y, REAL) { return y > 0 ? dy : y <= 0 ? (REAL)0 : y; }
};

struct LeakyReLU {
  ACTIVATION_OF(true) value(REAL x, REAL slope) { return x > 0 ? x : slope * x; }
  static __device__ REAL gradient(REAL dy, REAL y, REAL slope) { return y > 0 ? dy : y <= 0 ? slope * dy : y; }
};

struct ELU {
  ACTIVATION_OF(false) value(REAL x, REAL alpha) { return x > 0 ? x : alpha * expm1(x); }
  static __device__ REAL gradient(REAL dy, REAL x, REAL alpha) { return dy * (x > 0 ? (REAL)1 : alpha * exp(x)); }
};

struct SELU {
  static constexpr double alpha = 1.6732632423543772, scale = 1.0507009873554805;
  ACTIVATION_OF(false) value(REAL x, REAL) { return (REAL)scale * ELU::value(x, (REAL)alpha); }
  static __device__ REAL gradient(REAL dy, REAL x, REAL) { return ELU::gradient((REAL)scale * dy, x, (REAL)alpha); }
};

struct Sigmoid {
  ACTIVATION_OF(false) value(REAL x, REAL) { return logistic(x); }
  static __device__ REAL gradient(REAL dy, REAL x, REAL) { return logistic_gradient(dy, x); }
};

struct HardSigmoid {
  ACTIVATION_OF(false) value(REAL x, REAL) { return x <= -3 ? (REAL)0 : x >= 3 ? (REAL)1 : (x + 3) / 6; }
  static __device__ REAL gradient(REAL dy, REAL x, REAL) { return x > -3 && x <= 3 ? dy / 6 : x == x ? (REAL)0 : x; }
};

struct Tanh {
  ACTIVATION_OF(false) value(REAL x, REAL) { return tanh(x); }
  static __device__ REAL gradient(REAL dy, REAL x, REAL) {
    const REAL e = decayed(x), half = e / (1 + e * e);  // not 1 - y^2, of which nothing is left where y is next to 1
    return dy * (4 * half * half);
  }
};

struct Softplus {
  ACTIVATION_OF(false) value(REAL x, REAL) { return (x < 0 ? (REAL)0 : x) + log1p(decayed(x)); }
  static __device__ REAL gradient(REAL dy, REAL x, REAL) {
    const REAL e = decayed(x);
    return dy * (x < 0 ? e : (REAL)1) / (1 + e);
  }
};

struct SiLU {
  ACTIVATION_OF(false) value(REAL x, REAL) { return gated(x, logistic(x)); }
  static __device__ REAL gradient(REAL dy, REAL x, REAL) {
    return dy * (logistic(x) + logistic_gradient(unless_infinite(x), x));
  }
};

struct HardSwish {
  ACTIVATION_OF(false) value(REAL x, REAL none) { return gated(x, HardSigmoid::value(x, none)); }
  static __device__ REAL gradient(REAL dy, REAL x, REAL none) {
    return dy * (HardSigmoid::value(x, none) + HardSigmoid::gradient(unless_infinite(x), x, none));
  }
};

struct GELU {
  static __device__ REAL gate(REAL x) { return (REAL)0.5 * erfc(x * (REAL)-0.70710678118654752); }
  ACTIVATION_OF(false) value(REAL x, REAL) { return gated(x, gate(x)); }
  static __device__ REAL gradient(REAL dy, REAL x, REAL) {
    const REAL z = within_gates(x), density = exp((REAL)-0.5 * z * z) / (REAL)2.5066282746310002;
    return dy * (gate(x) + unless_infinite(x) * density);
  }
};

struct GELUTanh {
  static __device__ REAL argument(REAL z) { return (REAL)1.5957691216057308 * (z + (REAL)0.044715 * z * z * z); }
  ACTIVATION_OF(false) value(REAL x, REAL) { return gated(x, logistic(argument(within_gates(x)))); }
  static __device__ REAL gradient(REAL dy, REAL x, REAL) {
    const REAL z = within_gates(x), inner = (REAL)1.5957691216057308 * (1 + (REAL)(3 * 0.044715) * z * z);
    return dy * (logistic(argument(z)) + unless_infinite(x) * logistic_gradient(inner, argument(z)));
  }
};
