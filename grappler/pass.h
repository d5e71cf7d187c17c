// What a graph pass is, and what it may ask about the graph around it.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>

#include "grappler/graphdef/graph_view.h"

struct TF_GrapplerItem;
struct TF_GraphProperties;

namespace tfmetal {

// "GPU" of "/job:localhost/replica:0/task:0/device:GPU:0"; empty when there is none.
std::string_view device_type_of(std::string_view device);

// Type and shape of an output, as TensorFlow inferred them before the passes.
struct OutputInfo {
  TF_DataType dtype;
  PartialShape shape;
};

class Context {
 public:
  // `item` may be null: nothing is preserved then and no shape is known.
  Context(const TF_GrapplerItem* item, std::string device_type);

  bool on_device(const GraphNode& node) const {
    return device_type_of(node.device()) == device_type_;
  }
  // Feeds, fetches and what else must keep its name and meaning.
  bool preserved(const GraphNode& node) const { return preserved_.contains(node.name()); }
  // Nothing for an unknown node or port. The first call infers all shapes (milliseconds).
  std::optional<OutputInfo> output_info(const GraphNode& node, int port);

 private:
  void infer();

  const TF_GrapplerItem* item_;
  const std::string device_type_;
  std::unordered_set<std::string> preserved_;
  struct DeleteProperties {
    void operator()(TF_GraphProperties* properties) const;
  };
  std::unique_ptr<TF_GraphProperties, DeleteProperties> properties_;
  bool inferred_ = false;
  std::map<std::string, std::vector<OutputInfo>> outputs_;
};

// Rewrites the graph and returns the number of changes; 0 means that nothing was touched. May
// throw: what it did is then undone. Must find nothing left to do when run on its own result.
struct Pass {
  const char* name;  // in TF_METAL_GRAPPLER and in dumps
  int (*run)(GraphView&, Context&);
};

// All passes, in the order in which they run.
const std::vector<Pass>& passes();

}  // namespace tfmetal
