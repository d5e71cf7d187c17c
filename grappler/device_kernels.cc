#include "grappler/device_kernels.h"

#include <algorithm>
#include <unordered_map>

namespace tfmetal {
namespace {

bool serves(const RegisteredRow& registered, const NodeDef& def) {
  return std::ranges::all_of(registered.types, [&](const TypeRule& rule) {
    const AttrValue* type = def.find_attr(rule.attr);
    return type && std::ranges::count(rule.dtypes, type->as_type()) > 0;
  });
}

}  // namespace

const OpRow* registered_row(const NodeDef& def) {
  // Graphs come after all kernels have been registered.
  static const auto* const by_op = [] {
    auto* map = new std::unordered_multimap<std::string, const RegisteredRow*>();
    for (const RegisteredRow& row : registered_rows()) map->emplace(row.row->op, &row);
    return map;
  }();
  const auto [first, last] = by_op->equal_range(def.op);
  const auto found =
      std::find_if(first, last, [&](const auto& e) { return serves(*e.second, def); });
  return found == last ? nullptr : found->second->row;
}

}  // namespace tfmetal
