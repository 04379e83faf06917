#include "columns.cuh"

// sums, (slabs, m)
KERNEL column_sums(const REAL* x, Size n, Size m, REAL* sums) {
  sum_columns<1, REAL>(
      n, m, aligned(x),
      [=](auto) {
        return [=](auto at, auto* total) {
          const auto values = at.load(x);
          at.each([&](int j) { total[at.lane(j)][0] += values[j]; });
        };
      },
      [=](Size column, const double* total) { sums[blockIdx.y * m + column] = total[0]; });
}
