// NumPy's Philox4x64-10 (Salmon et al. 2011), with the same bits as Generator(Philox(key, counter)).random().

#include "vectors.cuh"

typedef unsigned long long Bits;

// The four words of a block, of a counter that begins at (0, step, 0, 0). NumPy adds 1 before the first block.
__device__ void philox(Bits block, Bits step, Bits key0, Bits key1, Bits* words) {
  Bits a = block + 1, b = step, c = 0, d = 0;
  for (int round = 0; round < 10; round++) {
    const Bits high0 = __umul64hi(0xD2E7470EE14C6C93ull, a), low0 = 0xD2E7470EE14C6C93ull * a;
    const Bits high1 = __umul64hi(0xCA5A826395121157ull, c), low1 = 0xCA5A826395121157ull * c;
    a = high1 ^ b ^ key0;
    b = low1;
    c = high0 ^ d ^ key1;
    d = low0;
    key0 += 0x9E3779B97F4A7C15ull;
    key1 += 0xBB67AE8584CAA73Bull;
  }
  words[0] = a, words[1] = b, words[2] = c, words[3] = d;
}

// The N numbers of a block to their place; the last block may have more than there is room for.
template <int N, class T>
__device__ void put(const T (&numbers)[N], Size block, Size size, bool wide, T* out) {
  if (wide && block * N + N <= size)
    write<N>(out + block * N, numbers);
  else
    for_each<N>([&](int j) {
      if (block * N + j < size) out[block * N + j] = numbers[j];
    });
}

// Eight numbers of each block, of 24 bits; of each word the lower half comes first.
KERNEL uniform32(float* out, Size size, Bits key0, Bits key1, Counter step) {
  const bool wide = aligned(out);
  EACH(Size, block, (size + 7) / 8) {
    Bits words[4];
    philox(block, step(), key0, key1, words);
    float numbers[8];
    for_each<8>([&](int j) {
      const unsigned int half = (unsigned int)(words[j / 2] >> (j % 2 * 32));
      numbers[j] = (float)(half >> 8) * 5.9604644775390625e-8f;  // 2^-24
    });
    put(numbers, block, size, wide, out);
  }
}

// Four numbers of each block, of 53 bits.
KERNEL uniform64(double* out, Size size, Bits key0, Bits key1, Counter step) {
  const bool wide = aligned(out);
  EACH(Size, block, (size + 3) / 4) {
    Bits words[4];
    philox(block, step(), key0, key1, words);
    double numbers[4];
    for_each<4>([&](int j) { numbers[j] = (double)(words[j] >> 11) * 1.1102230246251565e-16; });  // 2^-53
    put(numbers, block, size, wide, out);
  }
}
