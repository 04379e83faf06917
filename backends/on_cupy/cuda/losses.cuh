// Losses of a row of few scores: a structure for each class of portnn.losses, by its name. `value` gives what the row
// costs, as portnn.functional.losses has it, and the gradients of its K scores. The smoothing is that of labels.

// A score below the largest one. Infinity minus infinity is not asked for.
__device__ REAL below(REAL x, REAL largest) { return x == largest ? (REAL)0 : x - largest; }

// The target of a score: from rows of targets, or of class numbers, of which those that are no class are NaN.
__device__ REAL target_of(const REAL* target, Size row, int j, int k) { return target[row * k + j]; }
template <class Index>
__device__ REAL target_of(const Index* target, Size row, int j, int k) {
  const Size number = (Size)target[row];
  return number < 0 || number >= k ? (REAL)nan("") : (REAL)(number == j);
}

// An infinite score takes all; if several are infinite, or all minus infinity, there is no limit.
struct SoftmaxCrossEntropy {
  template <int K, class Target>
  static __device__ REAL value(const REAL* x, const Target* target, Size row, double smoothing, REAL* dx) {
    REAL largest = x[0], total = 0, targets = 0, value = 0;
    for (int j = 1; j < K; j++) largest = x[j] > largest ? x[j] : largest;
    for (int j = 0; j < K; j++) total += dx[j] = exp(below(x[j], largest));
    const REAL zero = largest - largest;  // or NaN
    if (zero != 0 && (largest < 0 || total > 1)) total = zero;
    const REAL logarithm = log(total);
    REAL t[K];
    for (int j = 0; j < K; j++) {
      t[j] = target_of(target, row, j, K);
      if (smoothing != 0) t[j] = (REAL)(1 - smoothing) * t[j] + (REAL)(smoothing / K);
      targets += t[j];
      value -= t[j] == 0 ? (REAL)0 : t[j] * (below(x[j], largest) - logarithm);
    }
    for (int j = 0; j < K; j++) dx[j] = dx[j] / total * targets - t[j];
    return value;
  }
};

struct SigmoidCrossEntropy {
  template <int K, class Target>
  static __device__ REAL value(const REAL* x, const Target* target, Size row, double, REAL* dx) {
    REAL value = 0;
    for (int j = 0; j < K; j++) {
      const REAL t = target_of(target, row, j, K), size = fabs(x[j]), e = exp(-size);
      const REAL against = x[j] < 0 ? t : 1 - t;
      value += against * (against == 0 ? (REAL)0 : size) + log1p(e);
      dx[j] = ((x[j] < 0 ? e : (REAL)1) * (1 - t) - (x[j] < 0 ? (REAL)1 : e) * t) / (1 + e);
    }
    return value;
  }
};

struct HalfSquaredError {
  template <int K, class Target>
  static __device__ REAL value(const REAL* x, const Target* target, Size row, double, REAL* dx) {
    REAL value = 0;
    for (int j = 0; j < K; j++) {
      dx[j] = x[j] - target_of(target, row, j, K);
      value += (REAL)0.5 * dx[j] * dx[j];
    }
    return value;
  }
};

struct MeanSquaredError {
  template <int K, class Target>
  static __device__ REAL value(const REAL* x, const Target* target, Size row, double, REAL* dx) {
    REAL value = 0;
    for (int j = 0; j < K; j++) {
      const REAL apart = x[j] - target_of(target, row, j, K);
      value += apart * apart;
      dx[j] = apart * (REAL)(2.0 / K);
    }
    return value / K;
  }
};
