// The gradient of the images: a block takes BAND rows of patches of an image, and TILE channels.
//
// A patch is STRIDE_ROWS x STRIDE_COLUMNS pixels, numbered from the padding on, so that each of its pixels meets the
// same values of the kernel in every patch. A thread takes LENGTH patches of a row, WIDE channels, and every PARTS-th
// group of DEEP filters; what the parts have summed meets in shared memory.

namespace inputs {

constexpr int TILE = INPUTS_TILE, WIDE = INPUTS_WIDE, LENGTH = INPUTS_LENGTH, DEEP = INPUTS_DEEP;
constexpr int BAND = INPUTS_BAND, PARTS = INPUTS_PARTS;
constexpr int DEPTHS = FILTERS / DEEP, GROUPS = TILE / WIDE, TILES = CHANNELS / TILE;
constexpr int FIRST_ROW = TOP / STRIDE_ROWS, FIRST_COLUMN = LEFT / STRIDE_COLUMNS;
constexpr int PATCH_ROWS = parts_of(HEIGHT + TOP, STRIDE_ROWS) - FIRST_ROW;
constexpr int PATCH_COLUMNS = parts_of(WIDTH + LEFT, STRIDE_COLUMNS) - FIRST_COLUMN;
constexpr int STRIPS = parts_of(PATCH_COLUMNS, LENGTH), PIXELS = LENGTH * STRIDE_COLUMNS;
constexpr int UNITS = GROUPS * BAND * STRIPS, BLOCKS = parts_of(PATCH_ROWS, BAND) * TILES;
// How many windows reach a pixel, along each axis.
constexpr int REACH_ROWS = parts_of(KERNEL_ROWS, STRIDE_ROWS), REACH_COLUMNS = parts_of(KERNEL_COLUMNS, STRIDE_COLUMNS);
constexpr int SPAN = LENGTH + REACH_COLUMNS - 1;
constexpr int SLOPE_ROWS = BAND + REACH_ROWS - 1, SLOPE_COLUMNS = STRIPS * LENGTH + REACH_COLUMNS - 1;
constexpr int PITCH = SLOPE_COLUMNS * DEPTHS | 1;
constexpr int KERNEL_PLACES = KERNEL_ROWS * KERNEL_COLUMNS, KERNEL_SIZE = KERNEL_PLACES * FILTERS * TILE;
constexpr int SUMS = PARTS * UNITS * STRIDE_ROWS * PIXELS * WIDE;
constexpr int ROOM = most(KERNEL_SIZE + SLOPE_ROWS * PITCH * DEEP, SUMS);
static_assert(UNITS * PARTS <= BLOCK && ROOM <= SHARED, "direct_plan.py has counted otherwise");

// Filters that are read side by side where the kernel is turned: whole sectors of 32 bytes, and few banks met twice.
constexpr int ASIDE = FILTERS % 8 ? FILTERS : 8;

// Of image n, what the block of a number from 0 to BLOCKS - 1 takes.
__device__ void slopes_of_image(
    const REAL* dy, const unsigned char* codes, const REAL* w, Size n, int number, REAL* dx, REAL* memory) {
  Reals<WIDE>*kernel = (Reals<WIDE>*)memory, *sums = (Reals<WIDE>*)memory;
  Reals<DEEP>* slopes = (Reals<DEEP>*)(memory + KERNEL_SIZE);
  const int first_channel = number % TILES * TILE, first_row = FIRST_ROW + number / TILES * BAND;
  const int me = threadIdx.x;

  // Of the kernel (place, channel, filter), as (place, filter, channel).
  for (int i = me; i < KERNEL_SIZE; i += BLOCK) {
    const int c = i / ASIDE % TILE, f = i / (ASIDE * TILE) % (FILTERS / ASIDE) * ASIDE + i % ASIDE;
    const int place = i / (FILTERS * TILE);
    ((REAL*)kernel)[(place * FILTERS + f) * TILE + c] = w[(Size)(place * CHANNELS + first_channel + c) * FILTERS + f];
  }
  for (int i = me; i < SLOPE_ROWS * SLOPE_COLUMNS * DEPTHS; i += BLOCK) {
    const int along = i % (SLOPE_COLUMNS * DEPTHS), row = i / (SLOPE_COLUMNS * DEPTHS);
    slopes[row * PITCH + along] = slopes_at<DEEP>(
        dy, codes, n, first_row - (REACH_ROWS - 1) + row, FIRST_COLUMN - (REACH_COLUMNS - 1) + along / DEPTHS,
        along % DEPTHS * DEEP);
  }
  __syncthreads();

  const int group = me % GROUPS, patch_row = me / GROUPS % BAND, strip = me / (GROUPS * BAND) % STRIPS;
  const int unit = me % UNITS, part = me / UNITS;
  Reals<WIDE> total[STRIDE_ROWS][PIXELS];
#pragma unroll
  for (int i = 0; i < STRIDE_ROWS; i++)
#pragma unroll
    for (int j = 0; j < PIXELS; j++) total[i][j] = zeros<WIDE>();
  // Threads that are too many have no part, and nothing to do in these loops.
#pragma unroll 1
  for (int depth = part < PARTS ? part : DEPTHS; depth < DEPTHS; depth += PARTS)
#pragma unroll 1
    for (int up = 0; up < REACH_ROWS; up++) {
      const Reals<DEEP>* from = slopes + (patch_row + REACH_ROWS - 1 - up) * PITCH + strip * LENGTH * DEPTHS + depth;
      Reals<DEEP> slope[SPAN];
#pragma unroll
      for (int j = 0; j < SPAN; j++) slope[j] = from[j * DEPTHS];
#pragma unroll
      for (int i = 0; i < STRIDE_ROWS; i++) {
        const int u = up * STRIDE_ROWS + i;
        if (u >= KERNEL_ROWS) continue;
#pragma unroll
        for (int v = 0; v < KERNEL_COLUMNS; v++)
#pragma unroll
          for (int f = 0; f < DEEP; f++) {
            const Reals<WIDE> weight =
                kernel[((u * KERNEL_COLUMNS + v) * FILTERS + depth * DEEP + f) * GROUPS + group];
#pragma unroll
            for (int j = 0; j < LENGTH; j++)
              add_product(
                  total[i][j * STRIDE_COLUMNS + v % STRIDE_COLUMNS],
                  slope[j + REACH_COLUMNS - 1 - v / STRIDE_COLUMNS].at[f], weight);
          }
      }
    }
  __syncthreads();

  if (part < PARTS)
#pragma unroll
    for (int i = 0; i < STRIDE_ROWS; i++)
#pragma unroll
      for (int j = 0; j < PIXELS; j++) sums[((part * STRIDE_ROWS + i) * PIXELS + j) * UNITS + unit] = total[i][j];
  __syncthreads();

  for (int pixel = me; pixel < BAND * STRIDE_ROWS * WIDTH * GROUPS; pixel += BLOCK) {
    const int g = pixel % GROUPS, column = pixel / GROUPS % WIDTH, in_band = pixel / (GROUPS * WIDTH);
    const int row = first_row * STRIDE_ROWS - TOP + in_band;
    if (row < 0 || row >= HEIGHT) continue;
    const int i = in_band % STRIDE_ROWS, along = column + LEFT - FIRST_COLUMN * STRIDE_COLUMNS;
    const int in_strip = along % PIXELS;
    Reals<WIDE> value = zeros<WIDE>();
#pragma unroll
    for (int p = 0; p < PARTS; p++)
      add(value, sums[((p * STRIDE_ROWS + i) * PIXELS + in_strip) * UNITS +
                      (along / PIXELS * BAND + in_band / STRIDE_ROWS) * GROUPS + g]);
    reals_at<WIDE>(dx, ((n * HEIGHT + row) * WIDTH + column) * CHANNELS + first_channel + g * WIDE) = value;
  }
}

}  // namespace inputs
