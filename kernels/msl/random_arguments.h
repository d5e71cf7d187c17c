// Arguments of the shaders that draw random numbers.
#pragma once

struct RandomArguments {
  long count;  // elements of the output
  // Uniform integers: low, and how many numbers there are from it on; 0 for all of the type.
  long low;
  long range;
};

// Words of the state of a generator: a counter of 128 bits and a key of 64.
enum GeneratorState { kCounterWords = 2, kKeyWords = 1, kStateWords = 3 };
