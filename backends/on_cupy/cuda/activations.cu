// Activations, value by value.

KERNEL relu_values(const REAL* x, Size size, REAL* y) {
  EACH(Size, i, size) y[i] = x[i] < 0 ? (REAL)0 : x[i];  // NaN stays NaN
}

KERNEL relu_slopes(const REAL* dy, const REAL* y, Size size, REAL* dx) {
  EACH(Size, i, size) dx[i] = y[i] > 0 ? dy[i] : y[i] <= 0 ? (REAL)0 : (REAL)nan("");
}
