#include "plugin/host/mps_graph/executable.h"

#include <algorithm>
#include <cstdlib>
#include <unordered_set>

#include "plugin/host/mps_graph/arena.h"
#include "plugin/host/parallel.h"

namespace host {

namespace {

// Reads of memory that nobody wrote should not look like results.
constexpr unsigned char kPoison = 0xa5;
// Scratch memory that a thread keeps for its next run, at most.
constexpr size_t kKeptArenaBytes = size_t(256) << 20;
// What a tile of a group should fit into: the second-level cache, with room for its operands.
constexpr size_t kTileBytes = 384 << 10;

// Memory of a thread, which grows.
class Scratch {
 public:
  char* get(size_t bytes) {
    if (bytes > size_) {
      size_ = ArenaPlanner::aligned(bytes);
      memory_.reset();  // no copy of what is there
      memory_.reset(static_cast<char*>(std::aligned_alloc(ArenaPlanner::kAlignment, size_)));
    }
    return memory_.get();
  }
  // Gives back what is more.
  void keep(size_t most) {
    if (size_ > most) memory_.reset(), size_ = 0;
  }

 private:
  struct Free {
    void operator()(char* p) const { std::free(p); }
  };
  std::unique_ptr<char, Free> memory_;
  size_t size_ = 0;
};

// The type of `n` of the `rows` rows of a tensor.
Type cut(const Type& type, long rows, long n) {
  Type part = type;
  long seen = 1;
  for (long& extent : part.shape) {
    seen *= extent;
    extent = 1;
    if (seen != rows) continue;
    extent = n;
    break;
  }
  return part;
}

}  // namespace

// ---- compilation -----------------------------------------------------------------------------

Executable::Executable(Graph* g, const std::vector<Tensor*>& feed_list,
                       const std::vector<Type>& types, const std::vector<Tensor*>& target_list)
    : graph(g), feeds(feed_list), targets(target_list), storage_(target_list) {
  objc_retain(graph);
  for (size_t i = 0; i < feeds.size(); ++i) {
    if (types[i].dtype == feeds[i]->type.dtype && types[i].shape == feeds[i]->type.shape) continue;
    abort_like_apple("compile: feed " + describe(types[i].shape, types[i].dtype) +
                     " for a placeholder " + describe(feeds[i]->type.shape, feeds[i]->type.dtype));
  }
  check_feeds();
  check_targets();
  const std::vector<const Node*> nodes = reachable_nodes(&run_error);
  if (!run_error.empty()) return;
  if (chaos(1)) {  // Apple may leave out feeds that no target needs (? [T47])
    std::erase_if(feeds, [&](const Tensor* feed) {
      return std::find(nodes.begin(), nodes.end(), feed->node) == nodes.end();
    });
  }
  for (Group& group : schedule(nodes, targets, storage_)) {
    groups_.emplace_back();
    groups_.back().group = std::move(group);
  }
  place_targets();
  place_intermediates();
}

Executable::~Executable() { objc_release(graph); }

void Executable::check_feeds() const {
  for (const Tensor* feed : feeds) {
    if (feed->node->kind != Kind::Placeholder) {
      abort_like_apple("compile: Input feed tensor not found in placeholders");
    }
  }
}

// A target that only rearranges a feed may encode nothing on a Mac (U). The host refuses it, so
// that nobody relies on it: end such a target with identityWithTensor.
void Executable::check_targets() const {
  if (targets.empty()) abort_like_apple("compile: neither target tensors nor operations");
  for (const Tensor* target : targets) {
    const Node* node = target->node;
    while (node->is_view) node = node->inputs[0]->node;
    if (target->ranked && node->kind == Kind::Placeholder) {
      abort_like_apple("compile: target '" + target->node->name +
                       "' is only a view of a feed; append identityWithTensor");
    }
  }
}

std::vector<const Node*> Executable::reachable_nodes(std::string* run_error) const {
  std::unordered_set<const Node*> seen;
  std::vector<const Node*> stack, found;
  const auto visit = [&](const Tensor* tensor) {
    if (seen.insert(tensor->node).second) stack.push_back(tensor->node);
  };
  for (const Tensor* target : targets) visit(target);
  while (!stack.empty()) {
    const Node* node = stack.back();
    stack.pop_back();
    found.push_back(node);
    for (const Tensor* input : node->inputs) visit(input);
  }
  std::sort(found.begin(), found.end(),
            [](const Node* a, const Node* b) { return a->order < b->order; });
  for (const Node* node : found) {
    if (!node->compile_error.empty()) abort_like_apple(node->compile_error);
    for (const Tensor* output : node->outputs) {
      for (long extent : output->type.shape) {
        if (extent < 0) *run_error = "Error: NDArray dimension length > INT_MAX";
        if (extent == 0) {
          *run_error = node->name + ": " + describe(output->type.shape, output->type.dtype) +
                       " has no elements. Error: device may not be nil / object cannot be nil "
                       "(NSInvalidArgumentException)";
        }
      }
    }
    if (node->kind == Kind::Placeholder &&
        std::find(feeds.begin(), feeds.end(), node->outputs[0]) == feeds.end()) {
      abort_like_apple("compile: a placeholder that the targets need is not fed");
    }
  }
  return found;
}

// Targets are computed in place; one that shares memory with a feed, a constant or an earlier
// target is copied at the end.
void Executable::place_targets() {
  for (size_t i = 0; i < feeds.size(); ++i) places_[feeds[i]] = {Place::Where::Feed, i};
  for (size_t i = 0; i < targets.size(); ++i) {
    if (!targets[i]->ranked) continue;
    const Tensor* root = storage_.root(targets[i]);
    const bool computed = root->node->kind == Kind::Compute;
    if (computed && places_.try_emplace(root, Place{Place::Where::Target, i}).second) continue;
    target_copies_.emplace_back(root, i);
  }
}

Executable::Place Executable::place_constant(const Tensor* tensor) {
  const std::vector<char>& bytes = tensor->node->constant;
  std::vector<char> all(tensor->type.bytes());
  for (size_t at = 0; at < all.size(); at += bytes.size()) {
    std::memcpy(&all[at], bytes.data(), bytes.size());
  }
  constants_.push_back(std::move(all));
  return {Place::Where::Constant, constants_.size() - 1};
}

Executable::Place Executable::place_of(const Tensor* tensor) {
  const Tensor* root = storage_.root(tensor);
  const auto found = places_.find(root);
  if (found != places_.end()) return found->second;
  return places_[root] = place_constant(root);
}

void Executable::place_intermediates() {
  std::unordered_map<const Tensor*, size_t> last_use;
  for (size_t i = 0; i < groups_.size(); ++i) {
    for (const Step& step : groups_[i].group.steps) {
      for (const Tensor* input : step.inputs) last_use[storage_.root(input)] = i;
    }
  }
  for (const auto& [value, target] : target_copies_) last_use[value] = groups_.size();
  ArenaPlanner planner;
  std::vector<std::vector<size_t>> released(groups_.size() + 1);
  for (size_t i = 0; i < groups_.size(); ++i) {
    const Group& group = groups_[i].group;
    place_locals(groups_[i]);
    for (const Step& step : group.steps) {
      for (const Tensor* output : step.outputs) {
        auto [it, added] = places_.try_emplace(output, Place{Place::Where::Arena, 0});
        if (!added) continue;
        it->second.index = planner.take(output->type.bytes());
        const auto use = last_use.find(output);
        released[use == last_use.end() ? i : use->second].push_back(it->second.index);
      }
    }
    for (const Step& step : group.steps)
      groups_[i].operands.push_back(operands_of(step, group.rows));
    if (group.rows > 1) cut_operands(groups_[i]);
    for (size_t at : released[i]) planner.give_back(at);
  }
  for (const auto& [value, target] : target_copies_) copy_places_.push_back(place_of(value));
  arena_bytes_ = planner.total();
}

// How many rows a tile has, and where the values that only the group sees lie in its scratch
// memory.
void Executable::place_locals(PlannedGroup& planned) {
  const Group& group = planned.group;
  if (group.rows == 1) return;
  size_t row_bytes = 0;
  for (const Step& step : group.steps) {
    for (const auto* side : {&step.inputs, &step.outputs}) {
      for (const Tensor* tensor : *side) row_bytes += tensor->type.bytes() / size_t(group.rows);
    }
  }
  constexpr long kTilesPerThread = 4;
  const long threads = long(parallelism()) * kTilesPerThread;
  const long balanced = (group.rows + threads - 1) / threads;
  planned.tile_rows =
      std::clamp(long(kTileBytes / std::max<size_t>(row_bytes, 1)), 1l, std::max(balanced, 1l));
  std::unordered_map<const Tensor*, size_t> last_use;
  for (size_t i = 0; i < group.steps.size(); ++i) {
    for (const Tensor* input : group.steps[i].inputs) last_use[storage_.root(input)] = i;
  }
  const std::unordered_set<const Tensor*> locals(group.locals.begin(), group.locals.end());
  ArenaPlanner planner;
  std::vector<std::vector<size_t>> released(group.steps.size());
  for (size_t i = 0; i < group.steps.size(); ++i) {
    for (const Tensor* output : group.steps[i].outputs) {
      if (!locals.count(output)) continue;
      const size_t bytes = output->type.bytes() / size_t(group.rows) * size_t(planned.tile_rows);
      const size_t at = planner.take(bytes);
      places_[output] = {Place::Where::Tile, at};
      const auto use = last_use.find(output);
      released[use == last_use.end() ? i : use->second].push_back(at);
    }
    for (size_t at : released[i]) planner.give_back(at);
  }
  planned.scratch_bytes = planner.total();
}

Executable::Operands Executable::operands_of(const Step& step, long rows) {
  Operands operands;
  const auto row_bytes = [&](const Tensor* tensor) { return long(tensor->type.bytes()) / rows; };
  for (const Tensor* input : step.inputs) {
    const Place place = place_of(input);
    // A chain finds the elements of a row by itself, but for those in scratch memory.
    const bool is_cut = step.node || place.where == Place::Where::Tile;
    operands.inputs.push_back({place, is_cut ? row_bytes(input) : 0, &input->type, {}});
  }
  for (const Tensor* output : step.outputs) {
    operands.outputs.push_back({place_of(output), row_bytes(output), &output->type, {}});
  }
  return operands;
}

void Executable::cut_operands(PlannedGroup& planned) {
  const long rows = planned.group.rows, rest = rows % planned.tile_rows;
  for (Operands& operands : planned.operands) {
    for (auto* side : {&operands.inputs, &operands.outputs}) {
      for (Operand& operand : *side) {
        operand.cut[0] = cut(*operand.type, rows, planned.tile_rows);
        operand.cut[1] = cut(*operand.type, rows, rest);
      }
    }
  }
}

// ---- execution -------------------------------------------------------------------------------

struct Executable::Memory {
  const Executable* executable;
  std::span<char* const> feeds;
  std::span<char* const> targets;
  char* arena;
  char* tile = nullptr;  // scratch memory

