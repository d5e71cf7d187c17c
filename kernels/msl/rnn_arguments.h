// Arguments of the shaders of recurrent layers.
#pragma once

enum RnnCell { kRnnRelu = 0, kRnnTanh = 1, kRnnLstm = 2, kRnnGru = 3 };

// What a forward pass writes first into its reserve space.
struct RnnHeader {
  int forever;      // stands for the length of every sequence when none ends early
  unsigned key[2];  // of the dropout masks
};

// Strides in elements; elements of one time and batch row are adjacent.
struct RnnTransferArguments {
  long in_time;
  long in_batch;
  long out_time;
  long out_batch;
  unsigned length_stride;  // 1: one length per batch row; 0: the same for all
};

// One time step of one layer and direction. Strides are from one batch row to the next.
struct RnnStepArguments {
  unsigned units;
  unsigned cell;  // an RnnCell
  int time;
  unsigned length_stride;
  long saved_stride;     // gates that the forward pass saved
  long h_stride;         // hidden state, or its gradient
  long previous_stride;  // that of the step before
};

struct RnnDropoutArguments {
  unsigned layer;
  unsigned drop_below;  // of 2^32
  float scale;
};

struct RnnBiasArguments {
  unsigned batch;
  unsigned stride;
};

struct RnnGatesArguments {
  unsigned gates;
  unsigned units;
  long gates_stride;
  unsigned accumulate;
};

struct RnnTransposeArguments {
  unsigned rows;
  unsigned columns;
};
