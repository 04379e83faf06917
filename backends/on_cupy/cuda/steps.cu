// What a recorded step ends with. A chunk of steps lies in the device's memory as 64-bit words: the number of the step
// whose turn it is, and then a row of words for each step. The step reads the row of its turn elsewhere.

typedef Size Word;

// The row of the step whose turn it is, to where it reads it.
KERNEL take_turn(const Word* chunk, Size width, Word* now) {
  const Word* row = chunk + 1 + chunk[0] * width;
  EACH(Size, i, width) now[i] = row[i];
}

// The loss, to its place among those of the chunk; then it is the turn of the next step, whose row of so many words is
// taken. One block, in the last launch of the step: whatever reads the number, or the row before, is done.
KERNEL end_turn(const REAL* loss, REAL* losses, Word* chunk, Size width, Word* now) {
  const Word turn = chunk[0];
  __syncthreads();  // all threads know it
  if (threadIdx.x == 0) {
    losses[turn] = *loss;
    chunk[0] = turn + 1;
  }
  const Word* row = chunk + 1 + (turn + 1) * width;
  EACH(Size, i, width) now[i] = row[i];
}
