// Runs a chain of elementwise operations block by block, so that intermediate values stay in the
// first-level cache. One operation is a chain of length one.
#pragma once

#include "plugin/host/mps_graph/graph.h"

namespace host {

class ElementwiseChain {
 public:
  // `shape`: of every result. All operations of a chain have the same result shape.
  explicit ElementwiseChain(Shape shape) : shape_(std::move(shape)) {}
  // Each returns the number of a value.
  int input(const Type& type);
  int step(const Elementwise& operation, DataType result, const std::vector<int>& operands);
  // The value is also stored to memory, as the next output.
  void output(int value);
  size_t length() const { return steps_.size(); }

  // Call once, after the last value; then run() may be called from several threads.
  void finish();
  void run(const std::vector<const char*>& inputs, const std::vector<char*>& outputs) const;
  // Elements [begin, end) of the results, on this thread. The pointers are to elements 0.
  void run_part(const std::vector<const char*>& inputs, const std::vector<char*>& outputs,
                long begin, long end) const;
  long count() const { return element_count(shape_); }

 private:
  // How the inner loop reads an input.
  enum class Access {
    kDense,     // one element after the other
    kScalar,    // the same element all along
    kTiled,     // `period` elements, again and again
    kStretched  // each element `period` times
  };
  struct Value {
    DataType type;
    std::vector<long> strides;  // inputs: one per loop, 0 where the operand repeats
    Access access = Access::kDense;
    Shape shape;  // inputs
    int input = -1, output = -1;
    bool need_raw = false;            // somebody reads it in its own type
    bool need_float = false;          // somebody reads it widened to float32
    size_t raw_at = 0, float_at = 0;  // places of its blocks in the scratch memory
  };
  struct Step {
    Elementwise operation;
    std::vector<int> operands;
    int result;
  };
  struct Block;
  void collapse_loops();
  void merge_short_rows();
  void place_blocks();
  void load(const Value& value, Block& block) const;
  long fill(const Value& value, const Block& block, char* raw) const;
  void execute(const Step& step, Block& block) const;

  Shape shape_;
  Shape loops_;  // the shape with neighbouring axes merged; the last one is the inner loop
  std::vector<Value> values_;
  std::vector<Step> steps_;
  std::vector<int> inputs_, outputs_;
  long period_ = 1;  // extent of the short rows that the inner loop has swallowed
  size_t scratch_bytes_ = 0;
};

}  // namespace host
