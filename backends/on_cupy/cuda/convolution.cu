#include "windows.cuh"

// windows, (n rows columns, kh kw c), of x
KERNEL unfold(const REAL* x, Axis rows, Axis columns, int channels, Size size, REAL* windows) {
  each_channels(size, channels, aligned(x, windows), [=](auto at) {
    PLACE rest = at.first;
    const int c = part(rest, channels), v = part(rest, columns.kernel), u = part(rest, rows.kernel);
    const int column = columns.place(part(rest, columns.count), v), row = rows.place(part(rest, rows.count), u);
    Values<REAL, at.count> values = {};
    if (rows.holds(row) && columns.holds(column))
      values = at.load_from(x, index(rest, row, column, c, rows.size, columns.size, channels));
    at.store(windows, values);
  });
}

// The adjoint of unfold: every value of x, of the given size, collects those of the windows.
KERNEL fold(const REAL* windows, Axis rows, Axis columns, int channels, Size size, REAL* x) {
  each_channels(size, channels, aligned(windows, x), [=](auto at) {
    const Pixel here(at.first, rows.size, columns.size, channels);
    Values<REAL, at.count> total = {};
    windows_of_value(rows, columns, here.row, here.column, [&](int i, int j, int k) {
      const PLACE window = (here.image * rows.count + i) * columns.count + j;
      const auto values =
          at.load_from(windows, (window * (rows.kernel * columns.kernel) + k) * channels + here.channel);
      at.each([&](int c) { total[c] += values[c]; });
    });
    at.store(x, total);
  });
}
