#include "columns.cuh"
#include "activations.cuh"

// An affine layer and the activation behind it, beside the products of cuBLAS: p = x w, (n, m).

// The activations that are made of their outputs compute little: memory is what they wait for.
constexpr int COUNT = ACTIVATION::of_output ? FLIGHT : 1;

// y = f(p + b). y may be p.
KERNEL activated(const REAL* p, const REAL* b, double parameter, Size n, Size m, REAL* y) {
  each_column<LANES<REAL>, COUNT>(n, m, aligned(p, b, y), [=](auto columns) {
    const auto bias = columns.load(b);
    return [=](auto at) {
      auto values = at.load(p);
      at.each([&](int j) { values[j] = ACTIVATION::value(values[j] + bias[at.lane(j)], (REAL)parameter); });
      at.store(y, values);
    };
  });
}

// dp, and the sums of its columns in each slab of rows, (slabs, m): the gradient of b. What was kept is y, or p.
KERNEL activated_slopes(
    const REAL* dy, const REAL* kept, const REAL* b, double parameter, Size n, Size m, REAL* dp, REAL* sums) {
  sum_columns<1, REAL, COUNT>(
      n, m, aligned(dy, kept, b, dp),
      [=](auto columns) {
        const auto bias = columns.load(b);
        return [=](auto at, auto* total) {
          const auto before = at.load(kept);
          auto slopes = at.load(dy);
          at.each([&](int j) {
            const REAL x = ACTIVATION::of_output ? before[j] : before[j] + bias[at.lane(j)];
            slopes[j] = ACTIVATION::gradient(slopes[j], x, (REAL)parameter);
            total[at.lane(j)][0] += slopes[j];
          });
          at.store(dp, slopes);
        };
      },
      [=](Size column, const double* total) { sums[blockIdx.y * m + column] = total[0]; });
}
