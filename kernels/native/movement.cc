#include "kernels/native/movement.h"

#include <algorithm>

#include "kernels/native/strided.h"
#include "plugin/error.h"

namespace tfmetal {

namespace {

constexpr unsigned kChunk = 16;  // elements per thread: the map is worked out once for all

bool is_alone(const ElementMap& map, size_t f) {
  return std::count_if(map.factors.begin(), map.factors.end(), [&](const MapFactor& other) {
           return other.axis == map.factors[f].axis;
         }) == 1;
}

// Whether the factor walks over all of its axis, in order.
bool is_whole(const ElementMap& map, size_t f) {
  const MapFactor& factor = map.factors[f];
  return is_alone(map, f) && factor.step == 1 && factor.extent == map.sizes[factor.axis] &&
         map.starts[factor.axis] == 0;
}

// Whether factor f + 1 and its axis continue factor f and its axis.
bool mergeable(const ElementMap& map, size_t f) {
  const bool mirrors = map.edge == kEdgeReflect || map.edge == kEdgeSymmetric;
  return map.factors[f + 1].axis == map.factors[f].axis + 1 && is_whole(map, f + 1) &&
         (mirrors ? is_whole(map, f) : map.factors[f].step == 1);
}

// Long runs are copied faster: joins neighbouring factors where the tensor's axes can be joined.
ElementMap merged(ElementMap map) {
  map.starts.resize(map.sizes.size(), 0);
  for (size_t f = map.factors.size() - 1; f-- > 0;) {
    if (!mergeable(map, f)) continue;
    const size_t axis = map.factors[f].axis;
    const int64_t inner = map.sizes[axis + 1];
    map.factors[f].extent *= inner;
    map.factors.erase(map.factors.begin() + static_cast<std::ptrdiff_t>(f) + 1);
    for (size_t i = 0; i < map.factors.size(); ++i) {
      if (map.factors[i].axis == axis && i != f) map.factors[i].step *= inner;
      if (map.factors[i].axis > axis) --map.factors[i].axis;
    }
    map.sizes[axis] *= inner;
    map.starts[axis] *= inner;
    map.sizes.erase(map.sizes.begin() + static_cast<std::ptrdiff_t>(axis) + 1);
    map.starts.erase(map.starts.begin() + static_cast<std::ptrdiff_t>(axis) + 1);
  }
  return map;
}

MapArguments map_arguments(const ElementMap& given, const Node& node) {
  const ElementMap map = merged(given);
  if (map.factors.size() > MAX_SHADER_RANK || map.sizes.size() > MAX_SHADER_RANK) {
    throw_invalid_argument(node.describe(), ": more than ", MAX_SHADER_RANK, " dimensions");
  }
  MapArguments m = {};
  m.edge = map.edge;
  m.rank = static_cast<unsigned>(map.factors.size());
  m.mapped = static_cast<unsigned>(map.sizes.size());
  m.chunk = kChunk;
  for (size_t f = 0; f < map.factors.size(); ++f) {
    m.extents[f] = static_cast<unsigned>(map.factors[f].extent);
    m.steps[f] = static_cast<int>(map.factors[f].step);
    m.axes[f] = static_cast<unsigned>(map.factors[f].axis);
  }
  int64_t stride = 1;
  for (size_t k = map.sizes.size(); k-- > 0;) {
    m.sizes[k] = static_cast<int>(map.sizes[k]);
    m.starts[k] = static_cast<int>(map.starts[k]);
    m.strides[k] = stride;
    stride *= map.sizes[k];
  }
  return m;
}

int64_t threads(const MapArguments& m) {
  int64_t rows = 1;
  for (unsigned f = 0; f + 1 < m.rank; ++f) rows *= m.extents[f];
  return rows * ((m.extents[m.rank - 1] + m.chunk - 1) / m.chunk);
}

// Whether the factors are the axes themselves, few enough for a grid.
bool is_rows(const MapArguments& m) {
  if (m.edge != kEdgeValue || m.rank != m.mapped || m.rank > 3) return false;
  for (unsigned f = 0; f < m.rank; ++f) {
    if (m.axes[f] != f || m.steps[f] != 1 || m.extents[f] > INT32_MAX) return false;
  }
  return true;
}

void load_rows(NativeCall& call, const MapArguments& m, const ShaderArgument& in,
               const ShaderArgument& outside) {
  MapRowsArguments rows = {{0, 0, 0}, {1, 1, 1}, 1, 1};
  unsigned extents[3] = {1, 1, 1};
  for (unsigned f = 0; f < m.rank; ++f) {
    const unsigned axis = 3 - m.rank + f;
    rows.starts[axis] = m.starts[f];
    rows.sizes[axis] = m.sizes[f];
    extents[axis] = m.extents[f];
  }
  rows.rows = extents[1];
  rows.length = extents[2];
  call.dispatch(strided_shader("map_load_rows", call.node.out().dtype),
                {extents[2], extents[1], extents[0]},
                {in, outside, call.out(), NativeCall::value(rows)});
}

}  // namespace

ElementMap axis_map(const Shape& dense, const Shape& sizes, const Shape& starts, MapEdge edge) {
  if (dense.empty()) return {{{1, 0}}, {1}, {0}, edge};
  ElementMap map{{}, sizes, starts, edge};
  for (size_t k = 0; k < dense.size(); ++k) map.factors.push_back({dense[k], k});
  return map;
}

void map_load(NativeCall& call, const ElementMap& map, size_t input, const ShaderArgument* value) {
  const MapArguments m = map_arguments(map, call.node);
  const uint64_t zero = 0;
  // An input without elements has no memory; nothing of it is read.
  const ShaderArgument in = call.inputs[input].block ? call.in(input) : call.out();
  const ShaderArgument outside = value ? *value : NativeCall::value(zero);
  if (is_rows(m)) return load_rows(call, m, in, outside);
  call.dispatch(strided_shader("map_load", call.node.out().dtype), threads(m),
                {in, outside, call.out(), NativeCall::value(m)});
}

void map_store(NativeCall& call, const ElementMap& map, size_t input) {
  const MapArguments m = map_arguments(map, call.node);
  call.dispatch(strided_shader("map_store", call.node.out().dtype), threads(m),
                {call.in(input), call.out(), NativeCall::value(m)});
}

void fill_zero(NativeCall& call) { call.clear(call.outputs[0], call.node.out().bytes()); }

}  // namespace tfmetal
