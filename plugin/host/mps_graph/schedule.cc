#include "plugin/host/mps_graph/schedule.h"

#include <algorithm>
#include <functional>
#include <set>
#include <unordered_map>

namespace host {
namespace {

constexpr size_t kMaxChainLength = 64, kMaxGroupLength = 96;  // nodes
constexpr long kLeastRows = 8;                                // of a group of several steps
constexpr size_t kLookAhead = 128;  // nodes: what runs early keeps memory for long
constexpr long kSmall = 16;         // times smaller: a value that is cheap to compute again
constexpr int kMostRecomputed = 8;  // nodes that stand behind such a value

// Numbers of rows into which a tensor falls along its first axes.
std::vector<long> row_counts(const Shape& shape, size_t axes) {
  std::vector<long> counts;
  long rows = 1;
  for (size_t i = 0; i < std::min(axes, shape.size()); ++i) counts.push_back(rows *= shape[i]);
  return counts;
}
// The same for axes that two tensors have in common.
std::vector<long> common_rows(const Shape& a, const Shape& b) {
  size_t axes = 0;
  if (a.size() == b.size()) {
    while (axes < a.size() && a[axes] == b[axes]) ++axes;
  }
  return row_counts(a, axes);
}
std::vector<long> both(const std::vector<long>& a, const std::vector<long>& b) {
  std::vector<long> result;
  for (long x : a) {
    if (std::find(b.begin(), b.end(), x) != b.end()) result.push_back(x);
  }
  return result;
}
long most(const std::vector<long>& counts) {
  return counts.empty() ? 0 : *std::max_element(counts.begin(), counts.end());
}

using Readers = std::unordered_map<const Tensor*, std::vector<const Node*>>;

// Nodes that get no place of their own: the chains that read them compute them anew, or, of a
// broadcast, read its operand.
class Folded {
 public:
  Folded(const std::vector<const Node*>& nodes, const std::vector<Tensor*>& targets,
         const Storage& storage) {
    std::unordered_map<const Tensor*, std::vector<const Node*>> readers;  // of the tensor itself
    std::unordered_set<const Tensor*> elsewhere;  // read through an alias, or by the caller
    for (const Tensor* target : targets)
      elsewhere.insert(storage.root(target)), elsewhere.insert(target);
    for (const Node* node : nodes) {
      for (const Tensor* input : node->inputs) {
        readers[input].push_back(node);
        if (storage.shares(node)) elsewhere.insert(storage.root(input)), elsewhere.insert(input);
      }
    }
    for (const Node* node : nodes) {
      if (node->kind != Kind::Compute || storage.shares(node) || node->outputs.size() != 1)
        continue;
      const Tensor* result = node->outputs[0];
      const auto& list = readers[result];
      if (list.empty() || elsewhere.count(result)) continue;
      if (node->is_broadcast ? reads_broadcast(list) : recomputed(node, list)) add(node);
    }
  }
  bool contains(const Node* node) const { return cost_.count(node); }

 private:
  static bool reads_broadcast(const std::vector<const Node*>& readers) {
    return std::all_of(readers.begin(), readers.end(),
                       [](const Node* reader) { return reader->elementwise && !reader->is_copy; });
  }
  bool recomputed(const Node* node, const std::vector<const Node*>& readers) const {
    if (!node->elementwise || node->is_copy) return false;
    const Type& type = node->outputs[0]->type;
    int cost = 1;
    for (const Tensor* input : node->inputs) {
      const auto folded = cost_.find(input->node);
      if (folded != cost_.end() && !input->node->is_broadcast) {
        cost += folded->second;
      } else if (folded != cost_.end()) {
        if (input->node->inputs[0]->type.count() * kSmall > type.count()) return false;
      } else if (input->type.count() * kSmall > type.count()) {
        return false;
      }
    }
    return cost <= kMostRecomputed &&
           std::all_of(readers.begin(), readers.end(), [&](const Node* reader) {
             return reader->elementwise && !reader->is_copy &&
                    reader->outputs[0]->type.shape == type.shape;
           });
  }
  void add(const Node* node) {
    int cost = 1;
    for (const Tensor* input : node->inputs) {
      const auto found = cost_.find(input->node);
      if (found != cost_.end()) cost += found->second;
    }
    cost_[node] = cost;
  }

  std::unordered_map<const Node*, int> cost_;
};

class Scheduler {
 public:
  Scheduler(const std::vector<const Node*>& nodes, const std::vector<Tensor*>& targets,
            const Storage& storage)
      : storage_(storage), folded_(nodes, targets, storage) {
    for (const Tensor* target : targets) wanted_.insert(storage.root(target));
    for (const Node* node : nodes) {
      if (node->kind == Kind::Compute && !storage.shares(node) && !folded_.contains(node)) {
        add(node);
      }
    }
  }

