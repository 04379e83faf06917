// Images (n, h, w, c), and the windows that slide over them. PLACE is the type of an index into them: 32 bits where
// they suffice, as a division of 64 bits takes several times as long. Nothing is ever added to one place by two
// threads: where windows overlap, each value collects what is its own.

#include "vectors.cuh"

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

// body(some) for all values of images, of whose channels some are taken at once: as many as are 16 bytes of REAL, if
// arrays and pixels begin at multiples of that.
template <class Body>
__device__ void each_channels(Size size, int channels, bool wide, Body body) {
  constexpr int N = LANES<REAL>;
  if (wide && channels % N == 0) {
    EACH(PLACE, i, size / N) body(Some<N, 1>{(Size)i * N, 0});
  } else {
    EACH(PLACE, i, size) body(Some<1, 1>{(Size)i, 0});
  }
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
