// Matrices (n, m), column by column.

#include "vectors.cuh"

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

// The same in the same order, with N = LANES<T> columns a thread, for matrices of T: blockDim.x is what N columns a
// thread need. prepare(columns) gives term(cells, total) for some of the columns: it adds to total[cells.lane(j)], which
// are K each. Rows that do not begin at multiples of 16 bytes, or are not `wide`, are read value by value.
template <int K, class T, int COUNT = FLIGHT, class Prepare, class Finish>
__device__ void sum_columns(Size n, Size m, bool wide, Prepare prepare, Finish finish) {
  constexpr int N = LANES<T>;
  __shared__ double parts[K][THREADS];
  const Size left = (Size)blockIdx.x * blockDim.x * N, slab = (n + gridDim.y - 1) / gridDim.y;
  const Size start = slab * blockIdx.y, end = start + slab < n ? start + slab : n;
  // So many columns there are in the block, and for this thread.
  const int across = m - left < blockDim.x * N ? m - left : blockDim.x * N;
  const int own = threadIdx.x * N, there = across - own < N ? across - own : N;
  double total[N][K] = {};
  const auto add = [&](auto columns) {
    const auto term = prepare(columns);
    each_cells<COUNT>(columns, m, start + threadIdx.y, end, blockDim.y, [&](auto at) { term(at, total); });
  };
  if (there > 0) {
    if (wide && m % N == 0)
      add(Some<N, 1>{left + own, 0});
    else
      add(Some<N, 1, false>{left + own, 0, there});
  }
  for_each<N>([&](int l) {
    if (l < there) for_each<K>([&](int k) { parts[k][threadIdx.y * across + own + l] = total[l][k]; });
  });
  __syncthreads();
  const int column = threadIdx.y * blockDim.x + threadIdx.x;
  if (column < across) {
    double all[K];
    for_each<K>([&](int k) {
      all[k] = parts[k][column];
      for (int y = 1; y < blockDim.y; y++) all[k] += parts[k][y * across + column];
    });
    finish(left + column, all);
  }
}
