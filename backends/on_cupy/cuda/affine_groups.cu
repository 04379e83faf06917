#include "columns.cuh"
#include "activations.cuh"

// An affine layer and the activation behind it, beside the products of cuBLAS: p = x w, (n, m).

// y = f(p + b). y may be p.
KERNEL activated(const REAL* p, const REAL* b, double parameter, Size n, Size m, REAL* y) {
  const Size column = COLUMN;
  if (column >= m) return;
  const REAL bias = b[column];
  ROWS(row, n) {
    const Size i = row * m + column;
    y[i] = ACTIVATION::value(p[i] + bias, (REAL)parameter);
  }
}

// dp, and the sums of its columns in each slab of rows, (slabs, m): the gradient of b. What was kept is y, or p.
KERNEL activated_slopes(
    const REAL* dy, const REAL* kept, const REAL* b, double parameter, Size n, Size m, REAL* dp, REAL* sums) {
  sum_rows<1>(
      n, m,
      [&](Size row, Size column, double* total) {
        const Size i = row * m + column;
        const REAL before = ACTIVATION::of_output ? kept[i] : kept[i] + b[column];
        total[0] += dp[i] = ACTIVATION::gradient(dy[i], before, (REAL)parameter);
      },
      [&](Size column, const double* total) { sums[blockIdx.y * m + column] = total[0]; });
}
