#include "columns.cuh"
#include "activations.cuh"
#include "losses.cuh"
#include "bfloat16.cuh"

// The last affine layer, of few scores, and the loss: z = h w + b, with w (k, SCORES). A block takes a row of h, and a
// thread PER values of it, whose weights it holds; blocks go on to further rows. TARGET is the type of the targets,
// ACTIVATION the one of the layer before, or None, and ROUNDED whether factors are rounded to bfloat16.

// Threads in a block, at most.
#define MOST 512
#undef KERNEL
#define KERNEL extern "C" __global__ void __launch_bounds__(MOST)

struct None {
  ACTIVATION_OF(true) value(REAL x, REAL) { return x; }
  static __device__ REAL gradient(REAL dy, REAL, REAL) { return dy; }
};

// A factor of a product, rounded to bfloat16 where all of them are; sums are not.
__device__ REAL factor(REAL x) {
#if ROUNDED
  return __uint_as_float(upper_half(__float_as_uint(x)) << 16);
#else
  return x;
#endif
}

__device__ REAL sum_of_warp(REAL value) {
  for (int apart = 16; apart > 0; apart /= 2) value += __shfl_xor_sync(0xffffffffu, value, apart);
  return value;
}

// What each row costs, times its share of the mean if there are weights; the gradients dz of its scores, (n, SCORES);
// and, where they are wanted, those of what the activation made h of. Where its gradient is not of its output h, that is
// kept + kept_bias.
KERNEL head_rows(
    const REAL* h, const REAL* w, const REAL* b, const TARGET* target, double smoothing, Size weighted,
    Size may_leave_out, const REAL* weight, const REAL* total, Size wanted, const REAL* kept, const REAL* kept_bias,
    double parameter, Size n, Size k, REAL* values, REAL* dz, REAL* dh) {
  __shared__ REAL parts[2][MOST / 32][SCORES];  // in turn, so that one barrier a row will do
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  REAL own[PER][SCORES];
#pragma unroll
  for (int i = 0; i < PER; i++) {
    const Size column = threadIdx.x + i * blockDim.x;
#pragma unroll
    for (int j = 0; j < SCORES; j++) own[i][j] = column < k ? factor(w[column * SCORES + j]) : (REAL)0;
  }
  REAL next[PER];
  const auto ask_for = [&](Size row) {
#pragma unroll
    for (int i = 0; i < PER; i++) {
      const Size column = threadIdx.x + i * blockDim.x;
      next[i] = row < n && column < k ? h[row * k + column] : (REAL)0;
    }
  };
  ask_for(blockIdx.x);
  int turn = 0;
  for (Size row = blockIdx.x; row < n; row += gridDim.x, turn = 1 - turn) {
    REAL x[PER], z[SCORES] = {}, slopes[SCORES];
#pragma unroll
    for (int i = 0; i < PER; i++) {
      x[i] = factor(next[i]);
#pragma unroll
      for (int j = 0; j < SCORES; j++) z[j] += x[i] * own[i][j];
    }
    ask_for(row + gridDim.x);  // which comes while this row is computed
#pragma unroll
    for (int j = 0; j < SCORES; j++) {
      z[j] = sum_of_warp(z[j]);
      if (lane == 0) parts[turn][warp][j] = z[j];
    }
    __syncthreads();
#pragma unroll
    for (int j = 0; j < SCORES; j++) {
      z[j] = b[j];
      for (int i = 0; i < warps; i++) z[j] += parts[turn][i][j];
    }
    REAL value = LOSS::value<SCORES>(z, target, row, smoothing, slopes), share = (REAL)(1.0 / n);
    bool gone = false;
    if (weighted) {
      const REAL mine = weight[row];
      share = mine / (*total > 0 ? *total : (REAL)1);  // a batch in which nothing counts costs nothing
      value = share * (mine == 0 ? (REAL)0 : value);
      gone = may_leave_out && mine == 0;
    }
#pragma unroll
    for (int j = 0; j < SCORES; j++) {
      slopes[j] = gone ? (REAL)0 : slopes[j] * share;  // 0 times infinity is NaN
      if (threadIdx.x == j) dz[row * SCORES + j] = slopes[j];
    }
    if (threadIdx.x == 0) values[row] = value;
    if (!wanted) continue;
#pragma unroll
    for (int i = 0; i < PER; i++) {
      const Size column = threadIdx.x + i * blockDim.x;
      if (column >= k) continue;
      REAL dy = 0;
#pragma unroll
      for (int j = 0; j < SCORES; j++) dy += factor(slopes[j]) * own[i][j];
      const REAL before = ACTIVATION::of_output ? x[i] : kept[row * k + column] + kept_bias[column];
      dh[row * k + column] = ACTIVATION::gradient(dy, before, (REAL)parameter);
    }
  }
}

