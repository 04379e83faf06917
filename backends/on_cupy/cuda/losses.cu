#include "losses.cuh"
#include "vectors.cuh"

// A row for each example. INDEX is the type of class numbers.

__device__ REAL sum_of_warp(REAL value) {
  for (int apart = 16; apart > 0; apart /= 2) value += __shfl_xor_sync(0xffffffffu, value, apart);
  return value;
}

__device__ REAL largest_of_warp(REAL value) {
  for (int apart = 16; apart > 0; apart /= 2) {
    const REAL other = __shfl_xor_sync(0xffffffffu, value, apart);
    value = other > value ? other : value;
  }
  return value;
}

// p = softmax(logits), and the cross-entropy of each row, for class numbers as targets. A warp takes a row: the sums
// are over its 32 threads, so that they are the same in every run. An infinite score takes all; if several are infinite,
// or all minus infinity, there is no limit. Neither is there for a number that is no class.
KERNEL class_values(
    const REAL* logits, const INDEX* target, double smoothing, Size n, Size k, REAL* p, REAL* values) {
  const int lane = threadIdx.x % 32, warps = blockDim.x / 32;
  for (Size row = (Size)blockIdx.x * warps + threadIdx.x / 32; row < n; row += (Size)gridDim.x * warps) {
    const REAL* x = logits + row * k;
    REAL* out = p + row * k;
    REAL largest = x[0];
    for (Size j = lane; j < k; j += 32) largest = x[j] > largest ? x[j] : largest;
    largest = largest_of_warp(largest);
    REAL total = 0, spread = 0;
    for (Size j = lane; j < k; j += 32) {
      const REAL apart = below(x[j], largest), e = exp(apart);
      out[j] = e;
      total += e;
      spread += apart;
    }
    total = sum_of_warp(total);
    spread = sum_of_warp(spread);
    const REAL zero = largest - largest;  // or NaN
    if (zero != 0 && (largest < 0 || total > 1)) total = zero;
    for (Size j = lane; j < k; j += 32) out[j] /= total;
    if (lane == 0) {
      const REAL logarithm = log(total);
      const Size t = (Size)target[row];
      REAL value = (REAL)nan("");
      if (t >= 0 && t < k) value = (REAL)(1 - smoothing) * (logarithm - below(x[t], largest));
      if (smoothing != 0) value += (REAL)smoothing / k * (k * logarithm - spread);
      values[row] = value;
    }
  }
}

// The gradient of class_values.
KERNEL class_slopes(
    const REAL* p, const INDEX* target, double smoothing, const REAL* dvalues, Size n, Size k, REAL* dlogits) {
  const REAL others = (REAL)smoothing / k;
  each_column<LANES<REAL>>(n, k, aligned(p, dlogits), [=](auto columns) {
    return [=](auto at) {
      auto values = at.load(p);
      at.each([&](int j) {
        const Size row = at.row(at.time(j)), t = (Size)target[row];
        const bool known = t >= 0 && t < k;
        const REAL own = t == columns.first + at.lane(j) ? (REAL)(1 - smoothing) : known ? (REAL)0 : (REAL)nan("");
        values[j] = (values[j] - others - own) * dvalues[row];
      });
      at.store(dlogits, values);
    };
  });
}
