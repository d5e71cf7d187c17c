// Arguments of the shaders of BlockLSTM and its gradient.
#pragma once

// One time step. Gates are side by side in the order of the op: i first, o last.
struct BlockLstmArguments {
  unsigned units;
  unsigned c_gate;       // where the cell input is among the gates: 1 or 2
  unsigned f_gate;       // and the forget gate
  unsigned sums_stride;  // gradient only: columns of the sums
  long row;              // the first batch row of this step among those of all steps
  long previous_row;     // of the step before, 0 for the state that the op was given
  float forget_bias;
  float clip;  // infinity: none
};
