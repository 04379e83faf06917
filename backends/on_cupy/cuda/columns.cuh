// Matrices (n, m), column by column.

// K sums over the rows of a slab, for each column: blockIdx.y numbers the slabs. The order of summation depends on the
// shapes alone, so that the sums are the same in every run. term(row, column, total) adds to K totals, and
// finish(column, total) gets them: in double precision, as a thread may have many rows.
template <int K, class Term, class Finish>
__device__ void sum_rows(Size n, Size m, Term term, Finish finish) {
  __shared__ double parts[K][THREADS];
  const Size column = COLUMN, slab = (n + gridDim.y - 1) / gridDim.y, start = slab * blockIdx.y;
  const Size end = start + slab < n ? start + slab : n;
  double total[K] = {};
  if (column < m)
    for (Size row = start + threadIdx.y; row < end; row += blockDim.y) term(row, column, total);
  for (int k = 0; k < K; k++) parts[k][threadIdx.y * blockDim.x + threadIdx.x] = total[k];
  __syncthreads();
  if (threadIdx.y == 0 && column < m) {
    for (int y = 1; y < blockDim.y; y++)
      for (int k = 0; k < K; k++) total[k] += parts[k][y * blockDim.x + threadIdx.x];
    finish(column, total);
  }
}
