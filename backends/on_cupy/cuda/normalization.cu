// Batch normalisation of matrices (n, m), column by column.

#include "columns.cuh"

// sums, (slabs, 2, m): of x - centre and of its square. The first row is the centre, so that a mean far from zero
// costs no precision.
KERNEL centred_sums(const REAL* x, Size n, Size m, double* sums) {
  sum_columns<2, REAL>(
      n, m, aligned(x),
      [=](auto columns) {
        const auto centre = columns.load(x);
        return [=](auto at, auto* total) {
          const auto values = at.load(x);
          at.each([&](int j) {
            const double apart = values[j] - centre[at.lane(j)];
            total[at.lane(j)][0] += apart;
            total[at.lane(j)][1] += apart * apart;
          });
        };
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
  each_column<LANES<REAL>>(n, m, aligned(x, mean, variance, gamma, beta, y), [=](auto columns) {
    const auto middle = columns.load(mean), shift = columns.load(beta), spread = columns.load(variance);
    auto scale = columns.load(gamma);
    columns.each([&](int l) { scale[l] = scale[l] / sqrt(spread[l] + (REAL)eps); });
    return [=](auto at) {
      auto values = at.load(x);
      at.each([&](int j) {
        const int l = at.lane(j);
        values[j] = (values[j] - middle[l]) * scale[l] + shift[l];
      });
      at.store(y, values);
    };
  });
}

// sums, (slabs, 2, m): of dy and of dy (x - mean).
KERNEL slope_sums(const REAL* dy, const REAL* x, const REAL* mean, Size n, Size m, double* sums) {
  sum_columns<2, REAL>(
      n, m, aligned(dy, x, mean),
      [=](auto columns) {
        const auto middle = columns.load(mean);
        return [=](auto at, auto* total) {
          const auto slopes = at.load(dy), values = at.load(x);
          at.each([&](int j) {
            total[at.lane(j)][0] += slopes[j];
            total[at.lane(j)][1] += slopes[j] * (values[j] - middle[at.lane(j)]);
          });
        };
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
  each_column<LANES<REAL>>(n, m, aligned(dy, x, mean, variance, gamma, dgamma, dbeta, dx), [=](auto columns) {
    const auto middle = columns.load(mean), spread = columns.load(variance);
    auto scale = columns.load(gamma), constant = columns.load(dbeta), linear = columns.load(dgamma);
    columns.each([&](int l) {
      const REAL inverse = 1 / sqrt(spread[l] + (REAL)eps);
      scale[l] = scale[l] * inverse;
      constant[l] = constant[l] / n;
      linear[l] = inverse * (linear[l] / n);
    });
    return [=](auto at) {
      const auto values = at.load(x);
      auto slopes = at.load(dy);
      at.each([&](int j) {
        const int l = at.lane(j);
        slopes[j] = scale[l] * (slopes[j] - constant[l] - linear[l] * (values[j] - middle[l]));
      });
      at.store(dx, slopes);
    };
  });
}
