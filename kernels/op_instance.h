// An op with its attributes, before any shapes: what a kernel and a member of a cluster share.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "kernels/op_table.h"
#include "kernels/plan.h"

namespace tfmetal {

// What a launch needs, worked out once per set of shapes and host values.
struct PlannedLaunch {
  Node node;                         // as TensorFlow sees it
  Node planned;                      // as the plan sees it: collapsed shapes for elementwise ops
  std::shared_ptr<const Plan> plan;  // null when no output has elements
  size_t bytes = 0;                  // of all operands
  size_t scratch = 0;                // bytes of device memory during the launch
};

class OpInstance {
 public:
  // By find_row, or a row of the caller's choice. Throws Internal when there is none.
  explicit OpInstance(std::shared_ptr<const NodeDef> def) : OpInstance(def, find_row(*def)) {}
  OpInstance(std::shared_ptr<const NodeDef> def, const OpRow* row);

  const OpRow& row() const { return *row_; }
  const std::shared_ptr<const NodeDef>& def() const { return def_; }
  size_t num_inputs() const { return is_host_.size(); }
  bool is_host(size_t input) const { return is_host_[input]; }
  const std::vector<bool>& are_host() const { return is_host_; }

  // Fills node->outputs. Throws what TensorFlow's shape function or the row's check raises.
  void infer(Node* node) const;
  // Finds or builds the plan of an inferred node.
  PlannedLaunch plan(Node node, const Device& device) const;
  // Appends what the plan depends on besides device and shapes of device inputs: op, attributes
  // and, preceded by their lengths, the values of `key` host inputs.
  void append_key(const Node& node, std::string* key) const;

 private:
  const OpRow* row_;
  std::shared_ptr<const NodeDef> def_;
  const std::string* attributes_ = nullptr;  // interned canonical bytes; null for `run` rows
  std::vector<bool> is_host_, is_key_;
};

// A label of that text. It outlives its users, command buffers in flight among them.
const Label* interned_label(const std::string& text);

// For keys: fields of fixed width, so that different keys cannot spell the same bytes.
void append_number(std::string* key, int64_t number);
void append_shape(std::string* key, const Shape& shape);
void append_text(std::string* key, const std::string& text);  // preceded by its length

bool all_empty(const std::vector<TensorInfo>& tensors);

}  // namespace tfmetal
