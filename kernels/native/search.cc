// Places among sorted numbers: LowerBound, UpperBound, Bucketize, InTopK.
#include <algorithm>

#include "kernels/families.h"
#include "kernels/msl/scan_arguments.h"
#include "kernels/native_call.h"
#include "plugin/error.h"

namespace tfmetal {

namespace {

// ---- LowerBound, UpperBound ---------------------------------------------------------------------

template <bool upper>
void search(NativeCall& call) {
  const Node& node = call.node;
  const SearchArguments a = {static_cast<unsigned>(node.in(0).shape.back()),
                             static_cast<unsigned>(node.in(1).shape.back()), upper};
  call.dispatch(shader_name(shader_name("search_sorted", node.in(0).dtype), node.out().dtype),
                node.out().count(),
                {a.sorted ? call.in(0) : call.in(1), call.in(1), call.out(), NativeCall::value(a)});
}

void check_rows(const Node& node) {
  if (node.in(0).rank() == node.in(1).rank() && node.in(0).shape[0] == node.in(1).shape[0]) return;
  throw_invalid_argument(node.describe(), ": Leading dim_size of both tensors must match.");
}

OpRow search_row(const char* op, Launch launch) {
  return {.op = op,
          .types = {{"T", kFloats + kIntegers}, {"out_type", kIndex}},
          .launch = launch,
          .takes_empty = true,
          .check = check_rows};
}

// ---- Bucketize ----------------------------------------------------------------------------------

void check_boundaries(const Node& node) {
  const auto boundaries = node.def->attr_floats("boundaries", NodeDef::List<float>{});
  if (!std::is_sorted(boundaries.begin(), boundaries.end())) {
    throw_invalid_argument(node.describe(), ": Expected sorted boundaries");
  }
}

// As many boundaries at a time as fit into an argument: buckets before the first are counted in
// every round.
void bucketize(NativeCall& call) {
  const auto boundaries = call.node.def->attr_floats("boundaries", NodeDef::List<float>{});
  Boundaries part = {};
  size_t done = 0;
  do {
    const size_t count = std::min<size_t>(boundaries.size() - done, MAX_BOUNDARIES);
    part.count = static_cast<unsigned>(count);
    std::copy_n(boundaries.begin() + static_cast<std::ptrdiff_t>(done), count, part.at);
    call.dispatch(shader_name("bucketize", call.node.in(0).dtype), call.node.out().count(),
                  {call.in(0), call.out(), NativeCall::value(part)});
    part.add = 1;
    done += count;
  } while (done < boundaries.size());
}

// ---- InTopK -------------------------------------------------------------------------------------

void in_top_k(NativeCall& call) {
  const Node& node = call.node;
  const int64_t k = node.inputs.size() > 2 ? node.host_int(2) : node.def->attr_int("k");
  const InTopArguments a = {static_cast<unsigned>(node.in(0).shape[1]), static_cast<long>(k)};
  call.dispatch(
      shader_name("in_top_k", node.in(1).dtype), node.out().count(),
      {a.classes ? call.in(0) : call.in(1), call.in(1), call.out(), NativeCall::value(a)});
}

OpRow in_top_row(const char* op, std::vector<HostInput> host) {
  return {.op = op,
          .types = T(kIndex),
          .host = std::move(host),
          .launch = in_top_k,
          .takes_empty = true};
}

}  // namespace

std::vector<OpRow> search_ops() {
  return {
      search_row("LowerBound", search<false>),
      search_row("UpperBound", search<true>),
      {.op = "Bucketize",
       .types = T(kFloats + kIndex),
       .launch = bucketize,
       .check = check_boundaries},
      in_top_row("InTopK", {}),
      in_top_row("InTopKV2", {{"k", HostUse::kArg}}),
  };
}

}  // namespace tfmetal
