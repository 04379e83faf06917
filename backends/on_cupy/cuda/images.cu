// Images (n, h, w, c), and the windows that slide over them. PLACE is the type of an index into them: 32 bits where
// they suffice, as a division of 64 bits takes several times as long. Nothing is ever added to one place by two
// threads: where windows overlap, each value collects what is its own.

struct Axis {
  int size, count, kernel, stride, dilation, before;

  // Where the k-th value of a window lies; outside 0 .. size - 1 it is padding.
  __device__ int place(int window, int k) const { return window * stride + k * dilation - before; }
  __device__ bool holds(int place) const { return place >= 0 && place < size; }

  // The window whose k-th value lies here, or -1.
  __device__ int window(int place, int k) const {
    const int from = place + before - k * dilation;
    return from >= 0 && from % stride == 0 && from / stride < count ? from / stride : -1;
  }
};

// Takes the last part of an index off.
__device__ int part(PLACE& rest, int length) {
  const int last = (int)(rest % length);
  rest /= length;
  return last;
}

// An index into images of the given height and width, taken apart.
struct Pixel {
  int channel, column, row;
  PLACE image;
  __device__ Pixel(PLACE i, int height, int width, int channels) {
    channel = part(i, channels);
    column = part(i, width);
    row = part(i, height);
    image = i;
  }
};

__device__ PLACE index(PLACE image, int row, int column, int channel, int height, int width, int channels) {
  return ((image * height + row) * width + column) * channels + channel;
}

// found(row, column, k) for each value of the window (i, j) that lies in the image: where, and as which of its values.
template <class Found>
__device__ void values_of_window(Axis rows, Axis columns, int i, int j, Found found) {
  for (int u = 0; u < rows.kernel; u++) {
    const int row = rows.place(i, u);
    if (!rows.holds(row)) continue;
    for (int v = 0; v < columns.kernel; v++) {
      const int column = columns.place(j, v);
      if (columns.holds(column)) found(row, column, u * columns.kernel + v);
    }
  }
}

// found(i, j, k) for each window that the value of the image at (row, column) is in: which, and as which of its values.
template <class Found>
__device__ void windows_of_value(Axis rows, Axis columns, int row, int column, Found found) {
  for (int u = 0; u < rows.kernel; u++) {
    const int i = rows.window(row, u);
    if (i < 0) continue;
    for (int v = 0; v < columns.kernel; v++) {
      const int j = columns.window(column, v);
      if (j >= 0) found(i, j, u * columns.kernel + v);
    }
  }
}

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
