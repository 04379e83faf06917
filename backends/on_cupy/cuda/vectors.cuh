// Values that a thread reads and writes 16 bytes at a time, the most it can ask for at once, and several times before it
// waits. Where arrays or their rows do not begin at multiples of 16 bytes, which `aligned` tells where the kernel runs,
// as views may begin anywhere, a thread takes value by value. What becomes of a value does not depend on the way.

#ifndef VECTORS
#define VECTORS

// So many times: FLIGHT in on_cupy/compile.py.
#define FLIGHT 4

// Values of a type in 16 bytes.
template <class T>
constexpr int LANES = 16 / sizeof(T);

template <int BYTES>
struct Word;
template <>
struct Word<4> {
  typedef uchar4 Type;
};
template <>
struct Word<8> {
  typedef uint2 Type;
};
template <>
struct Word<16> {
  typedef uint4 Type;
};

// N values from memory into registers. These instructions are asked for by name, as the compiler makes words of single
// loads and stores in most places only. It takes them for independent of what is written in between: what is read must
// not have been written by the same launch.
template <int N, class T>
__device__ void read(const T* memory, T* values) {
  if constexpr (N == 1) {
    *values = *memory;
  } else {
    constexpr int most = N * sizeof(T) < 16 ? N * sizeof(T) : 16;
#pragma unroll
    for (int k = 0; k < N * sizeof(T) / most; k++) {
      const auto word = __ldca((const typename Word<most>::Type*)memory + k);
      memcpy(values + k * most / sizeof(T), &word, most);
    }
  }
}

// And back.
template <int N, class T>
__device__ void write(T* memory, const T* values) {
  if constexpr (N == 1) {
    *memory = *values;
  } else {
    constexpr int most = N * sizeof(T) < 16 ? N * sizeof(T) : 16;
#pragma unroll
    for (int k = 0; k < N * sizeof(T) / most; k++) {
      typename Word<most>::Type word;
      memcpy(&word, values + k * most / sizeof(T), most);
      __stwb((typename Word<most>::Type*)memory + k, word);
    }
  }
}

// Whether all of these begin at multiples of so many bytes.
template <int BYTES = 16, class... T>
__device__ bool aligned(const T*... arrays) {
  return (... | (size_t)arrays) % BYTES == 0;
}

template <class T, int COUNT>
struct Values {
  T value[COUNT];
  __device__ T& operator[](int j) { return value[j]; }
  __device__ const T& operator[](int j) const { return value[j]; }
};

// work(0), ..., work(COUNT - 1), one after the other in the code, too: registers have no numbers.
template <int COUNT, class Work>
__device__ void for_each(Work work) {
#pragma unroll
  for (int k = 0; k < COUNT; k++) work(k);
}

// The places of COUNT times N values: the first one, and how far those of two times are apart. Where they are no words
// they are read and written one by one, and fewer of the N may be there: the others are read as 0.
template <int N, int COUNT, bool WORDS = true>
struct Some {
  static constexpr int width = N, times = COUNT, count = N * COUNT;
  Size first, apart;
  int there = N;

  template <class T>
  __device__ Values<T, N * COUNT> load(const T* array) const {
    return gather(array, [&](int k) { return first + k * apart; });
  }
  // The same from other places: where(k) is that of the k-th N values.
  template <class T, class Where>
  __device__ Values<T, N * COUNT> gather(const T* array, Where where) const {
    Values<T, N * COUNT> found;
    for_each<COUNT>([&](int k) {
      const T* from = array + where(k);
      if constexpr (WORDS)
        read<N>(from, found.value + N * k);
      else
        for_each<N>([&](int l) { found[N * k + l] = l < there ? from[l] : (T)0; });
    });
    return found;
  }
  template <class T>
  __device__ Values<T, N * COUNT> load_from(const T* array, Size where) const {
    return gather(array, [&](int k) { return where + k * apart; });
  }
  template <class T>
  __device__ void store(T* array, const Values<T, N * COUNT>& values) const {
    for_each<COUNT>([&](int k) {
      T* to = array + first + k * apart;
      if constexpr (WORDS)
        write<N>(to, values.value + N * k);
      else
        for_each<N>([&](int l) {
          if (l < there) to[l] = values[N * k + l];
        });
    });
  }

