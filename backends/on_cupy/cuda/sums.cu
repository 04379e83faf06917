#include "columns.cuh"

// sums, (slabs, m)
KERNEL column_sums(const REAL* x, Size n, Size m, REAL* sums) {
  sum_rows<1>(
      n, m, [&](Size row, Size column, double* total) { total[0] += x[row * m + column]; },
      [&](Size column, const double* total) { sums[blockIdx.y * m + column] = total[0]; });
}
