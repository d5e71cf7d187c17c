#include "grappler/cluster/member.h"

#include <algorithm>
#include <string_view>

#include "grappler/cluster/outline.h"
#include "kernels/op_table.h"
#include "plugin/error.h"

namespace tfmetal {

bool can_be_member(const NodeDef& node) try {
  return find_member_row(node) != nullptr;
} catch (const Error&) {  // an attribute is missing
  return false;
}

bool can_be_inner(const NodeDef& node) try {
  const OpRow* row = find_row(node);
  return row && !row->run && !row->cluster_only && row->cluster != ClusterPolicy::kNever &&
         !find_member_row(node) && find_registered(*row);
} catch (const Error&) {  // an attribute is missing
  return false;
}

bool is_free(const NodeDef& node) {
  const OpRow* row = find_row(node);
  return row && row->cluster_only;
}

bool has_cluster_kernel() {
  return std::ranges::any_of(registered_rows(), [](const RegisteredRow& registered) {
    return registered.row->op == std::string_view(kClusterOp);
  });
}

}  // namespace tfmetal
