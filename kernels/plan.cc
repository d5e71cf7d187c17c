#include "kernels/plan.h"

#include <chrono>
#include <condition_variable>
#include <list>

#include "kernels/native_call.h"
#include "kernels/tensor_data.h"
#include "plugin/device/blit.h"
#include "plugin/device/stats.h"
#include "plugin/env.h"

namespace tfmetal {

namespace {

// Limits of MPSGraph that abort the process when crossed: "NDArray dimension length > INT_MAX",
// "total bytes of NDArray > 2**32" (pytorch#84039).
constexpr uint64_t kMaxElements = uint64_t{1} << 31;
constexpr uint64_t kMaxBytes = uint64_t{1} << 32;
constexpr size_t kMaxRank = 16;
// A compiled graph's size cannot be asked for: a fixed part plus one per node of the lowering.
constexpr size_t kPlanBytes = 16 << 10;
constexpr size_t kNativePlanBytes = 256;

// MPSGraph has no use for rank 0: a scalar travels as one element.
Shape graph_shape(const Shape& shape) { return shape.empty() ? Shape{1} : shape; }

void check_limits(const OpRow& row, const Node& node, const TensorInfo& tensor) {
  // The graph of a row that widens holds a float32 for each 16-bit float.
  const size_t element = std::max(size_of(tensor.dtype), row.widen ? sizeof(float) : 1);
  const auto elements = static_cast<uint64_t>(tensor.count());
  if (elements >= kMaxElements || elements * element > kMaxBytes || tensor.rank() > kMaxRank) {
    throw_resource_exhausted(node.describe(), ": ", to_string(tensor),
                             " is beyond Metal's limit of ", kMaxElements - 1, " elements, ",
                             kMaxBytes, " bytes and rank ", kMaxRank);
  }
}

// How the graph of a row sees a tensor.
TensorInfo as_operand(const OpRow& row, TensorInfo tensor) {
  tensor.shape = graph_shape(tensor.shape);
  if (row.pairs && tensor.dtype == TF_COMPLEX64) {
    tensor.dtype = TF_FLOAT;
    tensor.shape.push_back(2);
  } else if (tensor.dtype == TF_COMPLEX64) {
    tensor.dtype = TF_INT64;  // rows without pairs only move elements
  }
  return tensor;
}

// The lowering between casts to float32 and back, where the row asks for that.
Tensors lower(GraphBuilder& g, const OpRow& row, const Node& node, const Tensors& inputs) {
  if (!row.widen) return row.lower(g, node, inputs);
  Tensors wide = inputs;
  Node wide_node = node;
  for (size_t i = 0; i < wide.size(); ++i) {
    if (!is_reduced_float(node.in(i).dtype)) continue;
    wide_node.inputs[i].dtype = TF_FLOAT;
    if (wide[i]) wide[i] = g.cast(wide[i], TF_FLOAT);
  }
  for (TensorInfo& output : wide_node.outputs) {
    if (is_reduced_float(output.dtype)) output.dtype = TF_FLOAT;
  }
  Tensors results = row.lower(g, wide_node, wide);
  for (size_t i = 0; i < results.size(); ++i) {
    if (results[i]) results[i] = g.cast(results[i], node.out(i).dtype);
  }
  return results;
}

void check_result(const GraphBuilder& g, const OpRow& row, const Node& node, Tensor result,
                  size_t i) {
  const Shape shape = g.shape_of(result);
  const TensorInfo expected = as_operand(row, node.out(i));
  if (element_count(shape) != expected.count() || result.data_type() != to_mps(expected.dtype)) {
    throw_internal(node.describe(), ": the graph gives ", to_string(shape), " for output ", i,
                   ", TensorFlow expects ", to_string(node.out(i)));
  }
}

// Builds one executable out of a part.
class Compiler {
 public:
  explicit Compiler(const GraphPart& part) : part_(part), graph_(mpsg::Graph::make()), g_(graph_) {
    for (const auto& [value, constant] : part.constants) {
      const ns::Data data = ns::Data::make(constant.bytes.data(), constant.bytes.size());
      tensors_[value] =
          g_.constant(data, g_.list(graph_shape(constant.info.shape)), to_mps(constant.info.dtype));
    }
    for (const GraphPart::Port& feed : part.feeds) {
      const TensorInfo tensor = as_operand(*part.members[0].row, feed.info);
      check_limits(*part.members[0].row, *part.members[0].node, tensor);
      tensors_[feed.value] = g_.placeholder(g_.list(tensor.shape), to_mps(tensor.dtype));
    }
    for (const GraphPart::Member& member : part.members) add(member);
    // A target that is a mere view of a feed may be left unwritten: give it a producer.
    for (const GraphPart::Port& target : part.targets) {
      Tensor& tensor = tensors_.at(target.value);
      tensor = g_.identity(tensor);
    }
  }

