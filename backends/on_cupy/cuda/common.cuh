// What all kernels share. The compiler's options say what REAL is: float or double.

typedef long long Size;  // 64 bits: an array may hold more than 2^31 values

#define KERNEL extern "C" __global__ void

// Threads in a block, at most.
#define THREADS 256

// Every thread takes some of the numbers 0 .. n - 1.
#define EACH(Type, i, n) \
  for (Type i = (Type)blockIdx.x * blockDim.x + threadIdx.x; i < (Type)(n); i += (Type)gridDim.x * blockDim.x)

// Every thread takes one column of a matrix, and some of the rows 0 .. n - 1.
#define COLUMN ((Size)blockIdx.x * blockDim.x + threadIdx.x)
#define ROWS(row, n) \
  for (Size row = (Size)blockIdx.y * blockDim.y + threadIdx.y; row < (n); row += (Size)gridDim.y * blockDim.y)

// A number of the step: known to the host when it launches the kernel, or lying in the device's memory, where a
// recorded step finds the one of its turn.
struct Number {
  const double* wide;
  const float* narrow;
  double value;
  __device__ double operator()() const { return wide ? *wide : narrow ? *narrow : value; }
};
struct Counter {
  const unsigned long long* place;
  unsigned long long value;
  __device__ unsigned long long operator()() const { return place ? *place : value; }
};
