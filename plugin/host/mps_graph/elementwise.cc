#include "plugin/host/mps_graph/elementwise.h"

#include <algorithm>

#include "plugin/host/mps_graph/arena.h"
#include "plugin/host/mps_graph/isa.h"

namespace host {

namespace {

constexpr long kBlock = 512;  // elements: a few blocks of 2 KiB fit the first-level cache
// A block does not reach over the end of a row. Rows below this are laid out in blocks first, which
// costs less than as many short blocks.
constexpr long kShortRow = kBlock / 2;

// Whether a kernel that reads or writes `kernel` sees a tensor of `tensor` through float32.
bool through_float(DataType tensor, DataType kernel) {
  return is_float16(tensor) && kernel == DataType::Float32;
}

}  // namespace

int ElementwiseChain::input(const Type& type) {
  Value value;
  value.type = type.dtype;
  value.shape = type.shape;
  value.input = int(inputs_.size());
  inputs_.push_back(int(values_.size()));
  values_.push_back(std::move(value));
  return int(values_.size()) - 1;
}

int ElementwiseChain::step(const Elementwise& operation, DataType result,
                           const std::vector<int>& operands) {
  for (size_t i = 0; i < operands.size(); ++i) {
    Value& operand = values_[operands[i]];
    (through_float(operand.type, operation.inputs[i]) ? operand.need_float : operand.need_raw) =
        true;
  }
  Value value;
  value.type = result;
  steps_.push_back({operation, operands, int(values_.size())});
  values_.push_back(std::move(value));
  return int(values_.size()) - 1;
}

void ElementwiseChain::output(int value) {
  values_[value].output = int(outputs_.size());
  outputs_.push_back(value);
}

// Strides of every input over the axes of the result, then axes merged where all inputs allow.
void ElementwiseChain::collapse_loops() {
  const size_t rank = shape_.size();
  for (int i : inputs_) {
    Value& value = values_[i];
    const Shape own = strides_of(value.shape);
    value.strides.assign(rank, 0);
    for (size_t axis = 0; axis < own.size(); ++axis) {
      if (value.shape[axis] != 1) value.strides[rank - own.size() + axis] = own[axis];
    }
  }
  std::vector<size_t> kept;  // axes of extent above 1, outermost first
  for (size_t axis = 0; axis < rank; ++axis) {
    if (shape_[axis] != 1) kept.push_back(axis);
  }
  std::vector<std::vector<long>> merged(inputs_.size());
  for (size_t axis : kept) {
    const auto follows = [&](size_t i) {
      return merged[i].back() == values_[inputs_[i]].strides[axis] * shape_[axis];
    };
    bool merge = !loops_.empty();
    for (size_t i = 0; merge && i < inputs_.size(); ++i) merge = follows(i);
    merge ? void(loops_.back() *= shape_[axis]) : loops_.push_back(shape_[axis]);
    for (size_t i = 0; i < inputs_.size(); ++i) {
      if (!merge) merged[i].push_back(0);
      merged[i].back() = values_[inputs_[i]].strides[axis];
    }
  }
  if (loops_.empty()) loops_.push_back(1);
  for (size_t i = 0; i < inputs_.size(); ++i) {
    if (merged[i].empty()) merged[i].push_back(0);
    values_[inputs_[i]].strides = std::move(merged[i]);
  }
}

// Makes one loop of the two inner ones if rows are short, such as channels to which a bias is
// added.
void ElementwiseChain::merge_short_rows() {
  const size_t last = loops_.size() - 1;
  for (int i : inputs_) {
    Value& value = values_[i];
    if (value.strides.back() == 0) value.access = Access::kScalar;
  }
  if (last == 0 || loops_[last] >= kShortRow) return;
  const auto strides = [&](int i) {
    return std::pair(values_[i].strides[last - 1], values_[i].strides[last]);
  };
  for (int i : inputs_) {
    const auto [outer, inner] = strides(i);
    if (outer != inner * loops_[last] && outer != 0 && !(inner == 0 && outer == 1)) return;
  }
  for (int i : inputs_) {
    Value& value = values_[i];
    const auto [outer, inner] = strides(i);
    if (outer == 0 && inner != 0) value.access = Access::kTiled;
    if (outer != 0 && inner == 0) value.access = Access::kStretched;
    value.strides.pop_back();
    value.strides.back() = inner;
  }
  period_ = loops_[last];
  loops_[last - 1] *= period_;
  loops_.pop_back();
}

void ElementwiseChain::finish() {
  collapse_loops();
  merge_short_rows();
  place_blocks();
}

// Blocks of steps are used again after the last step that reads them; those of inputs are not, for
// a repeated operand fills its block once per row.
void ElementwiseChain::place_blocks() {
  std::vector<std::vector<size_t>> released(steps_.size());
  std::vector<size_t> last_use(values_.size(), 0);
  for (size_t i = 0; i < steps_.size(); ++i) {
    last_use[size_t(steps_[i].result)] = i;
    for (int operand : steps_[i].operands) last_use[size_t(operand)] = i;
  }
  ArenaPlanner planner;
  for (int input : inputs_) {
    Value& value = values_[size_t(input)];
    const size_t count = size_t(kBlock + (value.access == Access::kTiled ? period_ : 0));
    if (value.access != Access::kDense) value.raw_at = planner.take(count * size_of(value.type));
    if (is_float16(value.type)) value.float_at = planner.take(count * sizeof(float));
  }
  for (size_t i = 0; i < steps_.size(); ++i) {
    Value& value = values_[size_t(steps_[i].result)];
    std::vector<size_t>& end = released[last_use[size_t(steps_[i].result)]];
    if (value.output < 0) end.push_back(value.raw_at = planner.take(kBlock * size_of(value.type)));
    if (is_float16(value.type)) {
      end.push_back(value.float_at = planner.take(kBlock * sizeof(float)));
    }
    for (size_t at : released[i]) planner.give_back(at);
  }
  scratch_bytes_ = planner.total();
}

// Where the values of the current block are.
struct ElementwiseChain::Block {
  char* scratch;
  long column, n;      // elements of the row from there
  long longest;        // that a block of this run can be
  bool new_row;        // scalars and tiles must be filled in again
  const char* source;  // of the row
  std::vector<const char*> raw;
  std::vector<const float*> widened;
  std::vector<char*> destination;
};

// Lays an input that is not dense out in `raw`; returns how many elements that are.
long ElementwiseChain::fill(const Value& value, const Block& block, char* raw) const {
  long count = value.access == Access::kStretched ? block.n : block.longest;
  if (value.access == Access::kTiled) count += period_;
  dispatch_bits(value.type, [&]<class T>(TypeOf<T>) {
    const T* source = reinterpret_cast<const T*>(block.source);
    T* const to = reinterpret_cast<T*>(raw);
    if (value.access == Access::kScalar) std::fill_n(to, count, *source);
    if (value.access == Access::kTiled) {
      for (long at = 0; at < count; at += period_) {
        std::copy_n(source, std::min(period_, count - at), to + at);
      }
    }
    if (value.access == Access::kStretched) {
      source += block.column / period_;
      for (long at = 0, end = period_ - block.column % period_; at < count; end += period_) {
        std::fill(to + at, to + std::min(end, count), *source++);
        at = end;
      }
    }
  });
  return count;
}

// Points `raw` and `widened` of an input at this block's elements; `source` is that of the row.
void ElementwiseChain::load(const Value& value, Block& block) const {
  const size_t index = inputs_[value.input];
  float* widened = reinterpret_cast<float*>(block.scratch + value.float_at);
  if (value.access == Access::kDense) {
    block.raw[index] = block.source + block.column * long(size_of(value.type));
    block.widened[index] = widened;
    if (value.need_float) widen(value.type, block.raw[index], widened, block.n);
    return;
  }
  char* const raw = block.scratch + value.raw_at;
  if (block.new_row || value.access == Access::kStretched) {
    const long count = fill(value, block, raw);
    if (value.need_float) widen(value.type, raw, widened, count);
  }
  const long phase = value.access == Access::kTiled ? block.column % period_ : 0;
  block.raw[index] = raw + phase * long(size_of(value.type));
  block.widened[index] = widened + phase;
}

void ElementwiseChain::execute(const Step& step, Block& block) const {
  const Elementwise& operation = step.operation;
  const void* operands[4] = {};
  for (size_t i = 0; i < step.operands.size(); ++i) {
    const int v = step.operands[i];
    operands[i] = through_float(values_[v].type, operation.inputs[i])
                      ? static_cast<const void*>(block.widened[v])
                      : block.raw[v];
  }
  const Value& result = values_[step.result];
  char* raw = block.destination[step.result] ? block.destination[step.result]
                                             : block.scratch + result.raw_at;
  float* widened = reinterpret_cast<float*>(block.scratch + result.float_at);
  if (through_float(result.type, operation.output)) {
    operation.kernel(operands, widened, block.n);
    narrow(result.type, widened, raw, block.n);
  } else {
    operation.kernel(operands, raw, block.n);
  }
  // Readers see the rounded value, as if it had been in memory.
  if (result.need_float) widen(result.type, raw, widened, block.n);
  block.raw[step.result] = raw;
  block.widened[step.result] = widened;
}

void ElementwiseChain::run_part(const std::vector<const char*>& inputs,
                                const std::vector<char*>& outputs, long begin, long end) const {
  thread_local std::vector<char> scratch;
  if (scratch.size() < scratch_bytes_ + 64) scratch.resize(scratch_bytes_ + 64);
  thread_local Block block;  // its vectors keep their capacity, as do the two below
  block.scratch = scratch.data() + (64 - reinterpret_cast<uintptr_t>(scratch.data()) % 64) % 64;
  block.new_row = true;
  block.longest = std::min({kBlock, loops_.back(), end - begin});
  block.raw.resize(values_.size());
  block.widened.resize(values_.size());
  block.destination.assign(values_.size(), nullptr);

  const long inner = loops_.back();
  thread_local std::vector<long> row, offsets;  // row: position in the outer loops
  row.assign(loops_.size(), 0);
  offsets.assign(inputs_.size(), 0);
  block.column = begin % inner;
  for (long rest = begin / inner, axis = long(loops_.size()) - 2; axis >= 0; --axis) {
    row[axis] = rest % loops_[axis];
    rest /= loops_[axis];
    for (size_t i = 0; i < inputs_.size(); ++i) {
      offsets[i] += row[axis] * values_[inputs_[i]].strides[axis];
    }
  }
  for (long at = begin; at < end;) {
    block.n = std::min({kBlock, inner - block.column, end - at});
    for (size_t i = 0; i < inputs_.size(); ++i) {
      const Value& value = values_[inputs_[i]];
      block.source = inputs[i] + offsets[i] * long(size_of(value.type));
      load(value, block);
    }
    for (size_t i = 0; i < outputs_.size(); ++i) {
      block.destination[outputs_[i]] = outputs[i] + at * long(size_of(values_[outputs_[i]].type));
    }
    for (const Step& step : steps_) execute(step, block);
    block.new_row = false;
    at += block.n;
    block.column += block.n;
    if (block.column < inner) continue;
    block.column = 0;
    block.new_row = true;
    for (long axis = long(loops_.size()) - 2; axis >= 0; --axis) {
      const bool wraps = ++row[axis] == loops_[axis];
      for (size_t i = 0; i < inputs_.size(); ++i) {
        offsets[i] += values_[inputs_[i]].strides[axis] * (wraps ? 1 - loops_[axis] : 1);
      }
      if (!wraps) break;
      row[axis] = 0;
    }
  }
}

void ElementwiseChain::run(const std::vector<const char*>& inputs,
                           const std::vector<char*>& outputs) const {
  parallel(element_count(shape_), kGrain,
           [&](long begin, long end) { run_part(inputs, outputs, begin, end); });
}

}  // namespace host
