#include "kernels/op_table.h"

#include <algorithm>
#include <map>
#include <string_view>

#include "kernels/families.h"

namespace tfmetal {

const std::vector<OpRow>& op_table() {
  static const auto* const table = [] {
    auto* rows = new std::vector<OpRow>();
    for (const auto& family : {elementwise_ops(),
                               reduction_ops(),
                               matmul_ops(),
                               shape_ops(),
                               loss_ops(),
                               arithmetic_ops(),
                               cast_ops(),
                               fill_ops(),
                               slice_ops(),
                               arg_ops(),
                               where_ops(),
                               variable_ops(),
                               variant_ops(),
                               do_nothing_ops(),
                               activation_ops(),
                               resize_ops(),
                               normalization_ops(),
                               pooling_ops(),
                               convolution_ops(),
                               pad_ops(),
                               space_ops(),
                               special_ops(),
                               random_ops(),
                               stateful_random_ops(),
                               gather_ops(),
                               scatter_ops(),
                               einsum_ops(),
                               linalg_ops(),
                               rnn_ops(),
                               segment_ops(),
                               integer_ops(),
                               image_ops(),
                               complex_ops(),
                               fft_ops(),
                               non_max_suppression_ops(),
                               matrix_ops(),
                               stitch_ops(),
                               sort_ops(),
                               scan_ops(),
                               search_ops(),
                               count_ops(),
                               unique_ops()}) {
      rows->insert(rows->end(), family.begin(), family.end());
    }
    return rows;
  }();
  return *table;
}

std::vector<TypeRule> T(DTypes dtypes, const char* attr) { return {{attr, std::move(dtypes)}}; }

namespace {

bool serves(const OpRow& row, const NodeDef& def) {
  return std::all_of(row.types.begin(), row.types.end(), [&](const TypeRule& rule) {
    const TF_DataType dtype = def.attr_type(rule.attr);
    return std::find(rule.dtypes.begin(), rule.dtypes.end(), dtype) != rule.dtypes.end();
  });
}

}  // namespace

const OpRow* find_row(const NodeDef& def) {
  static const auto* const by_op = [] {
    auto* map = new std::multimap<std::string, const OpRow*, std::less<>>();
    for (const OpRow& row : op_table()) map->emplace(row.op, &row);
    return map;
  }();
  const auto [first, last] = by_op->equal_range(def.op);
  for (auto it = first; it != last; ++it) {
    if (serves(*it->second, def)) return it->second;
  }
  return nullptr;
}

std::vector<RegisteredRow>& registered_rows() {
  static auto* const rows = new std::vector<RegisteredRow>();
  return *rows;
}

}  // namespace tfmetal