  // work(j) for each of them: the j-th of what `load` gives.
  template <class Work>
  __device__ void each(Work work) const {
    for_each<count>(work);
  }
};

// body(some) for all of the numbers 0 .. size - 1, shared out to so many threads, of which this is one. The compiler is
// not to repeat the loops, for which it would divide numbers of 64 bits.
template <int N, int COUNT, class Body>
__device__ void each_some(Size thread, Size threads, Size size, bool wide, Body body) {
  const Size words = wide ? size / N : 0;
  Size i = thread;
  if constexpr (COUNT > 1)
#pragma unroll 1
    for (; i + (COUNT - 1) * threads < words; i += COUNT * threads) body(Some<N, COUNT>{i * N, threads * N});
#pragma unroll 1
  for (; i < words; i += threads) body(Some<N, 1>{i * N, 0});
#pragma unroll 1
  for (i = words * N + thread; i < size; i += threads) body(Some<1, 1>{i, 0});
}

// The same for all threads of a launch.
template <int N, class Body>
__device__ void each_some(Size size, bool wide, Body body) {
  const Size thread = (Size)blockIdx.x * blockDim.x + threadIdx.x, threads = (Size)gridDim.x * blockDim.x;
  each_some<N, FLIGHT>(thread, threads, size, wide, body);
}

// Values of a matrix: N neighbours of a row, and those under them in COUNT rows.
template <int N, int COUNT, bool WORDS>
struct Cells : Some<N, COUNT, WORDS> {
  Size top, rows;
  __device__ Cells(Some<N, 1, WORDS> columns, Size m, Size top, Size rows)
      : Some<N, COUNT, WORDS>{top * m + columns.first, rows * m, columns.there}, top(top), rows(rows) {}
  // Of the k-th time.
  __device__ Size row(int k) const { return top + k * rows; }
  // In which of the N columns the j-th value is, and which time it is of.
  __device__ static int lane(int j) { return j % N; }
  __device__ static int time(int j) { return j / N; }
};

// body(cells) for N columns of a matrix, in some of its rows from `row` to `end`, COUNT at a time.
template <int COUNT, int N, bool WORDS, class Body>
__device__ void each_cells(Some<N, 1, WORDS> columns, Size m, Size row, Size end, Size rows, Body body) {
  if constexpr (COUNT > 1)
#pragma unroll 1
    for (; row + (COUNT - 1) * rows < end; row += COUNT * rows)
      body(Cells<N, COUNT, WORDS>(columns, m, row, rows));
#pragma unroll 1
  for (; row < end; row += rows) body(Cells<N, 1, WORDS>(columns, m, row, rows));
}

// For all columns of a matrix (n, m), shared out to the threads of a launch, N at a time or one by one, and for all rows
// of each: prepare(columns) gives the body for some of them. What computes for long needs less on its way at once.
template <int N, int COUNT, class Prepare>
__device__ void each_column(Size n, Size m, Prepare prepare) {
  const Size row = (Size)blockIdx.y * blockDim.y + threadIdx.y, rows = (Size)gridDim.y * blockDim.y;
  for (Size column = COLUMN * N; column < m; column += (Size)gridDim.x * blockDim.x * N) {
    const Some<N, 1> columns{column, 0};
    each_cells<COUNT>(columns, m, row, n, rows, prepare(columns));
  }
}
template <int N, int COUNT = FLIGHT, class Prepare>
__device__ void each_column(Size n, Size m, bool wide, Prepare prepare) {
  if (wide && m % N == 0)
    each_column<N, COUNT>(n, m, prepare);
  else
    each_column<1, COUNT>(n, m, prepare);
}

#endif
