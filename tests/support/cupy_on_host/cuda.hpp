// Runs CUDA kernels on the CPU: put before their source, with EXPORT(name) after it for every kernel.
//
// The threads of a block are fibers that take turns, from one synchronisation to the next, so that barriers and
// shuffles mean what they do on a GPU. One that not all threads reach is an error. Blocks run one after the other; both
// they and their threads may run backwards, as nothing may depend on the order.

#include <csetjmp>
#include <cstring>
#include <math.h>
#include <string>
#include <type_traits>
#include <ucontext.h>
#include <utility>

#define __device__
#define __global__
#define __grid_constant__
#define __launch_bounds__(threads)
#define __shared__ static

struct Three {
  unsigned x, y, z;
};
static Three threadIdx, blockIdx, blockDim, gridDim;

namespace host {

enum State { READY, AT_BARRIER, AT_SHUFFLE, DONE };
constexpr int MOST = 1024;
constexpr size_t STACK = 1 << 16;

struct Fiber {
  int number;
  State state;
  bool started;
  unsigned shuffles;
  jmp_buf here;
  ucontext_t context;
  char* stack;
};
static Fiber fibers[MOST];
static Fiber* current;
static jmp_buf scheduler;
static void (*kernel)(void*);
static void* kernel_arguments;
static unsigned char exchanged[2][MOST][8];

// What a thread has done that is an error on a GPU; it is told when its block has ended.
static const char* fault;

static void check_alignment(const void* address, size_t size) {
  if ((size_t)address % size) fault = "an access to several bytes at an address that is no multiple of their number";
}

static void leave(State state) {
  current->state = state;
  if (_setjmp(current->here) == 0) _longjmp(scheduler, 1);
}

static void live() {
  for (;;) {
    kernel(kernel_arguments);
    leave(DONE);
  }
}

static void resume(Fiber& fiber) {
  const unsigned n = fiber.number;
  threadIdx = {n % blockDim.x, n / blockDim.x % blockDim.y, n / (blockDim.x * blockDim.y)};
  current = &fiber;
  if (_setjmp(scheduler)) return;
  if (fiber.started) _longjmp(fiber.here, 1);
  fiber.started = true;
  fiber.stack = new char[STACK];
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = fiber.stack;
  fiber.context.uc_stack.ss_size = STACK;
  fiber.context.uc_link = nullptr;
  makecontext(&fiber.context, live, 0);
  setcontext(&fiber.context);
}

// Runs every thread of a block to its end; says what is wrong if that cannot be.
static const char* run_block(bool backwards) {
  fault = nullptr;
  const int threads = blockDim.x * blockDim.y * blockDim.z;
  for (int i = 0; i < threads; i++) fibers[i].number = i, fibers[i].state = READY, fibers[i].shuffles = 0;
  for (;;) {
    for (int i = 0; i < threads; i++) {
      Fiber& fiber = fibers[backwards ? threads - 1 - i : i];
      if (fiber.state == READY) resume(fiber);
    }
    int done = 0, at_barrier = 0;
    bool moves = false;
    for (int warp = 0; warp < threads; warp += 32) {
      int shuffling = 0, lanes = 0;
      for (int i = warp; i < warp + 32 && i < threads; i++, lanes++) {
        done += fibers[i].state == DONE;
        at_barrier += fibers[i].state == AT_BARRIER;
        shuffling += fibers[i].state == AT_SHUFFLE;
      }
      if (shuffling && (shuffling < lanes || lanes < 32)) return "a shuffle that not all threads of a warp reach";
      for (int i = warp; shuffling && i < warp + 32; i++) fibers[i].state = READY;
      moves |= shuffling > 0;
    }
    if (done == threads) return fault;
    if (at_barrier == threads) {
      for (int i = 0; i < threads; i++) fibers[i].state = READY;
    } else if (!moves) {
      return "a barrier that not all threads of a block reach";
    }
  }
}

template <class... A, size_t... I>
static void call(void (*f)(A...), void** arguments, std::index_sequence<I...>) {
  f(*(A*)arguments[I]...);
}

template <class... A>
static const char* launch(
    void (*f)(A...), const unsigned* grid, const unsigned* block, void** arguments, bool backwards) {
  static void (*function)(A...);
  function = f;
  kernel = [](void* given) { call(function, (void**)given, std::index_sequence_for<A...>{}); };
  kernel_arguments = arguments;
  gridDim = {grid[0], grid[1], grid[2]};
  blockDim = {block[0], block[1], block[2]};
  const size_t blocks = (size_t)grid[0] * grid[1] * grid[2];
  for (size_t i = 0; i < blocks; i++) {
    const size_t n = backwards ? blocks - 1 - i : i;
    blockIdx = {(unsigned)(n % grid[0]), (unsigned)(n / grid[0] % grid[1]), (unsigned)(n / grid[0] / grid[1])};
    if (const char* wrong = run_block(backwards)) return wrong;
  }
  return nullptr;
}

// A type as NumPy writes it, such as f4; P before that of a pointer's target; V for a structure.
template <class T>
static std::string code() {
  if constexpr (std::is_pointer_v<T>) {
    return "P" + code<std::remove_cv_t<std::remove_pointer_t<T>>>();
  } else {
    const char* kind = std::is_floating_point_v<T> ? "f" : !std::is_integral_v<T> ? "V" : std::is_signed_v<T> ? "i" : "u";
    return kind + std::to_string(sizeof(T));
  }
}

template <class... A>
static std::string signature(void (*)(A...)) {
  std::string all;
  ((all += code<A>() + " "), ...);
  return all;
}

}  // namespace host

static inline void __syncthreads() { host::leave(host::AT_BARRIER); }

template <class T>
static T __shfl_xor_sync(unsigned mask, T value, int apart) {
  // Two buffers in turn: nobody writes to the one of this shuffle before everybody has read from it.
  auto& slots = host::exchanged[host::current->shuffles++ % 2];
  const int me = host::current->number;
  memcpy(slots[me], &value, sizeof value);
  host::leave(host::AT_SHUFFLE);
  T other;
  memcpy(&other, slots[me ^ apart], sizeof other);
  return other;
}

static inline unsigned int __float_as_uint(float x) {
  unsigned int bits;
  __builtin_memcpy(&bits, &x, sizeof bits);
  return bits;
}
static inline float __uint_as_float(unsigned int bits) {
  float x;
  __builtin_memcpy(&x, &bits, sizeof x);
  return x;
}
static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return (unsigned long long)((unsigned __int128)a * b >> 64);
}

// Words that a kernel reads and writes at once: on a GPU an address that is no multiple of their size is an error.
#define WORD(name, type, count)               \
  struct alignas(count * sizeof(type)) name { \
    type values[count];                       \
  };
WORD(uchar4, unsigned char, 4)
WORD(uint2, unsigned int, 2)
WORD(uint4, unsigned int, 4)
#undef WORD

template <class T>
static T __ldca(const T* address) {
  host::check_alignment(address, sizeof(T));
  T word;
  memcpy(&word, (const void*)address, sizeof word);
  return word;
}

template <class T>
static void __stwb(T* address, T word) {
  host::check_alignment(address, sizeof(T));
  memcpy((void*)address, &word, sizeof word);
}

#define EXPORT(name)                                                                    \
  extern "C" const char* signature_##name() {                                           \
    static const std::string found = host::signature(name);                             \
    return found.c_str();                                                               \
  }                                                                                     \
  extern "C" const char* launch_##name(                                                 \
      const unsigned* grid, const unsigned* block, void** arguments, int backwards) {   \
    return host::launch(name, grid, block, arguments, backwards);                       \
  }
