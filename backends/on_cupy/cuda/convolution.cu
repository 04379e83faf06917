#include "windows.cuh"

// windows, (n rows columns, kh kw c), of x
KERNEL unfold(const REAL* x, Axis rows, Axis columns, int channels, Size size, REAL* windows) {
  EACH(PLACE, i, size) {
    PLACE rest = i;
    const int c = part(rest, channels), v = part(rest, columns.kernel), u = part(rest, rows.kernel);
    const int column = columns.place(part(rest, columns.count), v), row = rows.place(part(rest, rows.count), u);
    const bool inside = rows.holds(row) && columns.holds(column);
    windows[i] = inside ? x[index(rest, row, column, c, rows.size, columns.size, channels)] : (REAL)0;
  }
}

// The adjoint of unfold: every value of x, of the given size, collects those of the windows.
KERNEL fold(const REAL* windows, Axis rows, Axis columns, int channels, Size size, REAL* x) {
  EACH(PLACE, n, size) {
    const Pixel at(n, rows.size, columns.size, channels);
    REAL total = 0;
    windows_of_value(rows, columns, at.row, at.column, [&](int i, int j, int k) {
      const PLACE window = (at.image * rows.count + i) * columns.count + j;
      total += windows[(window * (rows.kernel * columns.kernel) + k) * channels + at.channel];
    });
    x[n] = total;
  }
}
