// Affine maps, beside the products of cuBLAS.

#include "vectors.cuh"

// y += b
KERNEL add_row(REAL* y, const REAL* b, Size n, Size m) {
  each_column<LANES<REAL>>(n, m, aligned(y, b), [=](auto columns) {
    const auto bias = columns.load(b);
    return [=](auto at) {
      auto values = at.load(y);
      at.each([&](int j) { values[j] += bias[at.lane(j)]; });
      at.store(y, values);
    };
  });
}
