#include "kernels/op_table.h"

#include <algorithm>
#include <map>
#include <string_view>

#include "kernels/families.h"
#include "kernels/quarantined.h"
#include "plugin/quarantine.h"

namespace tfmetal {

const std::vector<OpRow>& op_table() {
  static const auto* const table = [] {
    auto* rows = new std::vector<OpRow>();
    const auto add = [&](const std::vector<OpRow>& family) {
      rows->insert(rows->end(), family.begin(), family.end());
    };
#define TFMETAL_ADD_FAMILY(family) add(family());
    TFMETAL_OP_FAMILIES(TFMETAL_ADD_FAMILY)
#undef TFMETAL_ADD_FAMILY
    return rows;
  }();
  return *table;
}

const char* name_of(Precision precision) {
  static const char* const kNames[] = {"allow", "infer", "deny", "clear", "none"};
  return kNames[static_cast<int>(precision)];
}

std::vector<TypeRule> T(DTypes dtypes, const char* attr) { return {{attr, std::move(dtypes)}}; }

namespace {

bool serves(const std::vector<TypeRule>& types, const NodeDef& def) {
  return std::all_of(types.begin(), types.end(), [&](const TypeRule& rule) {
    const TF_DataType dtype = def.attr_type(rule.attr);
    return std::find(rule.dtypes.begin(), rule.dtypes.end(), dtype) != rule.dtypes.end();
  });
}

// The row that serves the attributes in clusters or outside; that of the other place if there is no
// such row.
const OpRow* row_of(const NodeDef& def, bool in_cluster = false) {
  static const auto* const by_op = [] {
    auto* map = new std::multimap<std::string, const OpRow*, std::less<>>();
    for (const OpRow& row : op_table()) map->emplace(row.op, &row);
    return map;
  }();
  const auto [first, last] = by_op->equal_range(def.op);
  const OpRow* found = nullptr;
  for (auto it = first; it != last; ++it) {
    const OpRow* row = it->second;
    if (!serves(row->types, def) || (row->takes && !row->takes(def))) continue;
    if (row->cluster_only == in_cluster) return row;
    if (!found) found = row;
  }
  return found;
}

bool banned(const OpRow& row, const NodeDef& def) {
  return is_quarantined(row, row.types.empty() ? TF_BOOL : def.attr_type(row.types[0].attr));
}

}  // namespace

bool is_quarantined(const OpRow& row, TF_DataType dtype) {
  return !row.available && !row.define && quarantine().has(row.op, name_of(dtype));
}

bool is_quarantined(const NodeDef& def) {
  if (quarantine().ops.empty()) return false;
  const OpRow* row = row_of(def);
  return row && banned(*row, def);
}

const OpRow* find_row(const NodeDef& def) {
  const OpRow* row = row_of(def);
  return row && !quarantine().ops.empty() && banned(*row, def) ? nullptr : row;
}

const OpRow* find_kernel_row(const NodeDef& def) {
  const OpRow* row = find_row(def);
  if (!row || row->cluster_only) return row;
  const RegisteredRow* registered = find_registered(*row);
  return registered && serves(registered->types, def) ? row : nullptr;
}

const OpRow* find_member_row(const NodeDef& def) {
  const OpRow* row = find_kernel_row(def);
  const bool can = row && !row->run && row->cluster != ClusterPolicy::kNever;
  return can ? row_of(def, true) : nullptr;
}

const RegisteredRow* find_registered(const OpRow& row) {
  const auto& rows = registered_rows();
  const auto found = std::ranges::find(rows, &row, &RegisteredRow::row);
  return found != rows.end() ? &*found : nullptr;
}

std::vector<RegisteredRow>& registered_rows() {
  static auto* const rows = new std::vector<RegisteredRow>();
  return *rows;
}

}  // namespace tfmetal
