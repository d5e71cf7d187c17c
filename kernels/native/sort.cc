#include "kernels/native/sort.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "kernels/families.h"
#include "plugin/error.h"

namespace tfmetal {

namespace {

// Up to this length comparing each element with each is the fastest sort.
constexpr int64_t kShortRow = 256;
// Heaps beat sorting when at most one of so many elements is wanted; of as many as a thread selects
// from, it leaves at most one of so many.
constexpr int64_t kSelective = 8, kSelectPerKept = 64;
// Elements per thread: as many threads as keep a GPU busy, as long as each does enough.
constexpr int64_t kThreads = 1024, kFewest = 256, kMost = 4096;

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

TF_DataType key_type(TF_DataType dtype) { return size_of(dtype) == 8 ? TF_UINT64 : TF_UINT32; }

unsigned narrow(const Node& node, int64_t n) {
  if (n > std::numeric_limits<unsigned>::max()) {
    throw_resource_exhausted(node.describe(), ": ", n, " elements are beyond Metal's grid");
  }
  return static_cast<unsigned>(n);
}

// Encodes the parts of one sort; all slices are the call's.
class Sorter {
 public:
  Sorter(KernelCall& call, const Node& node, const RowsToSort& what)
      : call_(call), node_(node), what_(what) {
    narrow(node, what.rows * what.columns);
    arguments_.rows = narrow(node, what.rows);
    arguments_.columns = narrow(node, what.columns);
    arguments_.kept = narrow(node, what.kept);
    arguments_.descending = what.descending;
    arguments_.offset = static_cast<long>(what.offset);
    arguments_.stride = narrow(node, what.stride);
    arguments_.ordered = what.order.block != nullptr;
  }

  SortedOrder run() {
    const bool plain = arguments_.stride == 1 && !arguments_.ordered;
    if (plain && what_.kept * kSelective <= what_.columns) return select();
    return what_.columns <= kShortRow ? rank() : radix();
  }

 private:
  struct Elements {
    BufferSlice keys, columns;
  };
  Elements allocate(int64_t columns) {
    const int64_t count = what_.rows * columns;
    return {call_.allocate_temp({key_type(what_.dtype), {count}}),
            call_.allocate_temp({TF_UINT32, {count}})};
  }

  void encode(const std::vector<BufferSlice>& uses,
              const std::function<void(NativeCall&, ShaderArgument)>& body) {
    call_.encode(node_, {what_.values, what_.order}, uses,
                 static_cast<size_t>(what_.rows * what_.columns) * 8,
                 [&](NativeCall& native) { body(native, NativeCall::value(arguments_)); });
  }

  std::string of_keys(const char* stem) const { return shader_name(stem, key_type(what_.dtype)); }

  void make_keys(NativeCall& native, const Elements& to, ShaderArgument arguments) const {
    native.dispatch(shader_name("sort_keys", what_.dtype), what_.rows * what_.columns,
                    {{what_.values}, {order()}, {to.keys}, {to.columns}, arguments});
  }

  // Something to bind, if there is no order.
  const BufferSlice& order() const { return arguments_.ordered ? what_.order : what_.values; }

  SortBuffers allocate_sort() {
    const Elements from = allocate(what_.columns), to = allocate(what_.columns);
    return {from.keys, from.columns, to.keys, to.columns, {}, {}};
  }

  SortedOrder rank() {
    SortBuffers b = allocate_sort();
    encode({b.keys, b.items, b.other_keys, b.other_items},
           [&](NativeCall& native, ShaderArgument a) {
             make_keys(native, {b.keys, b.items}, a);
             sort_by_rank(native, key_type(what_.dtype), arguments_, &b);
           });
    return {b.items, what_.kept};
  }

  SortedOrder radix() {
    describe_sort(&arguments_, arguments_.rows, arguments_.columns,
                  radix_chunk(what_.rows * what_.columns));
    SortBuffers b = allocate_sort();
    b.counts = call_.allocate_temp({TF_UINT32, {radix_counts(arguments_)}});
    b.totals = call_.allocate_temp({TF_UINT32, {radix_totals(arguments_)}});
    encode({b.keys, b.items, b.other_keys, b.other_items, b.counts, b.totals},
           [&](NativeCall& native, ShaderArgument a) {
             make_keys(native, {b.keys, b.items}, a);
             radix_sort(native, key_type(what_.dtype), static_cast<unsigned>(size_of(what_.dtype)),
                        arguments_, &b);
           });
    return {b.items, what_.columns};
  }

  SortedOrder select() {
    split_for_selection();
    Elements best = allocate(int64_t{arguments_.chunks} * what_.kept);
    encode({best.keys, best.columns}, [&](NativeCall& native, ShaderArgument a) {
      native.dispatch(shader_name("select_first", what_.dtype), what_.rows * arguments_.chunks,
                      {{what_.values}, {best.keys}, {best.columns}, a}, NativeCall::kSmallGroup);
    });
    while (arguments_.chunks > 1) {
      arguments_.columns = arguments_.chunks * arguments_.kept;
      split_for_selection();
      const Elements from = std::exchange(best, allocate(int64_t{arguments_.chunks} * what_.kept));
      encode({from.keys, from.columns, best.keys, best.columns},
             [&](NativeCall& native, ShaderArgument a) {
               native.dispatch(of_keys("select_again"), what_.rows * arguments_.chunks,
                               {{from.keys}, {from.columns}, {best.keys}, {best.columns}, a},
                               NativeCall::kSmallGroup);
             });
    }
    return {best.columns, what_.kept};
  }