// Where the sums over all rows go: SCORES + 1 for each of the k columns of h, and for one more, of ones.
struct Sums {
  REAL *dw, *db, *value, *dh_sums;
  Size wanted;
  double scale;
  __device__ void put(Size column, int j, Size k, double total) const {
    if (j < SCORES)
      (column < k ? dw : db)[(column < k ? column * SCORES : 0) + j] = total;
    else if (column == k)
      *value = total * scale;
    else if (wanted)
      dh_sums[column] = total;
  }
};

// The gradients of w and b, the value of the loss, scale times the sum of all values, and the sums of the columns of
// dh, where it is wanted. Of more slabs than one, the sums of each: (slabs, k + 1, SCORES + 1). As sum_rows, but a thread
// has few rows: it need not sum in double precision, which would take most of the time.
KERNEL head_columns(
    const REAL* h, const REAL* dz, const REAL* values, const REAL* dh, Size wanted, Size n, Size k, double scale,
    double* sums, REAL* dw, REAL* db, REAL* value, REAL* dh_sums) {
  constexpr int K = SCORES + 1;
  __shared__ REAL parts[K][THREADS];
  const int number = threadIdx.y * blockDim.x + threadIdx.x;
  const Size column = COLUMN, slab = (n + gridDim.y - 1) / gridDim.y, start = slab * blockIdx.y;
  const Size end = start + slab < n ? start + slab : n;
  REAL total[K] = {};
  if (column <= k)
    for (Size row = start + threadIdx.y; row < end; row += blockDim.y) {
      const REAL x = column < k ? factor(h[row * k + column]) : (REAL)1;
#pragma unroll
      for (int j = 0; j < SCORES; j++) {
        const REAL slope = dz[row * SCORES + j];
        total[j] += column < k ? x * factor(slope) : slope;
      }
      if (column == k)
        total[SCORES] += values[row];
      else if (wanted)
        total[SCORES] += dh[row * k + column];
    }
#pragma unroll
  for (int j = 0; j < K; j++) parts[j][number] = total[j];
  __syncthreads();
  const Sums all{dw, db, value, dh_sums, wanted, scale};
  for (int i = number; i < K * blockDim.x; i += blockDim.x * blockDim.y) {
    const int x = i % blockDim.x, j = i / blockDim.x;
    const Size summed = (Size)blockIdx.x * blockDim.x + x;
    if (summed > k) continue;
    double sum = 0;
    for (int y = 0; y < blockDim.y; y++) sum += parts[j][y * blockDim.x + x];
    if (gridDim.y == 1)
      all.put(summed, j, k, sum);
    else
      sums[(blockIdx.y * (k + 1) + summed) * K + j] = sum;
  }
}

// The sums over the slabs.
KERNEL head_totals(
    const double* sums, Size slabs, Size wanted, Size k, double scale, REAL* dw, REAL* db, REAL* value, REAL* dh_sums) {
  const Sums all{dw, db, value, dh_sums, wanted, scale};
  const Size m = (k + 1) * (SCORES + 1);
  sum_rows<1>(
      slabs, m, [&](Size row, Size column, double* total) { total[0] += sums[row * m + column]; },
      [&](Size column, const double* total) {
        all.put(column / (SCORES + 1), (int)(column % (SCORES + 1)), k, total[0]);
      });
}
