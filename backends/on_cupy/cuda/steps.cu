// What a recorded step begins and ends with. A chunk of steps lies in the device's memory as 64-bit words: the number of
// the step whose turn it is, and then a row of words for each step.

typedef Size Word;

// The row of this step, to where the step reads it.
KERNEL take_turn(const Word* chunk, Size width, Word* now) {
  const Word* row = chunk + 1 + chunk[0] * width;
  EACH(Size, i, width) now[i] = row[i];
}

// The loss, to its place among those of the chunk; and the turn of the next step. One thread, in the last launch of the
// step: whatever reads the number is done.
KERNEL end_turn(const REAL* loss, REAL* losses, Word* chunk) {
  losses[chunk[0]] = *loss;
  chunk[0] += 1;
}