  std::vector<Group> run() {
    while (!ready_.empty()) {
      const Node* node = next();
      if (!node) {
        flush();
        node = *ready_.begin();
        open(node);
      }
      take(node);
    }
    flush();
    return std::move(groups_);
  }

 private:
  struct Earlier {
    bool operator()(const Node* a, const Node* b) const { return a->order < b->order; }
  };
  struct Info {
    std::vector<const Tensor*> inputs;  // what is read from memory, as it is read
    std::vector<const Node*> readers;
    size_t waits_for = 0;  // operands that are not there yet
  };

  void inputs_of(const Node* node, std::vector<const Tensor*>* inputs) const {
    for (const Tensor* input : node->inputs) {
      if (folded_.contains(input->node)) {
        inputs_of(input->node, inputs);
      } else {
        inputs->push_back(input);
      }
    }
  }

  void add(const Node* node) {
    Info& info = info_[node];
    inputs_of(node, &info.inputs);
    for (const Tensor* input : info.inputs) {
      const Tensor* root = storage_.root(input);
      readers_[root].push_back(node);
      const auto source = info_.find(root->node);
      if (source == info_.end()) continue;
      ++info.waits_for;
      source->second.readers.push_back(node);
    }
    if (info.waits_for == 0) ready_.insert(node);
  }

  // ---- the group that is being made ----------------------------------------------------------

  struct Part {
    bool is_chain;
    std::vector<const Node*> nodes;
    Shape shape;
  };

  void open(const Node* node) {
    rows_ = rows_of(node);
    parts_.push_back(part(node));
  }
  static Part part(const Node* node) {
    return {node->elementwise.has_value(), {}, node->outputs[0]->type.shape};
  }
  static std::vector<long> rows_of(const Node* node) {
    const Shape& shape = node->outputs[0]->type.shape;
    return row_counts(shape, node->elementwise ? shape.size() : node->independent_axes);
  }

  // The first ready node that joins the group: its last chain, else as a new step. Null: none.
  const Node* next() {
    if (parts_.empty() || members_.size() >= kMaxGroupLength) return nullptr;
    const Node* found = nullptr;
    std::vector<long> rows;
    const size_t end = (*ready_.begin())->order + kLookAhead;
    for (const Node* node : ready_) {
      if (node->order > end) break;
      if (!is_related(node)) continue;
      if (joins_chain(node)) return node;
      if (found) continue;
      rows = joint_rows(node);
      if (most(rows) >= kLeastRows) found = node;
    }
    if (!found) return nullptr;
    rows_ = joint_rows(found);
    parts_.push_back(part(found));
    return found;
  }

  // It reads what the group writes or most of what it reads, or is too small to fill the cache.
  bool is_related(const Node* node) const {
    const long bytes = long(node->outputs[0]->type.bytes());
    if (bytes < (1 << 14)) return true;
    const auto& inputs = info_.at(node).inputs;
    return std::any_of(inputs.begin(), inputs.end(), [&](const Tensor* input) {
      const Tensor* root = storage_.root(input);
      return members_.count(root->node) ||
             (known_.count(root) && long(input->type.bytes()) * 4 >= bytes);
    });
  }

  // An operand that the last chain computes must be used as it is: of a rearranged one other
  // elements would be needed.
  bool joins_chain(const Node* node) {
    Part& last = parts_.back();
    if (!last.is_chain || !node->elementwise || last.nodes.size() >= kMaxChainLength ||
        last.shape != node->outputs[0]->type.shape) {
      return false;
    }
    std::vector<long> rows = rows_;
    for (const Tensor* input : info_.at(node).inputs) {
      const Tensor* root = storage_.root(input);
      const auto member = members_.find(root->node);
      if (member == members_.end()) continue;
      if (member->second + 1 == parts_.size()) {
        if (input->type.shape != last.shape) return false;
      } else {
        rows = both(rows, common_rows(input->type.shape, last.shape));
      }
    }
    if (parts_.size() > 1 && most(rows) < kLeastRows) return false;
    rows_ = rows;
    return true;
  }

  // The rows of the group if the node becomes a step of its own.
  std::vector<long> joint_rows(const Node* node) const {
    std::vector<long> rows = both(rows_, rows_of(node));
    for (const Tensor* input : info_.at(node).inputs) {
      if (rows.empty()) break;
      // Of a node that is evaluated all operands are cut.
      if (!node->elementwise || members_.count(storage_.root(input)->node)) {
        rows = both(rows, common_rows(input->type.shape, node->outputs[0]->type.shape));
      }
    }
    return rows;
  }

