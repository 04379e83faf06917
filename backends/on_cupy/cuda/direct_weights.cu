#include "direct.cuh"
#include "direct_weights.cuh"

// sums, (rows, KERNEL_ROWS KERNEL_COLUMNS CHANNELS FILTERS + FILTERS), of all bands of all images: of a first layer,
// where nobody wants the gradient of the images.
KERNEL convolved_weights(
    const REAL* x, const REAL* dy, const unsigned char* codes, Size bands, Size rows, REAL* sums) {
  __shared__ Reals<16 / sizeof(REAL)> memory[parts_of(SHARED, 16 / sizeof(REAL))];
  const Size row = blockIdx.x / weights::BLOCKS;
  const int number = blockIdx.x % weights::BLOCKS;
  weights::sums_of_bands(x, dy, codes, bands, rows, row, number, sums, (REAL*)memory);
}
