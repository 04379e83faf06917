// The bits of a number of float32 to those of the nearest of bfloat16, which are their upper half.

// Of two that are as near, the even one. NaN stays NaN; what is too large becomes infinite.
__device__ unsigned int upper_half(unsigned int bits) {
  if ((bits & 0x7fffffff) > 0x7f800000) return bits >> 16 | 0x40;
  return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}
