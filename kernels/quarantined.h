// The quarantine (plugin/quarantine.h) seen from the op table.
#pragma once

#include "kernels/op_table.h"

namespace tfmetal {

// Whether a selftest has banned the row's kernels for this type, that of its first type attribute
// (TF_BOOL when it has none). Never variables and the plugin's own ops.
bool is_quarantined(const OpRow& row, TF_DataType dtype);
// Whether it has banned this op with these attributes; find_row then knows no row for it.
bool is_quarantined(const NodeDef& def);

}  // namespace tfmetal
