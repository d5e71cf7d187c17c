#include "grappler/cluster/member.h"

#include <algorithm>
#include <unordered_map>

#include "grappler/cluster/outline.h"
#include "kernels/op_table.h"
#include "plugin/error.h"

namespace tfmetal {
namespace {

// The types of a row that were registered; null when none was.
const std::vector<TypeRule>* registered_types(const OpRow* row) {
  static const auto* const by_row = [] {
    auto* map = new std::unordered_map<const OpRow*, const std::vector<TypeRule>*>();
    for (const RegisteredRow& registered : registered_rows())
      map->emplace(registered.row, &registered.types);
    return map;
  }();
  const auto found = by_row->find(row);
  return found == by_row->end() ? nullptr : found->second;
}

}  // namespace

bool can_be_member(const NodeDef& node) try {
  const OpRow* row = find_row(node);
  if (!row || row->run || row->cluster == ClusterPolicy::kNever) return false;
  const std::vector<TypeRule>* types = registered_types(row);
  return types && std::all_of(types->begin(), types->end(), [&](const TypeRule& rule) {
           return std::ranges::count(rule.dtypes, node.attr_type(rule.attr)) > 0;
         });
} catch (const Error&) {  // an attribute is missing
  return false;
}

bool has_cluster_kernel() {
  return std::ranges::any_of(registered_rows(), [](const RegisteredRow& registered) {
    return registered.row->op == std::string_view(kClusterOp);
  });
}

}  // namespace tfmetal
