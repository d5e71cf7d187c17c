// What a cluster runs for one set of input shapes: few executables and native launches, in order.
#pragma once

#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/cluster/program.h"

namespace tfmetal {

// One dispatch.
struct Step {
  std::shared_ptr<const Plan> plan;
  Node node;                         // as the plan sees it; empty for several ops
  std::vector<int> inputs, outputs;  // values; -1 where encode() takes a null slice
  std::vector<int> last_uses;        // temporaries that no later step reads
  size_t bytes = 0, scratch = 0;
  const Label* label = nullptr;
};

struct Schedule {
  std::vector<int64_t> signature;  // see Recent
  std::vector<TensorInfo> values;
  std::vector<Step> steps;
  // Constants that native steps read: buffers of their own.
  std::map<int, std::unique_ptr<Block>> constants;
};

// How members become steps. kOneByOne gives each a step of its own, with the plans that the ops
// have outside of clusters: nothing new is compiled for a shape that was seen there.
enum class Grouping { kLarge, kOneByOne };

// `inputs`: types and shapes; `host`: the values of the inputs in host memory. Throws what
// TensorFlow's shape functions and the rows' checks raise, naming the member.
std::shared_ptr<Schedule> make_schedule(const Program& program,
                                        const std::vector<TensorInfo>& inputs,
                                        const std::vector<std::string>& host, Device& device,
                                        Grouping grouping);

}  // namespace tfmetal
