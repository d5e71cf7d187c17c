#include "kernels/registration.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "grappler/graphdef/wire.h"
#include "kernels/kernel.h"
#include "kernels/op_def.h"
#include "kernels/op_table.h"
#include "kernels/quarantined.h"
#include "plugin/device/device.h"
#include "plugin/log.h"
#include "plugin/tf_api.h"
#include "plugin/tf_call.h"

namespace tfmetal {

namespace {

// ---- the three functions TensorFlow calls ------------------------------------------------------

void* create_kernel(TF_OpKernelConstruction* construction) {
  const TfCall call;
  try {
    return new Kernel(construction);
  } catch (const std::exception& e) {
    Status status;
    const auto* error = dynamic_cast<const Error*>(&e);
    tf.TF_SetStatus(status, error ? error->code : TF_INTERNAL, e.what());
    tf.TF_OpKernelConstruction_Failure(construction, status);
    return nullptr;
  }
}

void delete_kernel(void* kernel) {
  const TfCall call;
  delete static_cast<Kernel*>(kernel);
}

void compute(void* opaque, TF_OpKernelContext* context) {
  const TfCall call;
  Kernel* kernel = static_cast<Kernel*>(opaque);
  try {
    kernel->compute(context);
  } catch (...) {
    fail_kernel(context, kernel->label().text());
  }
}

// ---- what stock TensorFlow keeps on the host ---------------------------------------------------

// Field numbers of tensorflow/core/framework/kernel_def.proto and attr_value.proto.
constexpr int kListKernel = 1;
constexpr int kKernelDevice = 2, kKernelConstraint = 3, kKernelHostArg = 4;
constexpr int kConstraintName = 1, kConstraintValues = 2;

// Attribute and type of one kernel to be.
using Constraints = std::vector<std::pair<const char*, TF_DataType>>;

// What a stock kernel says about one of the type attributes of `types`; nothing if it names
// another.
struct Constraint {
  std::optional<TF_DataType> mine;
  std::vector<TF_DataType> values;
};

Constraint parse_constraint(std::string_view bytes, const Constraints& types) {
  Constraint result;
  for (WireReader r(bytes); r.next();) {
    if (r.is(kConstraintName, WireType::kBytes)) {
      for (const auto& [attr, dtype] : types) {
        if (r.bytes() == attr) result.mine = dtype;
      }
    }
    if (r.is(kConstraintValues, WireType::kBytes)) {
      const AttrValue values = AttrValue::parse(r.bytes());  // or strings: of a data_format
      if (values.element_kind() == AttrValue::Kind::kType) result.values = values.as_types();
    }
  }
  return result;
}

// Whether a stock kernel would run for `types` on our device and takes int32 from host memory: a
// kernel for numbers says nothing about one for variants, nor one for int32 data about int32
// indices of other data.
bool keeps_on_host(std::string_view kernel, const Constraints& types,
                   const std::string& device_type) {
  bool device = false, matches = true, int32 = false, host = false;
  for (WireReader r(kernel); r.next();) {
    if (r.is(kKernelDevice, WireType::kBytes)) {
      device = r.bytes() == "DEFAULT" || r.bytes() == device_type;
    }
    if (r.is(kKernelHostArg, WireType::kBytes)) host = true;
    if (!r.is(kKernelConstraint, WireType::kBytes)) continue;
    const Constraint constraint = parse_constraint(r.bytes(), types);
    if (!constraint.mine) continue;
    matches &= std::ranges::count(constraint.values, *constraint.mine) > 0;
    int32 |= *constraint.mine == TF_INT32;
  }
  return device && matches && int32 && host;
}

// What TensorFlow itself has for one op. Asked for at first use, for each question walks through
// all of its kernels.
class StockKernels {
 public:
  explicit StockKernels(const char* op) : op_(op) {}

  // Whether one of them serves `types` on our device from host memory: int32 arithmetic on shapes,
  // which must stay there.
  bool keep_on_host(const Constraints& types, const std::string& device_type) {
    if (!list_) list_ = ask();
    bool found = false;
    for (WireReader kernels(*list_); kernels.next();) {
      if (!kernels.is(kListKernel, WireType::kBytes)) continue;
      found |= keeps_on_host(kernels.bytes(), types, device_type);
    }
    return found;
  }

