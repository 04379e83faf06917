#include "direct.cuh"
#include "direct_inputs.cuh"
#include "direct_weights.cuh"

// dx, and sums as of convolved_weights: some blocks compute the one and some the other, so that neither waits.
KERNEL convolved_slopes(
    const REAL* x, const REAL* dy, const unsigned char* codes, const REAL* w, Size images, Size bands, Size rows,
    REAL* dx, REAL* sums) {
  __shared__ Reals<16 / sizeof(REAL)> memory[parts_of(SHARED, 16 / sizeof(REAL))];
  const Size others = (Size)blockIdx.x - images * inputs::BLOCKS;
  if (others < 0) {
    const Size n = blockIdx.x / inputs::BLOCKS;
    const int number = blockIdx.x % inputs::BLOCKS;
    inputs::slopes_of_image(dy, codes, w, n, number, dx, (REAL*)memory);
  } else {
    const Size row = others / weights::BLOCKS;
    const int number = (int)(others % weights::BLOCKS);
    weights::sums_of_bands(x, dy, codes, bands, rows, row, number, sums, (REAL*)memory);
  }
}
