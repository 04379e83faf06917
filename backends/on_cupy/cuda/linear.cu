// Affine maps, beside the products of cuBLAS.

// y += b
KERNEL add_row(REAL* y, const REAL* b, Size n, Size m) {
  const Size column = COLUMN;
  if (column >= m) return;
  const REAL value = b[column];
  ROWS(row, n) y[row * m + column] += value;
}
