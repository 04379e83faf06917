#include "windows.cuh"

// The largest value of each window, or NaN if there is one, and the number of its place in the window.
KERNEL largest_values(const REAL* x, Axis rows, Axis columns, int channels, Size size, REAL* y, int* places) {
  EACH(PLACE, n, size) {
    const Pixel at(n, rows.count, columns.count, channels);
    REAL largest = 0;
    int place = -1;
    values_of_window(rows, columns, at.row, at.column, [&](int row, int column, int k) {
      const REAL value = x[index(at.image, row, column, at.channel, rows.size, columns.size, channels)];
      if (place < 0 || value > largest || value != value) {
        largest = value;
        place = k;
      }
    });
    y[n] = largest;
    places[n] = place;
  }
}

// Every value of an image collects the gradients of the windows of which it was the largest.
KERNEL largest_slopes(
    const REAL* dy, const int* places, Axis rows, Axis columns, int channels, Size size, REAL* dx) {
  EACH(PLACE, n, size) {
    const Pixel at(n, rows.size, columns.size, channels);
    REAL total = 0;
    windows_of_value(rows, columns, at.row, at.column, [&](int i, int j, int k) {
      const PLACE from = index(at.image, i, j, at.channel, rows.count, columns.count, channels);
      if (places[from] == k) total += dy[from];
    });
    dx[n] = total;
  }
}

// The mean of each window; padding counts as 0.
KERNEL mean_values(const REAL* x, Axis rows, Axis columns, int channels, Size size, REAL* y) {
  const REAL share = (REAL)1 / (rows.kernel * columns.kernel);
  EACH(PLACE, n, size) {
    const Pixel at(n, rows.count, columns.count, channels);
    double total = 0;
    values_of_window(rows, columns, at.row, at.column, [&](int row, int column, int) {
      total += x[index(at.image, row, column, at.channel, rows.size, columns.size, channels)];
    });
    y[n] = total * share;
  }
}

// The gradient of mean_values.
KERNEL mean_slopes(const REAL* dy, Axis rows, Axis columns, int channels, Size size, REAL* dx) {
  const REAL share = (REAL)1 / (rows.kernel * columns.kernel);
  EACH(PLACE, n, size) {
    const Pixel at(n, rows.size, columns.size, channels);
    REAL total = 0;
    windows_of_value(rows, columns, at.row, at.column, [&](int i, int j, int) {
      total += dy[index(at.image, i, j, at.channel, rows.count, columns.count, channels)];
    });
    dx[n] = total * share;
  }
}