  void take(const Node* node) {
    parts_.back().nodes.push_back(node);
    members_[node] = parts_.size() - 1;
    for (const Tensor* input : info_.at(node).inputs) known_.insert(storage_.root(input));
    for (const Tensor* output : node->outputs) known_.insert(output);
    ready_.erase(node);
    for (const Node* reader : info_.at(node).readers) {
      if (--info_.at(reader).waits_for == 0) ready_.insert(reader);
    }
  }

  // ---- the finished group --------------------------------------------------------------------

  bool is_read_outside(const Tensor* value, const std::function<bool(const Node*)>& inside) const {
    if (wanted_.count(value)) return true;
    const auto readers = readers_.find(value);
    return readers != readers_.end() &&
           !std::all_of(readers->second.begin(), readers->second.end(), inside);
  }

  void flush() {
    if (parts_.empty()) return;
    Group group;
    for (size_t i = 0; i < parts_.size(); ++i) {
      group.steps.push_back(parts_[i].is_chain ? chain(i) : evaluation(parts_[i].nodes[0]));
    }
    if (group.steps.size() > 1) {
      group.rows = most(rows_);
      for (const Step& step : group.steps) {
        for (const Tensor* value : step.outputs) {
          if (!is_read_outside(value, [&](const Node* node) { return members_.count(node); })) {
            group.locals.push_back(value);
          }
        }
      }
    }
    groups_.push_back(std::move(group));
    parts_.clear();
    members_.clear();
    known_.clear();
  }

  static Step evaluation(const Node* node) {
    Step step;
    step.node = node;
    step.inputs.assign(node->inputs.begin(), node->inputs.end());
    step.outputs.assign(node->outputs.begin(), node->outputs.end());
    return step;
  }

  struct ChainValues {
    Step* step;
    std::unordered_map<const Tensor*, int> numbers;
  };

  Step chain(size_t index) {
    Step step;
    step.chain = std::make_unique<ElementwiseChain>(parts_[index].shape);
    ChainValues values{&step, {}};
    for (const Node* node : parts_[index].nodes) {
      const int value = compute(node, values);
      const Tensor* result = node->outputs[0];
      const auto inside = [&](const Node* reader) {
        const auto member = members_.find(reader);
        return member != members_.end() && member->second == index;
      };
      if (!is_read_outside(result, inside)) continue;
      step.chain->output(value);
      step.outputs.push_back(result);
    }
    step.chain->finish();
    return step;
  }

  int compute(const Node* node, ChainValues& values) {
    std::vector<int> operands;
    for (const Tensor* input : node->inputs) operands.push_back(value_of(input, values));
    const Tensor* result = node->outputs[0];
    return values.numbers[result] =
               values.step->chain->step(*node->elementwise, result->type.dtype, operands);
  }

  int value_of(const Tensor* tensor, ChainValues& values) {
    const Node* node = tensor->node;
    if (folded_.contains(node)) {
      if (node->is_broadcast) return value_of(node->inputs[0], values);
      const auto found = values.numbers.find(tensor);
      return found != values.numbers.end() ? found->second : compute(node, values);
    }
    // A copy or alias of the same shape is the value itself.
    const Tensor* root = storage_.root(tensor);
    const Tensor* known = root->type.shape == tensor->type.shape ? root : tensor;
    const auto [it, added] = values.numbers.try_emplace(known, 0);
    if (added) {
      it->second = values.step->chain->input(tensor->type);
      values.step->inputs.push_back(known);
    }
    return it->second;
  }

  const Storage& storage_;
  const Folded folded_;
  std::unordered_set<const Tensor*> wanted_;
  std::unordered_map<const Node*, Info> info_;
  Readers readers_;  // of storage roots
  std::set<const Node*, Earlier> ready_;

  std::vector<Part> parts_;
  std::vector<long> rows_;  // into which all values of the group fall; which of them is chosen last
  std::unordered_map<const Node*, size_t> members_;  // their parts
  std::unordered_set<const Tensor*> known_;          // read or written by the group

  std::vector<Group> groups_;
};

}  // namespace

// A target must be computed in its own place: what it would share with a feed, a constant or
// another target needs the copy.
Storage::Storage(const std::vector<Tensor*>& targets) {
  std::unordered_set<const Tensor*> taken;
  for (const Tensor* target : targets) {
    const Tensor* source = target;
    const Node* copy = nullptr;  // the last one
    while (source->node->kind == Kind::Alias || source->node->is_copy) {
      if (source->node->is_copy && !copy) copy = source->node;
      source = source->node->inputs[0];
    }
    const bool computed = source->node->kind == Kind::Compute;
    if (copy && (!computed || !taken.insert(source).second)) kept_.insert(copy);
    if (!copy) taken.insert(source);
  }
}

std::vector<Group> schedule(const std::vector<const Node*>& nodes,
                            const std::vector<Tensor*>& targets, const Storage& storage) {
  return Scheduler(nodes, targets, storage).run();
}

}  // namespace host
