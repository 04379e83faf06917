// Activations, value by value.

#include "vectors.cuh"

KERNEL relu_values(const REAL* x, Size size, REAL* y) {
  each_some<LANES<REAL>>(size, aligned(x, y), [=](auto at) {
    auto values = at.load(x);
    at.each([&](int j) { values[j] = values[j] < 0 ? (REAL)0 : values[j]; });  // NaN stays NaN
    at.store(y, values);
  });
}

KERNEL relu_slopes(const REAL* dy, const REAL* y, Size size, REAL* dx) {
  each_some<LANES<REAL>>(size, aligned(dy, y, dx), [=](auto at) {
    const auto values = at.load(y);
    auto slopes = at.load(dy);
    at.each([&](int j) { slopes[j] = values[j] > 0 ? slopes[j] : values[j] <= 0 ? (REAL)0 : (REAL)nan(""); });
    at.store(dx, slopes);
  });
}
