// What BlockLSTM and its gradient share: sizes, memory and how the steps are encoded.
//
// As in rnn.h, the work is products and a small shader per step in one command buffer, and one
// product over all steps where the steps do not depend on each other. Inputs of 16 bits are widened
// first; what one step hands to the next stays float32.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "kernels/block_rnn.h"
#include "kernels/msl/block_lstm_arguments.h"
#include "kernels/native_call.h"

namespace tfmetal {

// Inputs of both ops: seq_len_max, x, cs_prev, h_prev, w, wci, wcf, wco, b.
enum BlockLstmInput { kX = 1, kCellBefore, kStateBefore, kWeights, kPeepholes, kBias = 8 };

struct BlockLstm {
  explicit BlockLstm(const Node& node);

  TF_DataType dtype;
  int64_t time, steps;  // extent of the tensors, and seq_len_max
  int64_t batch, input, units;
  bool peepholes, input_cell_first;  // gates in the order i, ci, f, o or i, f, ci, o

  int64_t rows() const { return steps * batch; }
  int64_t gates() const { return 4 * units; }
  int64_t state() const { return batch * units; }
  bool is_float() const { return dtype == TF_FLOAT; }
  BlockLstmArguments arguments(int64_t step) const;
  std::string shader(const char* stem) const;
};

// Hands out pieces of the scratch memory. Without memory, it counts what is needed.
class BlockLstmMemory {
 public:
  explicit BlockLstmMemory(BufferSlice all = {}) : all_(all) {}
  BufferSlice floats(int64_t count) {
    const BufferSlice piece = {all_.block, all_.offset + used_};
    constexpr size_t kAlignment = 64;
    used_ += (static_cast<size_t>(count) * sizeof(float) + kAlignment - 1) & ~(kAlignment - 1);
    return piece;
  }
  // Of a tensor of the op: none when it is float32, as it serves itself.
  BufferSlice widened(const BlockLstm& lstm, int64_t count) {
    return lstm.is_float() ? BufferSlice() : floats(count);
  }
  size_t used() const { return used_; }

 private:
  BufferSlice all_;
  size_t used_ = 0;
};

// The slice that begins `count` elements later.
inline BufferSlice after(BufferSlice slice, int64_t count, TF_DataType dtype = TF_FLOAT) {
  return {slice.block, slice.offset + static_cast<size_t>(count) * size_of(dtype)};
}

// Between the op's type and float32.
void convert(NativeCall& call, BufferSlice from, TF_DataType from_type, BufferSlice to,
             TF_DataType to_type, int64_t count);
// The first `count` elements of an input in float32: in `memory`, unless they are.
BufferSlice widen(NativeCall& call, const BlockLstm& lstm, BlockLstmInput input, int64_t count,
                  BufferSlice memory);
// Appends wci, wcf and wco: any tensor when the shader does not read them, for they may be empty.
void append_peepholes(const NativeCall& call, const BlockLstm& lstm,
                      std::vector<ShaderArgument>* arguments);
// Zeros from element `begin` of an output on.
void clear_output(NativeCall& call, size_t output, int64_t begin);

void check_block_lstm(const Node& node, Peepholes peepholes);

void block_lstm_grad(NativeCall& call);
size_t block_lstm_grad_scratch(const Node& node);

}  // namespace tfmetal
