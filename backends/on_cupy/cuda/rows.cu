// The rows of a data set. INDEX is the type of row numbers.

// out[row] = x[index[row]] / 255. Row numbers wrap around, as with CuPy's take: the host does not look at them.
KERNEL divided_rows(const unsigned char* x, const INDEX* index, Size rows, Size n, Size width, REAL* out) {
  const Size column = COLUMN;
  if (column >= width) return;
  ROWS(row, n) {
    const Size wrapped = (Size)index[row] % rows;
    const Size from = wrapped < 0 ? wrapped + rows : wrapped;
    out[row * width + column] = (REAL)x[from * width + column] / 255;
  }
}
