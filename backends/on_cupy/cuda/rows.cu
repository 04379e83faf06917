// The rows of a data set. INDEX is the type of row numbers.

#include "vectors.cuh"

// out[row] = x[index[row]] / 255. Row numbers wrap around, as with CuPy's take: the host does not look at them.
KERNEL divided_rows(const unsigned char* x, const INDEX* index, Size rows, Size n, Size width, REAL* out) {
  // Four bytes become the 16 of as many floats.
  each_column<4>(n, width, aligned<4>(x) && aligned(out), [=](auto columns) {
    return [=](auto at) {
      Values<Size, at.times> from;
      for_each<at.times>([&](int k) {
        const Size wrapped = (Size)index[at.row(k)] % rows;
        from[k] = (wrapped < 0 ? wrapped + rows : wrapped) * width + columns.first;
      });
      const auto bytes = at.gather(x, [&](int k) { return from[k]; });
      Values<REAL, at.count> values;
      at.each([&](int j) { values[j] = (REAL)bytes[j] / 255; });
      at.store(out, values);
    };
  });
}