  GraphSegment compile() {
    std::vector<id> keys, types;
    std::vector<objc::Ref<mpsg::ShapedType>> owned;
    for (const GraphPart::Port& feed : part_.feeds) {
      const Tensor tensor = tensors_.at(feed.value);
      owned.push_back(mpsg::ShapedType::make(tensor.shape(), tensor.data_type()));
      keys.push_back(tensor.raw());
      types.push_back(owned.back().raw());
    }
    Tensors targets;
    for (const GraphPart::Port& target : part_.targets) {
      targets.push_back(tensors_.at(target.value));
    }
    const auto how = mpsg::CompilationDescriptor::make();
    how.set_optimization_level(mpsg::Optimization::Level0);  // Level1 may leave the GPU
    how.set_wait_for_completion(true);
    GraphSegment segment;
    segment.executable = g_.compile(ns::Dictionary::make(keys, types), g_.list(targets), how);
    segment.feeds = bindings(segment.executable.feed_tensors(), part_.feeds);
    segment.targets = bindings(segment.executable.target_tensors(), part_.targets);
    return segment;
  }

 private:
  void add(const GraphPart::Member& member) {
    const Node& node = *member.node;
    for (const TensorInfo& output : node.outputs) check_limits(*member.row, node, output);
    Tensors inputs;
    for (int value : member.inputs) inputs.push_back(value < 0 ? Tensor() : tensors_.at(value));
    const Tensors results = lower(g_, *member.row, node, inputs);
    for (size_t i = 0; i < results.size(); ++i) {
      if (node.out(i).count() == 0) continue;
      check_result(g_, *member.row, node, results[i], i);
      tensors_[member.outputs[i]] =
          g_.reshape(results[i], as_operand(*member.row, node.out(i)).shape);
    }
  }

  // The executable decides the order of its feeds and targets: map them by identity.
  std::vector<GraphSegment::Binding> bindings(ns::Array order,
                                              const std::vector<GraphPart::Port>& ports) const {
    std::map<id, const GraphPart::Port*> by_tensor;
    for (const GraphPart::Port& port : ports) by_tensor[tensors_.at(port.value).raw()] = &port;
    std::vector<GraphSegment::Binding> out;
    for (NSUInteger k = 0; k < order.count(); ++k) {
      const auto found = by_tensor.find(order[k]);
      if (found == by_tensor.end()) {
        throw_internal(part_.members[0].node->describe(), ": unknown feed or target");
      }
      const Tensor tensor(order[k]);
      out.push_back({found->second->operand, tensor.data_type(),
                     objc::Ref<ns::Array>::retain(tensor.shape()), found->second->info.bytes()});
    }
    return out;
  }

  const GraphPart& part_;
  const objc::Ref<mpsg::Graph> graph_;
  GraphBuilder g_;
  std::map<int, Tensor> tensors_;
};

// One op: its inputs are values 0, 1, ..., its outputs follow.
GraphPart part_of(const OpRow& row, const Node& node) {
  GraphPart part;
  GraphPart::Member member{&row, &node, {}, {}};
  for (size_t i = 0; i < node.inputs.size(); ++i) {
    const bool fed = !node.is_host[i] && node.in(i).count() > 0;
    member.inputs.push_back(fed ? static_cast<int>(i) : -1);
    if (fed) part.feeds.push_back({static_cast<int>(i), i, node.in(i)});
  }
  for (size_t i = 0; i < node.outputs.size(); ++i) {
    const int value = static_cast<int>(node.inputs.size() + i);
    member.outputs.push_back(value);
    if (node.out(i).count() > 0) part.targets.push_back({value, i, node.out(i)});
  }
  part.members.push_back(std::move(member));
  return part;
}

// Counts a plan and the time of building it.
class CountedBuild {
 public:
  ~CountedBuild() {
    using std::chrono::microseconds;
    stats().compiles++;
    stats().compile_us +=
        std::chrono::duration_cast<microseconds>(std::chrono::steady_clock::now() - begin_).count();
  }

