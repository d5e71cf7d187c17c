#include "grappler/mixed_precision/classes.h"

#include <algorithm>
#include <string_view>

#include "plugin/env.h"
#include "plugin/error.h"
#include "plugin/log.h"
#include "plugin/runtime_op.h"

namespace tfmetal {
namespace {

// Ops of TensorFlow's own kernels for any device, which take the 16-bit types. All are clear.
constexpr std::string_view kStockOps[] = {"EmptyTensorList",
                                          "Enter",
                                          "Exit",
                                          "IdentityN",
                                          "Merge",
                                          "NextIteration",
                                          "Switch",
                                          "TensorListFromTensor",
                                          "TensorListGather",
                                          "TensorListGetItem",
                                          "TensorListPopBack",
                                          "TensorListPushBack",
                                          "TensorListReserve",
                                          "TensorListSetItem",
                                          "TensorListStack"};

bool is_stock(std::string_view op) { return std::ranges::count(kStockOps, op) > 0; }

struct List {
  Precision precision;
  const env::Variable *add, *remove;
};
const List kLists[] = {{Precision::kAllow, &env::kAllowlistAdd, &env::kAllowlistRemove},
                       {Precision::kInfer, &env::kInferlistAdd, &env::kInferlistRemove},
                       {Precision::kDeny, &env::kDenylistAdd, &env::kDenylistRemove},
                       {Precision::kClear, &env::kClearlistAdd, &env::kClearlistRemove}};

const OpRow* row_of(const NodeDef& node) try {
  return find_row(node);
} catch (const Error&) {  // an attribute is missing
  return nullptr;
}

}  // namespace

PrecisionClasses::PrecisionClasses() {
  read_lists();
  read_level();
}

void PrecisionClasses::read_lists() {
  for (const List& list : kLists) {
    for (const std::string& op : env::words(*list.remove)) removed_[op].push_back(list.precision);
    for (const std::string& op : env::words(*list.add)) {
      const auto [known, is_new] = added_.emplace(op, list.precision);
      if (!is_new && known->second != list.precision)
        warn_once(concat(list.add->name, ": ", op, " is on the ", name_of(known->second),
                         " list already and stays there"));
    }
  }
}

void PrecisionClasses::read_level() {
  std::string level = env::text(env::kPrecisionLevel);
  std::ranges::transform(level, level.begin(), [](unsigned char c) { return std::toupper(c); });
  if (level == "UNSAFE_FORCE_ALL") level_ = Level::kForceAll;
  if (level == "TREAT_INFER_AS_DENY") level_ = Level::kInferIsDeny;
  if (level == "TENSOR_CORES_ONLY") level_ = Level::kAllowOnly;
  if (level_ == Level::kNormal && !level.empty())
    warn_once(concat(env::kPrecisionLevel.name, ": there is no level '", level, "'"));
}

Precision PrecisionClasses::listed(const std::string& op, Precision precision) const {
  if (const auto it = added_.find(op); it != added_.end()) return it->second;
  const auto it = removed_.find(op);
  const bool is_removed = it != removed_.end() && std::ranges::count(it->second, precision) > 0;
  return is_removed ? Precision::kNone : precision;
}

Precision PrecisionClasses::of(const NodeDef& node) const {
  const OpRow* row = row_of(node);
  Precision own = is_stock(node.op) ? Precision::kClear : Precision::kNone;
  if (row) own = row->precision;
  const Precision precision = listed(node.op, own);
  if (level_ == Level::kAllowOnly && precision != Precision::kAllow) return Precision::kNone;
  if (level_ == Level::kInferIsDeny && precision == Precision::kInfer) return Precision::kDeny;
  return precision;
}

bool has_kernel(const NodeDef& node) try {
  return is_stock(node.op) || find_kernel_row(node) != nullptr;
} catch (const Error&) {  // an attribute is missing
  return false;
}

std::optional<TF_DataType> rewrite_target() {
  const std::string setting = env::text(env::kMixedPrecision);
  if (setting == "float16") return TF_HALF;
  if (setting == "bfloat16") return TF_BFLOAT16;
  if (setting == env::kMixedPrecision.fallback)
    return env::flag(env::kStockMixedPrecision) ? std::optional(TF_HALF) : std::nullopt;
  if (setting != "off")
    warn_once(concat(env::kMixedPrecision.name, ": '", setting,
                     "' is none of off, float16, bfloat16, tensorflow; nothing is converted"));
  return std::nullopt;
}

namespace {

const RuntimeCall kClasses(
    "precision_classes", "class of each op in automatic mixed precision, as set now; no 'none'",
    [](const json::Value&) -> json::Value {
      const PrecisionClasses classes;
      std::map<std::string, const char*> known;
      const auto add = [&](const NodeDef& def) {
        if (const Precision precision = classes.of(def); precision != Precision::kNone)
          known[def.op] = name_of(precision);
      };
      for (const RegisteredRow& registered : registered_rows()) {
        NodeDef def;
        def.op = registered.row->op;
        bool has_float = false;
        for (const TypeRule& rule : registered.types) {
          const bool takes = std::ranges::count(rule.dtypes, TF_FLOAT) > 0;
          has_float |= takes;
          if (!rule.dtypes.empty())
            def.set_attr(rule.attr, AttrValue::of_type(takes ? TF_FLOAT : rule.dtypes[0]));
        }
        if (has_float) add(def);
      }
      for (const OpRow& row : op_table()) {
        if (!row.cluster_only) continue;
        NodeDef def;
        def.op = row.op;
        for (const TypeRule& rule : row.types)
          def.set_attr(rule.attr, AttrValue::of_type(TF_FLOAT));
        add(def);
      }
      for (const std::string_view op : kStockOps) {
        NodeDef def;
        def.op = op;
        add(def);
      }
      json::Object all;
      for (const auto& [op, precision] : known) all.emplace_back(op, precision);
      return all;
    });

}  // namespace

}  // namespace tfmetal