  void split(int64_t chunk) {
    arguments_.chunk = static_cast<unsigned>(std::min<int64_t>(chunk, arguments_.columns));
    arguments_.chunks = static_cast<unsigned>(divide_up(arguments_.columns, arguments_.chunk));
  }
  void split_for_selection() {
    split(
        std::max(kSelectPerKept * what_.kept,
                 std::clamp(what_.rows * int64_t{arguments_.columns} / kThreads, kFewest, kMost)));
  }

  KernelCall& call_;
  const Node& node_;
  const RowsToSort what_;
  SortArguments arguments_ = {};
};

// ---- TopKV2 -------------------------------------------------------------------------------------

constexpr size_t kInput = 0, kWanted = 1;

int64_t wanted(const Node& node) {
  if (node.in(kWanted).rank() != 0) {
    throw_invalid_argument(node.describe(), ": k must be scalar, got shape ",
                           to_string(node.in(kWanted).shape));
  }
  const int64_t k = node.host_int(kWanted);
  if (k < 0) throw_invalid_argument(node.describe(), ": Need k >= 0, got ", k);
  if (node.in(kInput).rank() == 0) {
    throw_invalid_argument(node.describe(), ": input must be >= 1-D, got shape []");
  }
  const int64_t columns = node.in(kInput).shape.back();
  if (columns < k) {
    throw_invalid_argument(node.describe(), ": input must have at least k columns. Had ", columns,
                           ", needed ", k);
  }
  return k;
}

TF_DataType word_of(TF_DataType dtype) {
  const size_t size = size_of(dtype);
  return size == 1 ? TF_UINT8 : size == 2 ? TF_UINT16 : size == 4 ? TF_UINT32 : TF_UINT64;
}

void top_k(KernelCall& call) {
  Node node = call.node();
  const int64_t k = wanted(node);
  const TF_DataType dtype = node.in(kInput).dtype, index = node.def->attr_type("index_type");
  Shape shape = node.in(kInput).shape;
  const int64_t columns = std::exchange(shape.back(), k);
  node.outputs = {{dtype, shape}, {index, shape}};
  const BufferSlice values = call.allocate_output(0, node.out(0));
  const BufferSlice indices = call.allocate_output(1, node.out(1));
  if (node.out().count() == 0) return;
  const BufferSlice input = call.input_slice(kInput);
  const int64_t rows = node.out().count() / k;
  const SortedOrder order = sorted_order(call, node, {input, dtype, rows, columns, k, true});
  SortArguments a = {};
  a.columns = static_cast<unsigned>(columns);
  a.chunk = static_cast<unsigned>(order.stride);
  a.kept = static_cast<unsigned>(k);
  call.encode(
      node, {input, order.columns}, {values, indices}, node.out().bytes(), [&](NativeCall& native) {
        native.dispatch(
            shader_name(shader_name("sorted_elements", word_of(dtype)), index), node.out().count(),
            {native.in(0), native.in(1), native.out(0), native.out(1), NativeCall::value(a)});
      });
}

}  // namespace

int64_t radix_chunk(int64_t count) { return std::clamp(count / kThreads, kFewest, kMost); }

void describe_sort(SortArguments* a, unsigned rows, unsigned columns, int64_t chunk) {
  a->rows = rows;
  a->columns = columns;
  a->chunk = static_cast<unsigned>(std::clamp<int64_t>(chunk, 1, std::max(columns, 1u)));
  a->chunks = static_cast<unsigned>(divide_up(columns, a->chunk));
}

void radix_sort(NativeCall& call, TF_DataType key, unsigned digits, SortArguments a,
                SortBuffers* b) {
  const int64_t threads = int64_t{a.rows} * a.chunks;
  const ShaderArgument arguments = NativeCall::value(a);
  for (unsigned digit = 0; digit < digits; ++digit) {
    a.shift = digit * SORT_DIGIT_BITS;
    call.dispatch(shader_name("radix_count", key), threads, {{b->keys}, {b->counts}, arguments},
                  NativeCall::kSmallGroup);
    call.dispatch("radix_scan", radix_totals(a), {{b->counts}, {b->totals}, arguments},
                  NativeCall::kSmallGroup);
    call.dispatch(shader_name("radix_scatter", key), threads,
                  {{b->keys},
                   {b->items},
                   {b->counts},
                   {b->totals},
                   {b->other_keys},
                   {b->other_items},
                   arguments},
                  NativeCall::kSmallGroup);
    std::swap(b->keys, b->other_keys);
    std::swap(b->items, b->other_items);
    a.first = 0;
  }
}

void sort_by_rank(NativeCall& call, TF_DataType key, const SortArguments& a, SortBuffers* b) {
  call.dispatch(shader_name("sort_by_rank", key), int64_t{a.rows} * a.columns,
                {{b->keys}, {b->items}, {b->other_keys}, {b->other_items}, NativeCall::value(a)},
                NativeCall::kSmallGroup);
  std::swap(b->keys, b->other_keys);
  std::swap(b->items, b->other_items);
}

SortedOrder sorted_order(KernelCall& call, const Node& node, const RowsToSort& what) {
  return Sorter(call, node, what).run();
}

std::vector<OpRow> sort_ops() {
  return {{.op = "TopKV2",
           .types = {{"T", kFloats + kIntegers}, {"index_type", {TF_INT16, TF_INT32, TF_INT64}}},
           .host = {{"k", HostUse::kArg}},
           .run = top_k,
           .precision = Precision::kClear}};
}

}  // namespace tfmetal