  char* operator[](const Place& place) const {
    switch (place.where) {
      case Place::Where::Feed:
        return feeds[place.index];
      case Place::Where::Target:
        return targets[place.index];
      case Place::Where::Arena:
        return arena + place.index;
      case Place::Where::Tile:
        return tile + place.index;
      case Place::Where::Constant:
        break;
    }
    return const_cast<char*>(executable->constants_[place.index].data());
  }
};

void Executable::run_step(const Step& step, const Operands& operands, const Memory& memory) {
  if (step.chain) {
    thread_local std::vector<const char*> inputs;  // keep their capacity
    thread_local std::vector<char*> outputs;
    inputs.clear();
    outputs.clear();
    for (const Operand& operand : operands.inputs) inputs.push_back(memory[operand.place]);
    for (const Operand& operand : operands.outputs) outputs.push_back(memory[operand.place]);
    step.chain->run(inputs, outputs);
    return;
  }
  std::vector<View> inputs, outputs;
  for (const Operand& o : operands.inputs) inputs.push_back({memory[o.place], o.type});
  for (const Operand& o : operands.outputs) outputs.push_back({memory[o.place], o.type});
  step.node->eval(inputs, outputs);
}

// Rows [begin, end) of all steps. Scratch memory holds these rows only.
void Executable::run_tile(const PlannedGroup& planned, const Memory& memory, long begin, long end) {
  const size_t which = end - begin == planned.tile_rows ? 0 : 1;
  const auto first_row = [&](const Operand& operand) {
    const bool local = operand.place.where == Place::Where::Tile;
    return memory[operand.place] + (local ? 0 : begin * operand.row_bytes);
  };
  for (size_t i = 0; i < planned.group.steps.size(); ++i) {
    const Step& step = planned.group.steps[i];
    const Operands& operands = planned.operands[i];
    if (step.node) {
      std::vector<View> inputs, outputs;
      for (const Operand& o : operands.inputs) inputs.push_back({first_row(o), &o.cut[which]});
      for (const Operand& o : operands.outputs) outputs.push_back({first_row(o), &o.cut[which]});
      step.node->eval(inputs, outputs);
      continue;
    }
    // Chains count elements from the beginning of the whole.
    std::vector<const char*> inputs;
    std::vector<char*> outputs;
    for (const Operand& o : operands.inputs) inputs.push_back(first_row(o) - begin * o.row_bytes);
    for (const Operand& o : operands.outputs) outputs.push_back(first_row(o) - begin * o.row_bytes);
    const long row = step.chain->count() / planned.group.rows;
    step.chain->run_part(inputs, outputs, begin * row, end * row);
  }
}

void Executable::run_group(const PlannedGroup& planned, const Memory& memory) const {
  const Group& group = planned.group;
  if (group.rows == 1) {
    for (size_t i = 0; i < group.steps.size(); ++i) {
      run_step(group.steps[i], planned.operands[i], memory);
    }
    return;
  }
  const long tiles = (group.rows + planned.tile_rows - 1) / planned.tile_rows;
  long elements = 0;  // of a tile
  for (const Step& step : group.steps) {
    for (const Tensor* output : step.outputs) elements += output->type.count() / tiles;
  }
  parallel(tiles, std::max(1l, kGrain / std::max(elements, 1l)), [&](long begin, long end) {
    thread_local Scratch scratch;
    Memory own = memory;
    own.tile = scratch.get(planned.scratch_bytes);
    for (long tile = begin; tile < end; ++tile) {
      const long row = tile * planned.tile_rows;
      run_tile(planned, own, row, std::min(row + planned.tile_rows, group.rows));
    }
  });
}

void Executable::run(std::span<char* const> feed_data, std::span<char* const> target_data) const {
  thread_local Scratch arena;
  char* base = arena.get(arena_bytes_);
  if (chaos(1) && arena_bytes_ > 0) std::memset(base, kPoison, arena_bytes_);
  const Memory memory{this, feed_data, target_data, base};
  for (const PlannedGroup& group : groups_) run_group(group, memory);
  for (size_t i = 0; i < copy_places_.size(); ++i) {
    const auto& [value, target] = target_copies_[i];
    std::memcpy(target_data[target], memory[copy_places_[i]], value->type.bytes());
  }
  arena.keep(kKeptArenaBytes);
}

// ---- methods ---------------------------------------------------------------------------------

HOST_CLASS(MPSGraphCompilationDescriptor, MPSGraphObject);
HOST_CLASS(MPSGraphExecutable, MPSGraphObject);

HOST_INIT(MPSGraphCompilationDescriptor, "init",
          []() -> id { return make<CompilationDescriptor>(); });
HOST_METHOD(MPSGraphCompilationDescriptor,
            "setOptimizationLevel:", [](CompilationDescriptor* self, uint64_t level) -> void {
              self->optimization_level = level;
            });
HOST_METHOD(MPSGraphCompilationDescriptor, "setWaitForCompilationCompletion:",
            [](CompilationDescriptor* self, bool on) -> void { self->wait_for_completion = on; });

// `feeds` maps placeholders to shaped types; the order of feedTensors is not promised (D), so chaos
// mode reverses it.
static id compile(Graph* self, id device, id feeds, id targets, id operations, id descriptor) {
  auto* map = as<Dictionary>(feeds, "compile: feeds");
  auto* target_array = as<Array>(targets, "compile: targetTensors");
  const auto* how = as<CompilationDescriptor>(descriptor, "compilationDescriptor");
  // Level 1, Apple's default, may place work on other engines, whose float16 is another (D M).
  if (!how || how->optimization_level != 0) {
    abort_like_apple("compile: the host computes as a GPU does; set optimization level 0");
  }
  std::vector<Tensor*> feed_list, target_list;
  std::vector<Type> types;
  const auto own = [&](id item) {
    auto* tensor = as<Tensor>(item, "compile: tensor");
    for (const auto& node : self->nodes) {
      if (tensor && node.get() == tensor->node) return tensor;
    }
    abort_like_apple("compile: the tensor belongs to another graph");
  };
  for (const auto& [key, value] : map ? map->items : decltype(map->items)()) {
    auto* shaped = as<ShapedType>(value, "compile: feed");
    if (!shaped || !shaped->ranked) abort_like_apple("compile: a feed has no shape");
    feed_list.push_back(own(key));
    types.push_back(shaped->type);
  }
  for (id item : target_array ? target_array->items : std::vector<id>()) {
    target_list.push_back(own(item));
  }
  if (chaos(1)) {
    std::reverse(feed_list.begin(), feed_list.end());
    std::reverse(types.begin(), types.end());
  }
  return make_autoreleased<Executable>(self, feed_list, types, target_list);
}
HOST_METHOD(MPSGraph,
            "compileWithDevice:feeds:targetTensors:targetOperations:compilationDescriptor:",
            compile);

static id array_of(const std::vector<id>& items) {
  return make_autoreleased<Array>(items.data(), items.size());
}
HOST_METHOD(MPSGraphExecutable, "feedTensors", [](Executable* self) -> id {
  return array_of({self->feeds.begin(), self->feeds.end()});
});
HOST_METHOD(MPSGraphExecutable, "targetTensors", [](Executable* self) -> id {
  return array_of({self->targets.begin(), self->targets.end()});
});

// The tensor data of one side, checked against the compiled types.
static void bind_data(const char* side, id array, const std::vector<Tensor*>& tensors,
                      std::vector<TensorData*>* bound) {
  auto* list = as<Array>(array, side);
  const size_t count = list ? list->items.size() : 0;
  if (count != tensors.size()) {
    abort_like_apple(std::string(side) + ": " + std::to_string(count) + " tensor data for " +
                     std::to_string(tensors.size()) + " tensors");
  }
  for (size_t i = 0; i < count; ++i) {
    auto* data = as<TensorData>(list->items[i], side);
    const Type& type = tensors[i]->type;
    if (!data) abort_like_apple(std::string(side) + ": tensor data is nil");
    if (tensors[i]->ranked && (data->type.dtype != type.dtype || data->type.shape != type.shape)) {
      abort_like_apple(std::string(side) + "[" + std::to_string(i) + "]: expected element type " +
                       describe(type.shape, type.dtype) + " but received " +
                       describe(data->type.shape, data->type.dtype));
    }
    bound->push_back(data);
  }
}

// Apple promises nothing when a result shares memory with a feed (? [T49]): the host refuses.
static void refuse_overlap(std::span<TensorData* const> feeds,
                           std::span<TensorData* const> results) {
  const auto overlap = [](const TensorData* a, const TensorData* b) {
    return a->data() < b->data() + b->type.bytes() && b->data() < a->data() + a->type.bytes();
  };
  for (size_t i = 0; i < results.size(); ++i) {
    for (const TensorData* feed : feeds) {
      if (overlap(results[i], feed)) {
        abort_like_apple("encode: a result buffer overlaps a feed buffer");
      }
    }
    for (size_t j = 0; j < i; ++j) {
      if (overlap(results[i], results[j])) abort_like_apple("encode: two results overlap");
    }
  }
}

// New buffers for the results that the caller left to MPSGraph.
static id allocate_results(const std::vector<Tensor*>& targets) {
  std::vector<id> items;
  for (const Tensor* target : targets) {
    Buffer* buffer = make<Buffer>(target->type.bytes());
    items.push_back(make_autoreleased<TensorData>(buffer, size_t(0), target->type));
    objc_release(buffer);
  }
  return array_of(items);
}

// Does not commit the last part; may commit and replace the root command buffer before. D
static id encode(Executable* self, id command_buffer, id inputs, id results, id descriptor) {
  auto* to = as<MpsCommandBuffer>(command_buffer, "encodeToCommandBuffer");
  if (!to) abort_like_apple("encodeToCommandBuffer: nil");
  if (!self->run_error.empty()) abort_like_apple(self->run_error);
  if (!results) results = allocate_results(self->targets);
  // Kept by the thread: what the worker thread does not see needs no memory of its own.
  thread_local std::vector<TensorData*> bound;
  thread_local std::vector<id> resources;
  bound.clear();
  resources.assign(1, self);
  bind_data("inputsArray", inputs, self->feeds, &bound);
  const size_t feeds = bound.size();
  bind_data("resultsArray", results, self->targets, &bound);
  const std::span<TensorData* const> all(bound);
  refuse_overlap(all.first(feeds), all.subspan(feeds));
  std::vector<char*> memory;
  memory.reserve(bound.size());
  for (TensorData* data : bound) {
    memory.push_back(data->data());
    resources.push_back(data->buffer);
  }
  to->maybe_commit_and_continue();
  to->root->append({self->label,
                    [self, feeds, memory = std::move(memory)] {
                      const std::span<char* const> places(memory);
                      self->run(places.first(feeds), places.subspan(feeds));
                    }},
                   resources);
  return results;
}
HOST_METHOD(MPSGraphExecutable,
            "encodeToCommandBuffer:inputsArray:resultsArray:executionDescriptor:", encode);

}  // namespace host
