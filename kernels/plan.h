// A compiled plan: what one dispatch needs, an MPSGraph executable or a native launch. An op is one
// plan, a cluster a schedule of several (kernels/cluster/schedule.h). Plans are immutable and
// shared.
#pragma once

#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "kernels/op_table.h"
#include "plugin/device/stream.h"
#include "plugin/metal/mps_graph.h"

namespace tfmetal {

// Ops that become one executable. The caller numbers the values between them.
struct GraphPart {
  struct Member {
    const OpRow* row;
    const Node* node;
    std::vector<int> inputs, outputs;  // values; inputs of -1 are null to the lowering
  };
  struct Port {
    int value;
    size_t operand;  // where encode() finds it
    TensorInfo info;
  };
  struct Constant {
    TensorInfo info;
    std::string bytes;
  };
  std::vector<Member> members;        // each behind those that it reads
  std::vector<Port> feeds, targets;   // no complex types unless there is one member
  std::map<int, Constant> constants;  // values known now
};

// An MPSGraph executable and how its feeds and targets map to operands.
struct GraphSegment {
  struct Binding {
    size_t operand;
    mps::DataType type;
    objc::Ref<ns::Array> shape;  // as the graph declares it; same element count as the operand
    size_t bytes;
  };
  objc::Ref<mpsg::Executable> executable;
  std::vector<Binding> feeds, targets;  // in the executable's order
};

class Plan {
 public:
  // Builds the plan for `node`: calls the row's lowering and compiles. Throws Error.
  static std::shared_ptr<const Plan> build(const OpRow& row, const Node& node);
  // Builds the plan for several ops in one executable.
  static std::shared_ptr<const Plan> build(const GraphPart& part);

  // Encodes into `to`. Slices of operands without elements and of host inputs are null. `node` may
  // differ from the one built with in the values of kArg inputs; it is not looked at for several
  // ops.
  void encode(mps::CommandBuffer to, Device& device, const Node& node,
              std::span<const BufferSlice> inputs, std::span<const BufferSlice> outputs,
              const Label& label) const;

  size_t bytes() const { return bytes_; }  // estimate, for the cache's budget

 private:
  void encode_graph(mps::CommandBuffer to, Device& device, std::span<const BufferSlice> inputs,
                    std::span<const BufferSlice> outputs) const;
  void encode_fill(NativeCall& call) const;

  const OpRow* row_ = nullptr;
  std::unique_ptr<GraphSegment> graph_;  // null for native ops and fills
  std::optional<double> fill_;           // the answer is this constant
  size_t bytes_ = 0;
};

// Plans by key: bounded in bytes (TF_METAL_CACHE_BYTES), least recently used first out. One build
// is in flight per key; others wait for it.
class PlanCache {
 public:
  explicit PlanCache(size_t budget) : budget_(budget) {}
  using Build = std::function<std::shared_ptr<const Plan>()>;
  std::shared_ptr<const Plan> get(const std::string& key, const Build& build);
  size_t size() const;
  size_t bytes() const;
  size_t clear() { return shrink(0); }  // how many were dropped

  static PlanCache& instance();

 private:
  struct Entry;
  size_t shrink(size_t budget);  // in bytes; returns how many were dropped

  const size_t budget_;
  mutable std::mutex mutex_;
  std::list<std::string> recent_;  // front: most recently used
  std::unordered_map<std::string, std::shared_ptr<Entry>> entries_;
  size_t bytes_ = 0;
};

}  // namespace tfmetal
