// What is reduced along rows: a warp takes a row, and its threads always the same values of it, so that the results are
// the same in every run.

#define EACH_ROW(row, n) \
  for (Size row = ((Size)blockIdx.x * blockDim.x + threadIdx.x) / 32; row < (n); row += (Size)gridDim.x * blockDim.x / 32)
#define LANE (threadIdx.x % 32)

// The sum of each row of x, (n, k), in double precision, divided by a number.
KERNEL row_sums(const REAL* x, Size n, Size k, double divisor, REAL* sums) {
  EACH_ROW(row, n) {
    double total = 0;
    for (Size j = LANE; j < k; j += 32) total += x[row * k + j];
    for (int apart = 16; apart > 0; apart /= 2) total += __shfl_xor_sync(0xffffffffu, total, apart);
    if (LANE == 0) sums[row] = total / divisor;
  }
}

// The larger one of two, or NaN.
__device__ REAL larger(REAL a, REAL b) { return b > a || b != b ? b : a; }

// The largest one of every k values of x, which holds `size` of them: the last row may have fewer.
KERNEL row_maxima(const REAL* x, Size size, Size n, Size k, REAL* largest) {
  EACH_ROW(row, n) {
    const Size start = row * k, end = start + k < size ? start + k : size;
    REAL most = x[start];
    for (Size i = start + LANE; i < end; i += 32) most = larger(most, x[i]);
    for (int apart = 16; apart > 0; apart /= 2) most = larger(most, __shfl_xor_sync(0xffffffffu, most, apart));
    if (LANE == 0) largest[row] = most;
  }
}
