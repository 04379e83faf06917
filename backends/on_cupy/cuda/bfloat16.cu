// Numbers of float32, seen as their bits, to the nearest of bfloat16: their upper half.

// Of two that are as near, the even one. NaN stays NaN; what is too large becomes infinite.
__device__ unsigned int upper_half(unsigned int bits) {
  if ((bits & 0x7fffffff) > 0x7f800000) return bits >> 16 | 0x40;
  return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

KERNEL to_bfloat16(const unsigned int* x, Size size, unsigned short* y) {
  EACH(Size, i, size) y[i] = (unsigned short)upper_half(x[i]);
}

KERNEL round_to_bfloat16(const unsigned int* x, Size size, unsigned int* y) {
  EACH(Size, i, size) y[i] = upper_half(x[i]) << 16;
}
