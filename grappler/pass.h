// What a graph pass is, and what it may ask about the graph around it.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "grappler/graphdef/graph_view.h"

struct TF_GrapplerItem;
struct TF_GraphProperties;

namespace tfmetal {

// "GPU" of "/job:localhost/replica:0/task:0/device:GPU:0"; empty when there is none.
std::string_view device_type_of(std::string_view device);

// Type and shape of an output, as TensorFlow inferred them before the passes. Shapes hold for runs
// that succeed: that two are added to a variable may be all that is known of both.
struct OutputInfo {
  TF_DataType dtype;
  PartialShape shape;
};

// What a setting (TF_METAL_GRAPPLER) leaves on: words separated by commas, the later ones prevail:
// "all", "none", a pass, a part of one ("remapper/gelu"), or "-" and one of these. A setting that
// begins with a "-" starts from all.
class Switches {
 public:
  Switches() : Switches("all") {}
  explicit Switches(std::string_view setting);

  // A pass is also on when a part of it is.
  bool pass(std::string_view name) const;
  bool part(std::string_view pass, std::string_view name) const;
  // The words, without their "-".
  std::vector<std::string> names() const;

 private:
  struct Word {
    std::string name;
    bool on;
  };
  std::vector<Word> words_;
};

class Context {
 public:
  // `item` may be null: nothing is preserved then and no shape is known.
  Context(const TF_GrapplerItem* item, std::string device_type, Switches switches = {});

  const Switches& switches() const { return switches_; }

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
  const Switches switches_;
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
  std::vector<std::string> (*parts)() = nullptr;  // that can be switched one by one
};

// All passes, in the order in which they run.
const std::vector<Pass>& passes();

}  // namespace tfmetal
