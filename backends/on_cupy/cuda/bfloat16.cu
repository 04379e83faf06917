// Numbers of float32, seen as their bits, to the nearest of bfloat16: their upper half.

#include "vectors.cuh"

// Of two that are as near, the even one. NaN stays NaN; what is too large becomes infinite.
__device__ unsigned int upper_half(unsigned int bits) {
  if ((bits & 0x7fffffff) > 0x7f800000) return bits >> 16 | 0x40;
  return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

KERNEL to_bfloat16(const unsigned int* x, Size size, unsigned short* y) {
  each_some<LANES<unsigned short>>(size, aligned(x, y), [=](auto at) {
    const auto bits = at.load(x);
    Values<unsigned short, at.count> halves;
    at.each([&](int j) { halves[j] = (unsigned short)upper_half(bits[j]); });
    at.store(y, halves);
  });
}

KERNEL round_to_bfloat16(const unsigned int* x, Size size, unsigned int* y) {
  each_some<LANES<unsigned int>>(size, aligned(x, y), [=](auto at) {
    auto bits = at.load(x);
    at.each([&](int j) { bits[j] = upper_half(bits[j]) << 16; });
    at.store(y, bits);
  });
}
