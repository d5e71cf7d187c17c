// Large graphs on the host: whatever order and grouping an executable chooses, values stay.
#include <random>

#include "tests/cc/graph_check.h"

using namespace graph_check;
using mpsg::Tensor;

namespace {

// One operation of a random graph on earlier values.
struct Operation {
  int kind;
  size_t a, b;
};
constexpr int kKinds = 15;

ns::Array list_of(const Shape& values) { return ns::Array::numbers(values); }

bool fits(const Operation& o, const Shape& a, const Shape& b) {
  const bool same_rank = a.size() == b.size();
  bool broadcasts = same_rank || b.size() == 1;
  for (size_t i = 0; i < b.size() && broadcasts; ++i) {
    const long x = a[a.size() - b.size() + i];
    broadcasts = x == b[i] || b[i] == 1 || x == 1;
  }
  if (o.kind < 5) return broadcasts;
  if (o.kind == 9) return a.size() == 1;                    // broadcast to the shape of values
  if (o.kind == 11 || o.kind == 13) return a.size() == 3;   // reshapes
  if (o.kind == 14) return a.size() == 3 && a.back() == 1;  // tiles
  return a.size() >= 2;
}

Tensor apply(const Operation& o, const mpsg::Graph& g, Tensor a, Tensor b, const Shape& shape) {
  const long rank = long(shape.size());
  switch (o.kind) {
    case 0:
      return g.add(a, b);
    case 1:
      return g.mul(a, b);
    case 2:
      return g.maximum(a, b);
    case 3:
      return g.sub(g.add(a, b), g.constant(0.25, a.data_type()));
    case 4:
      return g.minimum(a, b);
    case 5:
      return g.tanh(a);
    case 6:
      return g.mean(a, list_of({rank - 1}));
    case 7:
      return g.softmax(a, rank - 1);
    case 8:
      return g.identity(g.tanh(a));
    case 9:
      return g.broadcast(a, list_of({6, 40, shape[0]}));
    case 10:
      return g.mean(a, list_of({0}));
    case 11:
      return g.reshape(g.tanh(a), list_of({shape[0] * shape[1], shape[2]}));
    case 14:
      return g.tile(a, list_of({1, 1, 32}));
    case 12:
      return g.identity(g.variance(a, list_of({rank - 1})));
    default:
      return g.identity(g.reshape(a, list_of({shape[0], shape[1] * shape[2]})));
  }
}

void check_random_graph(unsigned seed, DataType type) {
  std::mt19937 random(seed);
  const std::vector<Value> feeds = {random_value(type, {6, 40, 32}),
                                    random_value(type, {6, 40, 32}), random_value(type, {240, 32}),
                                    random_value(type, {32}), random_value(type, {6, 40, 1})};
  std::vector<Value> values = feeds;
  Runner whole;
  std::vector<Tensor> tensors;
  for (const Value& v : feeds) tensors.push_back(whole.feed(v));
  std::vector<bool> is_read(values.size(), true);
  while (values.size() < 60) {
    const Operation o{int(random() % kKinds), random() % values.size(), random() % values.size()};
    if (!fits(o, values[o.a].shape, values[o.b].shape)) continue;
    Runner single;
    const Tensor a = single.feed(values[o.a]), b = single.feed(values[o.b]);
    values.push_back(single.run(apply(o, single.graph(), a, b, values[o.a].shape)));
    tensors.push_back(
        apply(o, whole.graph(), tensors[o.a], tensors[o.b], Runner::shape(tensors[o.a])));
    is_read[o.a] = is_read[o.b] = true;
    is_read.push_back(random() % 4 != 0);
  }
  std::vector<Tensor> targets;
  std::vector<const Value*> want;
  for (size_t i = feeds.size(); i < values.size(); ++i) {
    if (is_read[i] && i + 1 < values.size()) continue;
    targets.push_back(tensors[i]);
    want.push_back(&values[i]);
  }
  const std::vector<Value> got = whole.run(targets);
  for (size_t i = 0; i < got.size(); ++i) {
    check_close(("seed " + std::to_string(seed)).c_str(), got[i], want[i]->doubles(),
                epsilon(type));
  }
}

}  // namespace

TEST(random_graphs_give_what_their_operations_give) {
  for (unsigned seed = 0; seed < 60; ++seed) {
    check_random_graph(seed, kFloats[seed % kFloats.size()]);
  }
}

TEST_MAIN()
