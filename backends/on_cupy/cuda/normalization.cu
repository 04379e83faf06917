// Batch normalisation of matrices (n, m), column by column.

#include "columns.cuh"

// sums, (slabs, 2, m): of x - centre and of its square. The first row is the centre, so that a mean far from zero
// costs no precision.
KERNEL centred_sums(const REAL* x, Size n, Size m, double* sums) {
  sum_rows<2>(
      n, m,
      [&](Size row, Size column, double* total) {
        const double apart = x[row * m + column] - x[column];
        total[0] += apart;
        total[1] += apart * apart;
      },
      [&](Size column, const double* total) {
        for (int k = 0; k < 2; k++) sums[(2 * blockIdx.y + k) * m + column] = total[k];
      });
}

// Mean and variance of the columns of x, from its centred sums.
KERNEL moments(const double* sums, Size slabs, const REAL* x, Size n, Size m, REAL* mean, REAL* variance) {
  sum_rows<2>(
      slabs, m,
      [&](Size slab, Size column, double* total) {
        for (int k = 0; k < 2; k++) total[k] += sums[(2 * slab + k) * m + column];
      },
      [&](Size column, const double* total) {
        const double away = total[0] / n, found = total[1] / n - away * away;
        mean[column] = x[column] + away;
        variance[column] = found < 0 ? 0 : found;
      });
}

// y = gamma (x - mean) / sqrt(variance + eps) + beta
KERNEL normalise(
    const REAL* x, const REAL* mean, const REAL* variance, const REAL* gamma, const REAL* beta, double eps, Size n,
    Size m, REAL* y) {
  const Size column = COLUMN;
  if (column >= m) return;
  const REAL middle = mean[column], shift = beta[column];
  const REAL scale = gamma[column] / sqrt(variance[column] + (REAL)eps);
  ROWS(row, n) y[row * m + column] = (x[row * m + column] - middle) * scale + shift;
}

// sums, (slabs, 2, m): of dy and of dy (x - mean).
KERNEL slope_sums(const REAL* dy, const REAL* x, const REAL* mean, Size n, Size m, double* sums) {
  sum_rows<2>(
      n, m,
      [&](Size row, Size column, double* total) {
        const REAL slope = dy[row * m + column];
        total[0] += slope;
        total[1] += slope * (x[row * m + column] - mean[column]);
      },
      [&](Size column, const double* total) {
        for (int k = 0; k < 2; k++) sums[(2 * blockIdx.y + k) * m + column] = total[k];
      });
}

// The gradients of gamma and beta, from the sums of slopes.
KERNEL parameter_slopes(
    const double* sums, Size slabs, Size m, const REAL* variance, double eps, REAL* dgamma, REAL* dbeta) {
  sum_rows<2>(
      slabs, m,
      [&](Size slab, Size column, double* total) {
        for (int k = 0; k < 2; k++) total[k] += sums[(2 * slab + k) * m + column];
      },
      [&](Size column, const double* total) {
        dbeta[column] = total[0];
        dgamma[column] = total[1] / sqrt(variance[column] + (REAL)eps);
      });
}

// dx = gamma / sqrt(variance + eps) (dy - mean(dy) - x_hat mean(dy x_hat))
KERNEL slopes(
    const REAL* dy, const REAL* x, const REAL* mean, const REAL* variance, const REAL* gamma, const REAL* dgamma,
    const REAL* dbeta, double eps, Size n, Size m, REAL* dx) {
  const Size column = COLUMN;
  if (column >= m) return;
  const REAL inverse = 1 / sqrt(variance[column] + (REAL)eps), middle = mean[column];
  const REAL scale = gamma[column] * inverse;
  const REAL constant = dbeta[column] / n, linear = inverse * (dgamma[column] / n);
  ROWS(row, n) {
    const Size i = row * m + column;
    dx[i] = scale * (dy[i] - constant - linear * (x[i] - middle));
  }
}
