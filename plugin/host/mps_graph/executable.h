// A compiled graph: the steps that its targets need, in order, and where every value lives.
#pragma once

#include "plugin/host/mps_graph/schedule.h"
#include "plugin/host/mps_graph/tensor_data.h"

namespace host {

struct CompilationDescriptor : Object {
  static constexpr const char* kClass = "MPSGraphCompilationDescriptor";
  uint64_t optimization_level = 1;  // Apple's default; Level0 keeps work on the GPU
  bool wait_for_completion = false;
};

struct Executable : Object {
  static constexpr const char* kClass = "MPSGraphExecutable";
  // Feeds: placeholders with the types they are compiled for. Aborts like Apple's compiler.
  Executable(Graph* graph, const std::vector<Tensor*>& feeds, const std::vector<Type>& types,
             const std::vector<Tensor*>& targets);
  ~Executable() override;

  // One pointer per feed and target, in the order of `feeds` and `targets`.
  void run(std::span<char* const> feed_data, std::span<char* const> target_data) const;

  Graph* graph;  // retained: it owns the tensors
  std::vector<Tensor*> feeds, targets;
  std::string label;
  std::string run_error;  // Apple compiles this graph, and aborts when it runs

 private:
  // Where a value is kept: number of the feed, target or constant, or byte offset in the arena or
  // in the scratch memory of a tile.
  struct Place {
    enum class Where { Feed, Target, Arena, Tile, Constant } where = Where::Arena;
    size_t index = 0;
  };
  struct Operand {
    Place place;
    long row_bytes;  // 0: not cut into rows
    const Type* type;
    Type cut[2];  // a tile of it, and the last one
  };
  struct Operands {
    std::vector<Operand> inputs, outputs;
  };
  struct PlannedGroup {
    Group group;
    std::vector<Operands> operands;  // of the steps
    long tile_rows = 1;
    size_t scratch_bytes = 0;  // of a tile
  };
  struct Memory;
  void check_feeds() const;
  void check_targets() const;
  std::vector<const Node*> reachable_nodes(std::string* run_error) const;
  void place_targets();
  void place_intermediates();
  void place_locals(PlannedGroup& planned);
  Operands operands_of(const Step& step, long rows);
  static void cut_operands(PlannedGroup& planned);
  Place place_of(const Tensor* tensor);
  Place place_constant(const Tensor* tensor);
  void run_group(const PlannedGroup& planned, const Memory& memory) const;
  static void run_step(const Step& step, const Operands& operands, const Memory& memory);
  static void run_tile(const PlannedGroup& planned, const Memory& memory, long begin, long end);

  const Storage storage_;
  std::vector<PlannedGroup> groups_;
  std::unordered_map<const Tensor*, Place> places_;  // of storage roots
  std::vector<std::vector<char>> constants_;
  std::vector<std::pair<const Tensor*, size_t>> target_copies_;  // value, target number
  std::vector<Place> copy_places_;
  size_t arena_bytes_ = 0;
};

}  // namespace host