 private:
  std::string ask() const {
    Status status;
    const std::unique_ptr<TF_Buffer, decltype(tf.TF_DeleteBuffer)> buffer(
        tf.TF_GetRegisteredKernelsForOp(op_, status), tf.TF_DeleteBuffer);
    if (!status.ok()) return "";
    return std::string(static_cast<const char*>(buffer->data), buffer->length);
  }

  const char* op_;
  std::optional<std::string> list_;
};

bool stays_on_host(const OpRow& row, StockKernels& stock, const Constraints& types,
                   const char* device_type) {
  bool int32 = false;
  for (const auto& [attr, dtype] : types) {
    if (dtype != TF_INT32) continue;
    int32 = true;
    if (row.shape_arithmetic && std::string_view(row.shape_arithmetic) == attr) return true;
  }
  return int32 && stock.keep_on_host(types, device_type);
}

// ---- one row -----------------------------------------------------------------------------------

void register_kernel(const OpRow& row, const Constraints& types, const char* device_type) {
  TF_KernelBuilder* builder =
      tf.TF_NewKernelBuilder(row.op, device_type, &create_kernel, &compute, &delete_kernel);
  std::string name = std::string("Metal") + row.op;
  Status status;
  for (const auto& [attr, dtype] : types) {
    tf.TF_KernelBuilder_TypeConstraint(builder, attr, dtype, status);
    name += "_" + name_of(dtype);
  }
  for (const HostInput& host : row.host) tf.TF_KernelBuilder_HostMemory(builder, host.name);
  tf.TF_RegisterKernelBuilder(name.c_str(), builder, status);  // takes the builder
  if (!status.ok()) {
    log_line(LogLevel::kWarning, "cannot register " + name + ": " + status.message());
  }
}

bool is_allowed(const OpDef& def, const char* attr, TF_DataType dtype) {
  const auto it = def.allowed_types.find(attr);
  return it == def.allowed_types.end() ||
         std::find(it->second.begin(), it->second.end(), dtype) != it->second.end();
}

// Registers every combination of the row's types that the op takes and that does not stay on the
// host. `registered`: the types that were.
void register_types(const OpRow& row, StockKernels& stock, const char* device_type,
                    Constraints* chosen, std::vector<TypeRule>* registered) {
  const size_t next = chosen->size();
  if (next == row.types.size()) {
    if (is_quarantined(row, chosen->empty() ? TF_BOOL : chosen->front().second)) return;
    if (stays_on_host(row, stock, *chosen, device_type)) return;
    for (size_t i = 0; i < next; ++i) {
      DTypes& dtypes = (*registered)[i].dtypes;
      const TF_DataType dtype = (*chosen)[i].second;
      if (std::ranges::count(dtypes, dtype) == 0) dtypes.push_back(dtype);
    }
    return register_kernel(row, *chosen, device_type);
  }
  const TypeRule& rule = row.types[next];
  for (TF_DataType dtype : rule.dtypes) {
    if (!is_allowed(op_def(row.op), rule.attr, dtype)) continue;
    chosen->emplace_back(rule.attr, dtype);
    register_types(row, stock, device_type, chosen, registered);
    chosen->pop_back();
  }
}

}  // namespace

void register_kernels(const char* device_type) {
  const MacosVersion macos = macos_version();
  for (const OpRow& row : op_table()) {
    if (row.cluster_only || row.first > macos) continue;
    if (row.available && !row.available()) continue;
    if (row.types.empty() && is_quarantined(row, TF_BOOL)) continue;
    if (row.define) row.define();
    std::vector<TypeRule> types = row.types;
    for (TypeRule& rule : types) rule.dtypes.clear();
    Constraints chosen;
    StockKernels stock(row.op);
    register_types(row, stock, device_type, &chosen, &types);
    registered_rows().push_back({&row, types});
  }
}

}  // namespace tfmetal
