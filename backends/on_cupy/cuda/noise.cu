// NumPy's Philox4x64-10 (Salmon et al. 2011), with the same bits as Generator(Philox(key, counter)).random().

typedef unsigned long long Word;

// The four words of a block, of a counter that begins at (0, step, 0, 0). NumPy adds 1 before the first block.
__device__ void philox(Word block, Word step, Word key0, Word key1, Word* words) {
  Word a = block + 1, b = step, c = 0, d = 0;
  for (int round = 0; round < 10; round++) {
    const Word high0 = __umul64hi(0xD2E7470EE14C6C93ull, a), low0 = 0xD2E7470EE14C6C93ull * a;
    const Word high1 = __umul64hi(0xCA5A826395121157ull, c), low1 = 0xCA5A826395121157ull * c;
    a = high1 ^ b ^ key0;
    b = low1;
    c = high0 ^ d ^ key1;
    d = low0;
    key0 += 0x9E3779B97F4A7C15ull;
    key1 += 0xBB67AE8584CAA73Bull;
  }
  words[0] = a, words[1] = b, words[2] = c, words[3] = d;
}

// Eight numbers of each block, of 24 bits; of each word the lower half comes first.
KERNEL uniform32(float* out, Size size, Word key0, Word key1, Counter step) {
  EACH(Size, block, (size + 7) / 8) {
    Word words[4];
    philox(block, step(), key0, key1, words);
    for (int j = 0; j < 8; j++) {
      const unsigned int half = (unsigned int)(words[j / 2] >> (j % 2 * 32));
      if (8 * block + j < size) out[8 * block + j] = (float)(half >> 8) * 5.9604644775390625e-8f;  // 2^-24
    }
  }
}

// Four numbers of each block, of 53 bits.
KERNEL uniform64(double* out, Size size, Word key0, Word key1, Counter step) {
  EACH(Size, block, (size + 3) / 4) {
    Word words[4];
    philox(block, step(), key0, key1, words);
    for (int j = 0; j < 4; j++)
      if (4 * block + j < size) out[4 * block + j] = (double)(words[j] >> 11) * 1.1102230246251565e-16;  // 2^-53
  }
}
