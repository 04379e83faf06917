// The values of a convolution with what stands behind it: a block takes BAND rows of cells of an image, TILE filters.
//
// A thread takes LENGTH cells of a row, WIDE filters, and every PARTS-th group of DEEP channels. What the parts have
// summed meets in shared memory, where the image and the kernel lay, and is pooled from there.

#include "direct.cuh"

constexpr int DEPTHS = CHANNELS / DEEP, GROUPS = TILE / WIDE, TILES = FILTERS / TILE;
constexpr int STRIPS = parts_of(CELL_COLUMNS, LENGTH), PLACES = LENGTH * POOL_COLUMNS;
constexpr int UNITS = GROUPS * BAND * STRIPS, BLOCKS = parts_of(CELL_ROWS, BAND) * TILES;
constexpr int SPAN = (PLACES - 1) * STRIDE_COLUMNS + KERNEL_COLUMNS;
constexpr int IMAGE_ROWS = (BAND * POOL_ROWS - 1) * STRIDE_ROWS + KERNEL_ROWS;
constexpr int IMAGE_COLUMNS = (STRIPS * PLACES - 1) * STRIDE_COLUMNS + KERNEL_COLUMNS;
constexpr int PITCH = IMAGE_COLUMNS * DEPTHS | 1;  // odd: the rows begin in different banks
constexpr int KERNEL_SIZE = KERNEL_ROWS * KERNEL_COLUMNS * CHANNELS * TILE;
constexpr int SUMS = PARTS * UNITS * POOL_ROWS * PLACES * WIDE;
constexpr int ROOM = most(KERNEL_SIZE + IMAGE_ROWS * PITCH * DEEP, SUMS);
static_assert(UNITS * PARTS == BLOCK && ROOM == SHARED, "direct_plan.py has counted otherwise");

