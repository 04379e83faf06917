// The gradients of kernel and bias: a block takes some bands of BAND rows of places, one after the other, TILE_IN
// channels and TILE filters, and leaves a row of sums, (KERNEL_ROWS, KERNEL_COLUMNS, CHANNELS, FILTERS) and FILTERS.
// Which bands it takes depends on their number alone, so that the sums are the same in every run.
//
// A thread takes a row of the kernel, DEEP channels, WIDE filters, and every PARTS-th row of a band.

namespace weights {

constexpr int TILE_IN = WEIGHTS_TILE_IN, TILE = WEIGHTS_TILE, WIDE = WEIGHTS_WIDE, DEEP = WEIGHTS_DEEP;
constexpr int BAND = WEIGHTS_BAND, PARTS = WEIGHTS_PARTS;
constexpr int DEPTHS = TILE_IN / DEEP, GROUPS = TILE / WIDE, TILES = FILTERS / TILE, BANDS = parts_of(COUNT_ROWS, BAND);
constexpr int UNITS = GROUPS * DEPTHS * KERNEL_ROWS, BLOCKS = TILES * (CHANNELS / TILE_IN);
constexpr int IMAGE_ROWS = (BAND - 1) * STRIDE_ROWS + KERNEL_ROWS;
constexpr int IMAGE_COLUMNS = (COUNT_COLUMNS - 1) * STRIDE_COLUMNS + KERNEL_COLUMNS;
constexpr int PITCH = IMAGE_COLUMNS * DEPTHS | 1;
constexpr int SLOPE_PITCH = (COUNT_COLUMNS | 1) * GROUPS;
constexpr int KERNEL_SIZE = KERNEL_ROWS * KERNEL_COLUMNS * TILE_IN * TILE;
constexpr int SLOPES = parts_of(BAND * SLOPE_PITCH * WIDE, 4) * 4;
constexpr int ROOM = most(SLOPES + IMAGE_ROWS * PITCH * DEEP, PARTS * KERNEL_SIZE) + THREADS;
constexpr int ROW = KERNEL_ROWS * KERNEL_COLUMNS * CHANNELS * FILTERS + FILTERS;
// How many threads sum the gradients of one bias.
constexpr int HELPERS = UNITS * PARTS / TILE;
static_assert(HELPERS > 0 && UNITS * PARTS <= BLOCK && ROOM <= SHARED, "direct_plan.py has counted otherwise");

// Of the given number of bands, every rows-th from one on; what the block of a number from 0 to BLOCKS - 1 takes.
__device__ void sums_of_bands(
    const REAL* x, const REAL* dy, const unsigned char* codes, Size bands, Size rows, Size row_of_sums, int number,
    REAL* out, REAL* memory) {
  Reals<WIDE>*slopes = (Reals<WIDE>*)memory, *sums = (Reals<WIDE>*)memory;
  Reals<DEEP>* image = (Reals<DEEP>*)(memory + SLOPES);
  REAL* bias_sums = memory + ROOM - THREADS;
  const int first_filter = number % TILES * TILE, first_channel = number / TILES * TILE_IN;
  const int me = threadIdx.x, group = me % GROUPS, depth = me / GROUPS % DEPTHS;
  const int u = me / (GROUPS * DEPTHS) % KERNEL_ROWS, part = me / UNITS;

  Reals<WIDE> total[KERNEL_COLUMNS][DEEP];
#pragma unroll
  for (int v = 0; v < KERNEL_COLUMNS; v++)
#pragma unroll
    for (int c = 0; c < DEEP; c++) total[v][c] = zeros<WIDE>();
  REAL bias_total = 0;

#pragma unroll 1
  for (Size band = row_of_sums; band < bands; band += rows) {
    const Size n = band / BANDS;
    const int first_row = (int)(band % BANDS) * BAND, count = least(BAND, COUNT_ROWS - first_row);
    for (int i = me; i < BAND * COUNT_COLUMNS * GROUPS; i += BLOCK) {
      const int g = i % GROUPS, column = i / GROUPS % COUNT_COLUMNS, row = i / (GROUPS * COUNT_COLUMNS);
      slopes[row * SLOPE_PITCH + column * GROUPS + g] =
          slopes_at<WIDE>(dy, codes, n, first_row + row, column, first_filter + g * WIDE);
    }
    for (int i = me; i < IMAGE_ROWS * IMAGE_COLUMNS * DEPTHS; i += BLOCK) {
      const int along = i % (IMAGE_COLUMNS * DEPTHS), row = i / (IMAGE_COLUMNS * DEPTHS);
      image[row * PITCH + along] = pixel_at<DEEP>(
          x, n, first_row * STRIDE_ROWS - TOP + row, along / DEPTHS - LEFT, first_channel + along % DEPTHS * DEEP);
    }
    __syncthreads();
    if (first_channel == 0 && me < HELPERS * TILE)
      for (int i = me / TILE; i < count * COUNT_COLUMNS; i += HELPERS)
        bias_total +=
            ((REAL*)slopes)[(i / COUNT_COLUMNS * SLOPE_PITCH + i % COUNT_COLUMNS * GROUPS) * WIDE + me % TILE];
#pragma unroll 1
    for (int row = part < PARTS ? part : count; row < count; row += PARTS) {
      const Reals<DEEP>* from = image + (row * STRIDE_ROWS + u) * PITCH + depth;
      const Reals<WIDE>* slope = slopes + row * SLOPE_PITCH + group;
      Reals<DEEP> window[KERNEL_COLUMNS];
#pragma unroll
      for (int v = 0; v < KERNEL_COLUMNS; v++) window[v] = from[v * DEPTHS];
#pragma unroll KERNEL_COLUMNS
      for (int column = 0; column < COUNT_COLUMNS; column++) {
        const Reals<WIDE> here = slope[column * GROUPS];
#pragma unroll
        for (int v = 0; v < KERNEL_COLUMNS; v++)
#pragma unroll
          for (int c = 0; c < DEEP; c++) add_product(total[v][c], window[v].at[c], here);
        if (column + 1 == COUNT_COLUMNS) break;
        // The window goes on: it keeps what lies in the next one, too.
#pragma unroll
        for (int v = 0; v < KERNEL_COLUMNS; v++)
          window[v] = v + STRIDE_COLUMNS < KERNEL_COLUMNS ? window[least(v + STRIDE_COLUMNS, KERNEL_COLUMNS - 1)]
                                                          : from[((column + 1) * STRIDE_COLUMNS + v) * DEPTHS];
      }
    }
    __syncthreads();
  }

  if (part < PARTS)
#pragma unroll
    for (int v = 0; v < KERNEL_COLUMNS; v++)
#pragma unroll
      for (int c = 0; c < DEEP; c++)
        sums[((part * KERNEL_ROWS + u) * KERNEL_COLUMNS + v) * TILE_IN * GROUPS + (depth * DEEP + c) * GROUPS + group] =
            total[v][c];
  if (me < HELPERS * TILE) bias_sums[me] = bias_total;
  __syncthreads();
  out += row_of_sums * ROW;
  for (int i = me; i < KERNEL_SIZE / WIDE; i += BLOCK) {
    Reals<WIDE> value = zeros<WIDE>();
#pragma unroll
    for (int p = 0; p < PARTS; p++) add(value, sums[p * (KERNEL_SIZE / WIDE) + i]);
    const int g = i % GROUPS, c = i / GROUPS % TILE_IN, place = i / (GROUPS * TILE_IN);
    reals_at<WIDE>(out, (place * CHANNELS + first_channel + c) * FILTERS + first_filter + g * WIDE) = value;
  }
  if (first_channel == 0 && me < TILE) {
    for (int i = 1; i < HELPERS; i++) bias_total += bias_sums[i * TILE + me];
    out[ROW - FILTERS + first_filter + me] = bias_total;
  }
}

}  // namespace weights
