// Numbers of float32, seen as their bits, to the nearest of bfloat16.

#include "bfloat16.cuh"
#include "vectors.cuh"

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
