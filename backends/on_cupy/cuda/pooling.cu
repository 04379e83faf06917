#include "windows.cuh"

// The largest value of each window, or NaN if there is one, and the number of its place in the window.
KERNEL largest_values(const REAL* x, Axis rows, Axis columns, int channels, Size size, REAL* y, int* places) {
  each_channels(size, channels, aligned(x, y, places), [=](auto at) {
    const Pixel here(at.first, rows.count, columns.count, channels);
    Values<REAL, at.count> largest = {};
    Values<int, at.count> place;
    at.each([&](int c) { place[c] = -1; });
    values_of_window(rows, columns, here.row, here.column, [&](int row, int column, int k) {
      const auto values =
          at.load_from(x, index(here.image, row, column, here.channel, rows.size, columns.size, channels));
      at.each([&](int c) {
        if (place[c] < 0 || values[c] > largest[c] || values[c] != values[c]) {
          largest[c] = values[c];
          place[c] = k;
        }
      });
    });
    at.store(y, largest);
    at.store(places, place);
  });
}

// Every value of an image collects the gradients of the windows of which it was the largest.
KERNEL largest_slopes(
    const REAL* dy, const int* places, Axis rows, Axis columns, int channels, Size size, REAL* dx) {
  each_channels(size, channels, aligned(dy, places, dx), [=](auto at) {
    const Pixel here(at.first, rows.size, columns.size, channels);
    Values<REAL, at.count> total = {};
    windows_of_value(rows, columns, here.row, here.column, [&](int i, int j, int k) {
      const PLACE from = index(here.image, i, j, here.channel, rows.count, columns.count, channels);
      const auto place = at.load_from(places, from);
      const auto slopes = at.load_from(dy, from);
      at.each([&](int c) {
        if (place[c] == k) total[c] += slopes[c];
      });
    });
    at.store(dx, total);
  });
}

// The mean of each window; padding counts as 0.
KERNEL mean_values(const REAL* x, Axis rows, Axis columns, int channels, Size size, REAL* y) {
  const REAL share = (REAL)1 / (rows.kernel * columns.kernel);
  each_channels(size, channels, aligned(x, y), [=](auto at) {
    const Pixel here(at.first, rows.count, columns.count, channels);
    Values<double, at.count> total = {};
    values_of_window(rows, columns, here.row, here.column, [&](int row, int column, int) {
      const auto values =
          at.load_from(x, index(here.image, row, column, here.channel, rows.size, columns.size, channels));
      at.each([&](int c) { total[c] += values[c]; });
    });
    Values<REAL, at.count> means;
    at.each([&](int c) { means[c] = total[c] * share; });
    at.store(y, means);
  });
}

// The gradient of mean_values.
KERNEL mean_slopes(const REAL* dy, Axis rows, Axis columns, int channels, Size size, REAL* dx) {
  const REAL share = (REAL)1 / (rows.kernel * columns.kernel);
  each_channels(size, channels, aligned(dy, dx), [=](auto at) {
    const Pixel here(at.first, rows.size, columns.size, channels);
    Values<REAL, at.count> total = {};
    windows_of_value(rows, columns, here.row, here.column, [&](int i, int j, int) {
      const auto slopes = at.load_from(dy, index(here.image, i, j, here.channel, rows.count, columns.count, channels));
      at.each([&](int c) { total[c] += slopes[c]; });
    });
    at.each([&](int c) { total[c] = total[c] * share; });
    at.store(dx, total);
  });
}