 private:
  const std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

bool has_empty_input(const Node& node) {
  for (size_t i = 0; i < node.inputs.size(); ++i) {
    if (!node.is_host[i] && node.in(i).count() == 0) return true;
  }
  return false;
}

}  // namespace

std::shared_ptr<const Plan> Plan::build(const OpRow& row, const Node& node) {
  const CountedBuild counted;
  const objc::AutoreleasePool pool;
  auto plan = std::make_shared<Plan>();
  plan->row_ = &row;
  plan->bytes_ = kNativePlanBytes;
  if (node.constant_result) {
    plan->fill_ = node.constant_result;
  } else if (has_empty_input(node) && !row.takes_empty) {
    if (!row.empty_value) {
      throw_internal(node.describe(), ": no answer is defined for an input without elements");
    }
    plan->fill_ = row.empty_value;
  } else if (row.lower) {
    plan->graph_ = std::make_unique<GraphSegment>(Compiler(part_of(row, node)).compile());
    plan->bytes_ = kPlanBytes;
  }
  return plan;
}

std::shared_ptr<const Plan> Plan::build(const GraphPart& part) {
  const CountedBuild counted;
  const objc::AutoreleasePool pool;
  auto plan = std::make_shared<Plan>();
  plan->graph_ = std::make_unique<GraphSegment>(Compiler(part).compile());
  plan->bytes_ = kPlanBytes * part.members.size();
  return plan;
}

void Plan::encode(mps::CommandBuffer to, Device& device, const Node& node,
                  std::span<const BufferSlice> inputs, std::span<const BufferSlice> outputs,
                  const Label& label) const {
  if (graph_) return encode_graph(to, device, inputs, outputs);
  NativeCall call(device, to, node, inputs, outputs, label);
  if (fill_) return encode_fill(call);
  row_->launch(call);
}

void Plan::encode_fill(NativeCall& call) const {
  for (size_t i = 0; i < call.outputs.size(); ++i) {
    const TensorInfo& output = call.node.out(i);
    if (output.count() == 0) continue;
    const float value = static_cast<float>(*fill_);
    call.dispatch(shader_name("fill_value", output.dtype), output.count(),
                  {call.out(i), NativeCall::value(value)});
  }
}

namespace {

// Below macOS 15 MPSGraph reads buffers from their beginning only: a slice of a tensor goes through
// a scratch buffer, which the command buffer keeps alive.
BufferSlice copy_target(Block* scratch, Device& device, size_t bytes) {
  scratch->buffer = device.metal().new_buffer(bytes);
  if (!scratch->buffer)
    throw_resource_exhausted("no device memory for ", bytes, " bytes of scratch");
  return {scratch, 0};
}

}  // namespace

void Plan::encode_graph(mps::CommandBuffer to, Device& device, std::span<const BufferSlice> inputs,
                        std::span<const BufferSlice> outputs) const {
  std::vector<objc::Ref<mpsg::TensorData>> owned;
  std::vector<id> objects;
  owned.reserve(inputs.size() + outputs.size());
  objects.reserve(inputs.size() + outputs.size());
  std::list<Block> scratch;  // takes no memory while it is empty
  std::vector<std::pair<BufferSlice, BufferSlice>> copy_back;
  std::vector<size_t> copy_bytes;
  const auto collect = [&](const std::vector<GraphSegment::Binding>& bindings,
                           std::span<const BufferSlice> slices, bool is_output) {
    const size_t first = objects.size();
    for (const GraphSegment::Binding& binding : bindings) {
      BufferSlice slice = slices[binding.operand];
      if (slice.offset != 0 && !takes_offsets()) {
        const BufferSlice aligned = copy_target(&scratch.emplace_back(), device, binding.bytes);
        if (is_output) {
          copy_back.emplace_back(aligned, slice);
          copy_bytes.push_back(binding.bytes);
        } else {
          encode_copy(device, to, copy_label(), aligned, slice, binding.bytes);
          stats().encodes++;
        }
        slice = aligned;
      }
      owned.push_back(tensor_data(slice.buffer(), slice.offset, binding.shape, binding.type));
      objects.push_back(owned.back().raw());
    }
    return ns::Array::make(std::span(objects).subspan(first));
  };
  const ns::Array feeds = collect(graph_->feeds, inputs, false);
  const ns::Array targets = collect(graph_->targets, outputs, true);
  graph_->executable.encode(to, feeds, targets);
  for (size_t i = 0; i < copy_back.size(); ++i) {
    const auto& [aligned, slice] = copy_back[i];
    encode_copy(device, to, copy_label(), slice, aligned, copy_bytes[i]);
    stats().encodes++;
  }
}

// ---- cache -------------------------------------------------------------------------------------

struct PlanCache::Entry {
  std::mutex mutex;
  std::condition_variable ready;
  bool done = false;
  std::shared_ptr<const Plan> plan;
  std::exception_ptr error;
  std::list<std::string>::iterator position;
};

PlanCache& PlanCache::instance() {
  // Never destroyed: kernels may still run while the process exits.
  static PlanCache* const cache =
      new PlanCache(static_cast<size_t>(env::integer(env::kCacheBytes)));
  return *cache;
}

std::shared_ptr<const Plan> PlanCache::get(const std::string& key, const Build& build) {
  std::shared_ptr<Entry> entry;
  bool builder = false;
  {
    std::lock_guard lock(mutex_);
    auto [it, inserted] = entries_.try_emplace(key);
    if (inserted) {
      recent_.push_front(key);
      it->second = std::make_shared<Entry>();
      it->second->position = recent_.begin();
      builder = true;
    } else {
      recent_.splice(recent_.begin(), recent_, it->second->position);
    }
    entry = it->second;
  }
  if (!builder) {
    std::unique_lock lock(entry->mutex);
    entry->ready.wait(lock, [&] { return entry->done; });
    if (entry->error) std::rethrow_exception(entry->error);
    stats().hits++;
    return entry->plan;
  }
  std::shared_ptr<const Plan> plan;
  std::exception_ptr error;
  try {
    plan = build();
  } catch (...) {
    error = std::current_exception();
  }
  {
    std::lock_guard lock(mutex_);
    if (error) {  // others that wait get the error; the next request tries again
      if (auto it = entries_.find(key); it != entries_.end() && it->second == entry) {
        recent_.erase(entry->position);
        entries_.erase(it);
      }
    } else {
      bytes_ += plan->bytes() + key.size();
    }
  }
  {
    std::lock_guard lock(entry->mutex);
    entry->plan = plan;
    entry->error = error;
    entry->done = true;
  }
  entry->ready.notify_all();
  if (error) std::rethrow_exception(error);
  stats().evictions += static_cast<int64_t>(shrink(budget_));
  return plan;
}

size_t PlanCache::shrink(size_t budget) {
  std::vector<std::shared_ptr<const Plan>> dropped;  // released outside the lock
  std::lock_guard lock(mutex_);
  auto it = recent_.end();
  while (bytes_ > budget && it != recent_.begin()) {
    --it;
    const std::shared_ptr<Entry> entry = entries_.at(*it);
    std::unique_lock entry_lock(entry->mutex);
    if (!entry->done || !entry->plan) continue;  // being built
    bytes_ -= entry->plan->bytes() + it->size();
    dropped.push_back(entry->plan);
    entries_.erase(*it);
    it = recent_.erase(it);
  }
  return dropped.size();
}

size_t PlanCache::size() const {
  std::lock_guard lock(mutex_);
  return entries_.size();
}

size_t PlanCache::bytes() const {
  std::lock_guard lock(mutex_);
  return bytes_;
}

}  // namespace tfmetal
