// Convolutions without a matrix of windows, with the ReLU and the pooling behind them. All that is known of a network's
// shapes is a constant of the compiler's, so that loops are unrolled and values stay in registers: see direct_plan.py.
//
// Images (n, HEIGHT, WIDTH, CHANNELS), kernel (KERNEL_ROWS, KERNEL_COLUMNS, CHANNELS, FILTERS), places of the
// convolution (n, COUNT_ROWS, COUNT_COLUMNS, FILTERS). A cell is what one window of the pooling, POOL_ROWS x
// POOL_COLUMNS places that overlap no others, makes of them.

__device__ constexpr int least(int a, int b) { return a < b ? a : b; }
__device__ constexpr int most(int a, int b) { return a > b ? a : b; }
__device__ constexpr int parts_of(int length, int part) { return (length + part - 1) / part; }

// Some channels that lie side by side, read and written at once.
template <int N>
struct alignas(sizeof(REAL) * N) Reals {
  REAL at[N];
};
template <int N>
struct alignas(N) Codes {
  unsigned char at[N];
};

template <int N>
__device__ Reals<N> zeros() {
  Reals<N> all;
  for (int k = 0; k < N; k++) all.at[k] = 0;
  return all;
}

template <int N>
__device__ void add_product(Reals<N>& total, REAL a, const Reals<N>& b) {
#pragma unroll
  for (int k = 0; k < N; k++) total.at[k] += a * b.at[k];
}

template <int N>
__device__ void add(Reals<N>& total, const Reals<N>& a) {
#pragma unroll
  for (int k = 0; k < N; k++) total.at[k] += a.at[k];
}

// Those from x[i] on, where i is a multiple of N: written so, the compiler sees that they begin where a vector may.
template <int N>
__device__ const Reals<N>& reals_at(const REAL* x, Size i) {
  return ((const Reals<N>*)x)[i / N];
}
template <int N>
__device__ Reals<N>& reals_at(REAL* x, Size i) {
  return ((Reals<N>*)x)[i / N];
}

// Cells, and those that have a value: pooling leaves places out that fill no window. A NaN among them gives NaN to its
// own gradient, where the ReLU comes first (NAN_STAYS), so that they are cells, too, then.
constexpr bool IS_CODED = RELU || POOL_ROWS * POOL_COLUMNS > 1;
constexpr int VALUE_ROWS = COUNT_ROWS / POOL_ROWS, VALUE_COLUMNS = COUNT_COLUMNS / POOL_COLUMNS;
constexpr int CELL_ROWS = NAN_STAYS ? parts_of(COUNT_ROWS, POOL_ROWS) : VALUE_ROWS;
constexpr int CELL_COLUMNS = NAN_STAYS ? parts_of(COUNT_COLUMNS, POOL_COLUMNS) : VALUE_COLUMNS;

// A byte of each cell, for the way back: the place that the gradient goes to, or NOWHERE; or, with the bit UNDEFINED,
// a bit for each place whose gradient is NaN.
constexpr int NOWHERE = POOL_ROWS * POOL_COLUMNS, UNDEFINED = 128;
static_assert(NOWHERE <= 7, "the places of a cell are bits of a byte, beside UNDEFINED");

// The gradient of some channels at a place of the convolution; zero outside.
template <int N>
__device__ Reals<N> slopes_at(
    const REAL* dy, const unsigned char* codes, Size image, int row, int column, int filter) {
  if (row < 0 || row >= COUNT_ROWS || column < 0 || column >= COUNT_COLUMNS) return zeros<N>();
  const int i = row / POOL_ROWS, j = column / POOL_COLUMNS;
  const bool has_value = i < VALUE_ROWS && j < VALUE_COLUMNS;
  const Size value = ((image * VALUE_ROWS + i) * VALUE_COLUMNS + j) * FILTERS + filter;
  if (!IS_CODED) return reals_at<N>(dy, value);
  if (i >= CELL_ROWS || j >= CELL_COLUMNS) return zeros<N>();
  const int place = row % POOL_ROWS * POOL_COLUMNS + column % POOL_COLUMNS;
  const Codes<N> code = *(const Codes<N>*)(codes + ((image * CELL_ROWS + i) * CELL_COLUMNS + j) * FILTERS + filter);
  Reals<N> slopes = has_value ? reals_at<N>(dy, value) : zeros<N>();
#pragma unroll
  for (int k = 0; k < N; k++) {
    const int found = code.at[k];
    if (found & UNDEFINED && found >> place & 1)
      slopes.at[k] = (REAL)nan("");
    else if (found != place)
      slopes.at[k] = 0;
  }
  return slopes;
}

// Some channels of an image at a place that may be padding.
template <int N>
__device__ Reals<N> pixel_at(const REAL* x, Size image, int row, int column, int channel) {
  if (row < 0 || row >= HEIGHT || column < 0 || column >= WIDTH) return zeros<N>();
  return reals_at<N>(x, ((image * HEIGHT + row) * WIDTH + column) * CHANNELS + channel);
}
