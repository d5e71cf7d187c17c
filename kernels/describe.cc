// The op table as JSON: what docs/ops.md, the coverage gate and `doctor` read.
#include "kernels/op_table.h"
#include "kernels/plan.h"
#include "plugin/runtime_op.h"

namespace tfmetal {

namespace {

const char* kind_of(const OpRow& row) {
  if (row.lower) return "graph";
  if (row.launch) return "native";
  if (!row.types.empty() && row.types[0].dtypes == DTypes{TF_VARIANT}) return "variant";
  return row.available ? "resource" : "dynamic";  // only rows of variables may be unavailable
}

const char* name_of(ClusterPolicy policy) {
  static const char* const kNames[] = {"always", "large", "never"};
  return kNames[static_cast<int>(policy)];
}

json::Value describe(const RegisteredRow& registered) {
  const OpRow& row = *registered.row;
  json::Object types, host;
  for (const TypeRule& rule : registered.types) {
    json::Array names;
    for (TF_DataType dtype : rule.dtypes) names.push_back(tfmetal::name_of(dtype));
    types.emplace_back(rule.attr, names);
  }
  for (const HostInput& input : row.host) {
    host.emplace_back(input.name, input.use == HostUse::kKey ? "key" : "arg");
  }
  return json::Object{{"op", row.op},
                      {"kind", kind_of(row)},
                      {"types", types},
                      {"host", host},
                      {"own", row.define != nullptr},
                      {"inplace", !row.inplace.empty()},
                      {"cluster", name_of(row.run ? ClusterPolicy::kNever : row.cluster)},
                      {"precision", tfmetal::name_of(row.precision)},
                      {"macos", concat(row.first.major, ".", row.first.minor)}};
}

const RuntimeCall kOps("ops", "the op table as registered: types, host inputs, kind, policies",
                       [](const json::Value&) {
                         json::Array rows;
                         for (const RegisteredRow& row : registered_rows()) {
                           rows.push_back(describe(row));
                         }
                         return json::Value(rows);
                       });

const RuntimeCall kCache("cache", "plans in the cache and their estimated bytes",
                         [](const json::Value&) -> json::Value {
                           return json::Object{{"plans", PlanCache::instance().size()},
                                               {"bytes", PlanCache::instance().bytes()}};
                         });

const RuntimeCall kClearCache("clear_cache",
                              "drops all plans; kernels keep those that they have used lately",
                              [](const json::Value&) -> json::Value {
                                return json::Object{{"dropped", PlanCache::instance().clear()}};
                              });

}  // namespace

}  // namespace tfmetal