KERNEL convolved_values(const REAL* x, const REAL* w, const REAL* b, REAL* y, unsigned char* codes) {
  __shared__ Reals<16 / sizeof(REAL)> memory[parts_of(ROOM, 16 / sizeof(REAL))];
  Reals<WIDE>*kernel = (Reals<WIDE>*)memory, *sums = (Reals<WIDE>*)memory;
  Reals<DEEP>* image = (Reals<DEEP>*)((REAL*)memory + KERNEL_SIZE);
  const Size n = blockIdx.x / BLOCKS;
  const int number = blockIdx.x % BLOCKS, first_filter = number % TILES * TILE, first_row = number / TILES * BAND;
  const int me = threadIdx.x;

  for (int i = me; i < KERNEL_SIZE / WIDE; i += BLOCK)
    kernel[i] = reals_at<WIDE>(w, (Size)(i / GROUPS) * FILTERS + first_filter + i % GROUPS * WIDE);
  for (int i = me; i < IMAGE_ROWS * IMAGE_COLUMNS * DEPTHS; i += BLOCK) {
    const int along = i % (IMAGE_COLUMNS * DEPTHS), row = i / (IMAGE_COLUMNS * DEPTHS);
    image[row * PITCH + along] = pixel_at<DEEP>(
        x, n, first_row * POOL_ROWS * STRIDE_ROWS - TOP + row, along / DEPTHS - LEFT, along % DEPTHS * DEEP);
  }
  __syncthreads();

  const int group = me % GROUPS, cell_row = me / GROUPS % BAND, strip = me / (GROUPS * BAND) % STRIPS;
  const int unit = me % UNITS, part = me / UNITS;
  Reals<WIDE> total[POOL_ROWS][PLACES];
#pragma unroll
  for (int i = 0; i < POOL_ROWS; i++)
#pragma unroll
    for (int j = 0; j < PLACES; j++) total[i][j] = zeros<WIDE>();
#pragma unroll 1
  for (int depth = part; depth < DEPTHS; depth += PARTS)
#pragma unroll 1
    for (int u = 0; u < KERNEL_ROWS; u++)
#pragma unroll
      for (int i = 0; i < POOL_ROWS; i++) {
        const int row = (cell_row * POOL_ROWS + i) * STRIDE_ROWS + u;
        const Reals<DEEP>* from = image + row * PITCH + strip * PLACES * STRIDE_COLUMNS * DEPTHS + depth;
        Reals<DEEP> pixels[SPAN];
#pragma unroll
        for (int j = 0; j < SPAN; j++) pixels[j] = from[j * DEPTHS];
#pragma unroll
        for (int v = 0; v < KERNEL_COLUMNS; v++)
#pragma unroll
          for (int c = 0; c < DEEP; c++) {
            const Reals<WIDE> weight =
                kernel[((u * KERNEL_COLUMNS + v) * CHANNELS + depth * DEEP + c) * GROUPS + group];
#pragma unroll
            for (int j = 0; j < PLACES; j++) add_product(total[i][j], pixels[j * STRIDE_COLUMNS + v].at[c], weight);
          }
      }
  __syncthreads();

#pragma unroll
  for (int i = 0; i < POOL_ROWS; i++)
#pragma unroll
    for (int j = 0; j < PLACES; j++) sums[((part * POOL_ROWS + i) * PLACES + j) * UNITS + unit] = total[i][j];
  __syncthreads();

  for (int cell = me; cell < BAND * CELL_COLUMNS * GROUPS; cell += BLOCK) {
    const int g = cell % GROUPS, column = cell / GROUPS % CELL_COLUMNS, in_band = cell / (GROUPS * CELL_COLUMNS);
    const int row = first_row + in_band, filter = first_filter + g * WIDE;
    if (row >= CELL_ROWS) continue;
    const Reals<WIDE> bias = reals_at<WIDE>(b, filter);
    Reals<WIDE> value = zeros<WIDE>();
    int largest[WIDE], undefined[WIDE];
    for (int k = 0; k < WIDE; k++) largest[k] = -1, undefined[k] = 0;
#pragma unroll
    for (int place = 0; place < POOL_ROWS * POOL_COLUMNS; place++) {
      const int i = place / POOL_COLUMNS, j = column % LENGTH * POOL_COLUMNS + place % POOL_COLUMNS;
      if (row * POOL_ROWS + i >= COUNT_ROWS || column * POOL_COLUMNS + place % POOL_COLUMNS >= COUNT_COLUMNS) continue;
      Reals<WIDE> here = zeros<WIDE>();
#pragma unroll
      for (int p = 0; p < PARTS; p++)
        add(here, sums[((p * POOL_ROWS + i) * PLACES + j) * UNITS + (column / LENGTH * BAND + in_band) * GROUPS + g]);
      add(here, bias);
#pragma unroll
      for (int k = 0; k < WIDE; k++) {
        const REAL found = here.at[k];
        if (largest[k] < 0 || found > value.at[k] || found != found) value.at[k] = found, largest[k] = place;
        // Behind a pooling, ReLU sees one NaN, where it is the last of its window.
        if (found != found) undefined[k] = NAN_STAYS ? undefined[k] | 1 << place : 1 << place;
      }
    }
    Codes<WIDE> code;
#pragma unroll
    for (int k = 0; k < WIDE; k++) {
      const bool passes = !RELU || value.at[k] > 0;
      code.at[k] = RELU && undefined[k] ? UNDEFINED | undefined[k] : passes ? largest[k] : NOWHERE;
      if (RELU && value.at[k] < 0) value.at[k] = 0;
    }
    if (IS_CODED) *(Codes<WIDE>*)(codes + ((n * CELL_ROWS + row) * CELL_COLUMNS + column) * FILTERS + filter) = code;
    if (row < VALUE_ROWS && column < VALUE_COLUMNS)
      reals_at<WIDE>(y, ((n * VALUE_ROWS + row) * VALUE_COLUMNS + column) * FILTERS + filter) = value;
  }
}
