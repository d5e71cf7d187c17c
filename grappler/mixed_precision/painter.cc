#include "grappler/mixed_precision/painter.h"

#include <algorithm>
#include <cmath>
#include <unordered_set>

#include "grappler/mixed_precision/types.h"
#include "kernels/op_def.h"
#include "plugin/error.h"

namespace tfmetal {
namespace {

// Constants beyond it are data: they are not looked at for values that a type cannot hold.
constexpr int64_t kMaxNumbers = 1024;

bool gathers(std::string_view op) { return op.starts_with("Gather"); }

// Gives on what it gets.
bool passes_on(std::string_view op) {
  static const std::unordered_set<std::string_view> ops = {
      "EnsureShape",   "Enter",           "Exit",    "ExpandDims", "Identity",     "Merge",
      "NextIteration", "PreventGradient", "Reshape", "Snapshot",   "StopGradient", "Squeeze",
      "Switch"};
  return ops.contains(op);
}

bool reads_floats_on_host(const Candidate& candidate) {
  const NodeDef& def = candidate.node->def();
  const OpRow* row = find_kernel_row(def);
  if (!row || row->host.empty()) return false;
  const std::vector<std::string> names = input_names(def);
  for (size_t i = 0; i < names.size(); ++i)
    if (candidate.inputs[i] && std::ranges::count(row->host, names[i], &HostInput::name))
      return true;
  return false;
}

}  // namespace

Painting::Painting(const GraphView& view, const Context& context, const PrecisionClasses& classes,
                   TF_DataType target)
    : classes_(classes), target_(target), number_(view.size(), kNone) {
  collect(view, context);
  for (Candidate& candidate : all_) connect(candidate);
  group_loops();
  group_lists(view, context);
  group_reserves();
  look_at_constants();
  keep_variables(view);
  paint_allowed();
  if (converted()) {
    taint();
    paint_between();
    paint_around();
    agree_in_groups();
    retreat();
  }
  explain();
}

// ---- what there is ------------------------------------------------------------------------------

void Painting::collect(const GraphView& view, const Context& context) {
  for (size_t i = 0; i < view.size(); ++i) {
    GraphNode& node = view.node(i);
    if (node.removed() || !context.on_device(node)) continue;
    Candidate candidate{.node = &node, .precision = classes_.of(node.def())};
    if (candidate.precision == Precision::kNone) continue;
    candidate.attrs = changeable_attrs(node.def(), target_);
    candidate.convertible = !candidate.attrs.empty();
    if (!candidate.convertible) candidate.attrs = float_attrs(node.def());
    if (candidate.attrs.empty()) continue;
    candidate.inputs = input_flags(node.def(), candidate.attrs);
    candidate.outputs = output_flags(node.def(), candidate.attrs);
    if (candidate.inputs.size() != node.num_inputs()) continue;
    if (!candidate.convertible) keep(candidate, "no kernel takes the type");
    if (context.preserved(node)) keep(candidate, "it is asked for by name");
    if (reads_floats_on_host(candidate)) keep(candidate, "it reads float32 on the host");
    number_[i] = int(all_.size());
    all_.push_back(std::move(candidate));
  }
}

void Painting::keep(Candidate& candidate, std::string why) {
  candidate.convertible = false;
  if (candidate.why.empty()) candidate.why = std::move(why);
}

int Painting::find(const GraphNode& node) const {
  return node.index() < number_.size() ? number_[node.index()] : kNone;
}

void Painting::connect(Candidate& source) {
  const int number = find(*source.node);
  for (const Use& use : source.node->data_uses()) {
    const int port = use.node->input(size_t(use.index)).port;
    if (!source.outputs[size_t(port)]) continue;
    const int reader = find(*use.node);
    if (reader == kNone || !all_[size_t(reader)].inputs[size_t(use.index)]) {
      source.other_readers = true;
      continue;
    }
    source.readers.push_back(reader);
    all_[size_t(reader)].sources.push_back(number);
  }
}

// Makes the members agree; `allowed`: they may be converted at all.
void Painting::join(const std::vector<int>& members, bool allowed) {
  for (const int member : members) {
    Candidate& candidate = all_[size_t(member)];
    candidate.group = int(groups_.size());
    if (!allowed) keep(candidate, "not all that must have its type can be converted");
  }
  groups_.push_back(members);
}

void Painting::group_loops() {
  for (size_t i = 0; i < all_.size(); ++i) {
    if (all_[i].node->op() != "Merge") continue;
    std::vector<int> members = {int(i)};
    bool allowed = true;
    for (const Output& input : all_[i].node->inputs()) {
      if (input.node->op() != "NextIteration") continue;
      const int number = find(*input.node);
      allowed &= number != kNone;
      if (number != kNone) members.push_back(number);
    }
    if (members.size() > 1 || !allowed) join(members, allowed);
  }
}

void Painting::look_at_constants() {
  for (Candidate& candidate : all_) {
    if (candidate.precision != Precision::kInfer && candidate.precision != Precision::kClear)
      continue;
    for (size_t i = 0; i < candidate.inputs.size(); ++i) {
      const GraphNode& source = *candidate.node->input(i).node;
      if (!candidate.inputs[i] || source.op() != "Const") continue;
      const TensorProto value = source.def().attr_tensor("value");
      const std::optional<int64_t> count = value.shape().elements();
      if (!count || *count > kMaxNumbers) continue;
      const std::optional<double> bad = number_out_of_range(value, target_);
      if (!bad) continue;
      candidate.precision = Precision::kDeny;
      candidate.why = concat("the type has no ", *bad, ", which it reads");
    }
  }
}

void Painting::keep_variables(const GraphView& view) {
  std::vector<int> open;
  Flags seen(all_.size(), false);
  const auto look_at = [&](int number) {
    if (number == kNone || seen[size_t(number)]) return;
    seen[size_t(number)] = true;
    Candidate& candidate = all_[size_t(number)];
    if (candidate.precision == Precision::kAllow) return;
    keep(candidate, "a variable keeps what it computes");
    if (passes_on(candidate.node->op())) open.push_back(number);
  };
  for (size_t i = 0; i < view.size(); ++i) {
    const GraphNode& node = view.node(i);
    if (!node.removed() && node.op() == "AssignVariableOp") look_at(find(*node.input(1).node));
  }
  while (!open.empty()) {
    const int number = open.back();
    open.pop_back();
    for (const int source : all_[size_t(number)].sources) look_at(source);
  }
}

// ---- what becomes of it -------------------------------------------------------------------------

template <class Enter>
Painting::Flags Painting::reach(std::vector<int> from, std::vector<int> Candidate::* next,
                                Enter enter) const {
  Flags seen(all_.size(), false);
  for (const int start : from) seen[size_t(start)] = true;
  while (!from.empty()) {
    const int at = from.back();
    from.pop_back();
    for (const int other : all_[size_t(at)].*next) {
      if (seen[size_t(other)] || !enter(all_[size_t(other)])) continue;
      seen[size_t(other)] = true;
      from.push_back(other);
    }
  }
  return seen;
}

template <class Is>
std::vector<int> Painting::all_that(Is is) const {
  std::vector<int> out;
  for (size_t i = 0; i < all_.size(); ++i)
    if (is(all_[i])) out.push_back(int(i));
  return out;
}

void Painting::paint_allowed() {
  for (Candidate& candidate : all_) {
    candidate.converted = candidate.convertible &&
                          (candidate.precision == Precision::kAllow || classes_.forces_all());
    if (candidate.converted)
      candidate.why = classes_.forces_all() ? "all are, by force" : "it is worth it";
  }
}

void Painting::taint() {
  const auto is_clear = [](const Candidate& c) { return c.precision == Precision::kClear; };
  const auto is_denied = [](const Candidate& c) { return c.precision == Precision::kDeny; };
  const auto has_numerics = [](const Candidate& c) {
    return c.precision == Precision::kInfer || c.precision == Precision::kDeny;
  };
  const Flags leads = reach(all_that(has_numerics), &Candidate::sources, is_clear);
  const Flags tainted =
      reach(all_that(is_denied), &Candidate::readers, [&](const Candidate& candidate) {
        return has_numerics(candidate) ||
               (is_clear(candidate) && leads[size_t(find(*candidate.node))]);
      });
  for (size_t i = 0; i < all_.size(); ++i) all_[i].tainted = tainted[i];
}

void Painting::paint_between() {
  const auto can = [](const Candidate& c) {
    return c.convertible && !c.tainted &&
           (c.precision == Precision::kInfer || c.precision == Precision::kClear);
  };
  const std::vector<int> painted = all_that([](const Candidate& c) { return c.converted; });
  const Flags after = reach(painted, &Candidate::readers, can);
  const Flags before = reach(painted, &Candidate::sources, can);
  for (size_t i = 0; i < all_.size(); ++i) {
    if (!after[i] || !before[i] || all_[i].converted) continue;
    all_[i].converted = true;
    all_[i].why = "it lies between others";
  }
}

void Painting::paint_around() {
  const auto can = [](const Candidate& c) {
    return c.convertible && !c.tainted && c.precision == Precision::kClear;
  };
  std::vector<int> open = all_that([](const Candidate& c) { return c.converted; });
  while (!open.empty()) {
    const Candidate& at = all_[size_t(open.back())];
    open.pop_back();
    for (const std::vector<int>* side : {&at.sources, &at.readers}) {
      for (const int other : *side) {
        Candidate& candidate = all_[size_t(other)];
        if (candidate.converted || !can(candidate)) continue;
        candidate.converted = true;
        candidate.why = "it belongs to others";
        open.push_back(other);
      }
    }
  }
}

void Painting::agree_in_groups() {
  for (const std::vector<int>& group : groups_) {
    const auto converted = [&](int i) { return all_[size_t(i)].converted; };
    if (std::ranges::all_of(group, converted)) continue;
    for (const int member : group) {
      if (all_[size_t(member)].converted)
        all_[size_t(member)].why = "not all that must have its type were converted";
      all_[size_t(member)].converted = false;
    }
  }
}

// Rule 6. `leaves`: what shall stay, until one of its sources or of its group turns out not to.
void Painting::retreat() {
  if (classes_.forces_all()) return;
  const auto can = [](const Candidate& c) {
    return c.converted && c.precision == Precision::kClear;
  };
  const std::vector<int> exposed = all_that([&](const Candidate& c) {
    return can(c) && (c.other_readers || std::ranges::any_of(c.readers, [&](int reader) {
                        return !all_[size_t(reader)].converted;
                      }));
  });
  Flags leaves = reach(exposed, &Candidate::sources, can);
  for (size_t i = 0; i < all_.size(); ++i)
    if (can(all_[i]) && gathers(all_[i].node->op())) leaves[i] = true;
  const auto remains = [&](int i) { return all_[size_t(i)].converted && !leaves[size_t(i)]; };
  std::vector<int> open;
  const auto stay = [&](int i) {
    if (!leaves[size_t(i)]) return;
    leaves[size_t(i)] = false;
    open.push_back(i);
  };
  for (size_t i = 0; i < all_.size(); ++i)
    if (leaves[i] && std::ranges::any_of(all_[i].sources, remains)) stay(int(i));
  for (const std::vector<int>& group : groups_)
    if (std::ranges::any_of(group, remains)) std::ranges::for_each(group, stay);
  while (!open.empty()) {
    const Candidate& at = all_[size_t(open.back())];
    open.pop_back();
    std::ranges::for_each(at.readers, stay);
    if (at.group >= 0) std::ranges::for_each(groups_[size_t(at.group)], stay);
  }
  for (size_t i = 0; i < all_.size(); ++i) {
    if (!leaves[i]) continue;
    all_[i].converted = false;
    all_[i].why = "it would only round what others read as float32";
  }
}

void Painting::explain() {
  for (Candidate& candidate : all_) {
    if (!candidate.why.empty()) continue;
    if (candidate.precision == Precision::kDeny)
      candidate.why = "its class is deny";
    else
      candidate.why = candidate.tainted ? "something of class deny comes before" : "not worth it";
  }
}

// ---- what others ask ----------------------------------------------------------------------------

int Painting::converted() const {
  return int(std::ranges::count_if(all_, [](const Candidate& c) { return c.converted; }));
}

bool Painting::is_reduced(Output output) const {
  const int number = output.port == kControlPort ? kNone : find(*output.node);
  return number != kNone && all_[size_t(number)].converted &&
         all_[size_t(number)].outputs[size_t(output.port)];
}

bool Painting::is_reduced(Use input) const {
  const int number = find(*input.node);
  return number != kNone && all_[size_t(number)].converted &&
         all_[size_t(number)].inputs[size_t(input.index)];
}

}  // namespace tfmetal
