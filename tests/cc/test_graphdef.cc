// The wire codec, attribute values, node definitions and the graph view, on bytes written by hand;
// real graphs and TensorFlow's own decoder are compared in tests/test_graphdef.py.
#include <ctime>

#include "grappler/graphdef/graph_view.h"
#include "grappler/graphdef/wire.h"
#include "tests/cc/check.h"
#include "tests/cc/graph_fuzz.h"

using namespace tfmetal;

template <class F>
std::string error_of(F run) {
  try {
    run();
  } catch (const Error& error) {
    return error.code == TF_INVALID_ARGUMENT ? error.what() : std::string("other code");
  }
  return "no error";
}

static bool contains(const std::string& text, const char* part) {
  return text.find(part) != std::string::npos;
}

TEST(wire_numbers_round_trip) {
  WireWriter out;
  out.varint(1, 0).varint(2, 300).varint(3, ~0ull).fixed32(4, -1.5f).fixed64(5, 2.25).bytes(6,
                                                                                            "ab");
  out.packed(7, std::vector<int64_t>{-1, 5}).packed(1000000, std::vector<float>{1.5f});
  std::vector<int64_t> ints;
  std::vector<float> floats;
  int fields = 0;
  std::string raw;
  for (WireReader r(out.str()); r.next(); ++fields) {
    raw += r.raw();
    if (r.is(2, WireType::kVarint)) CHECK_EQ(r.varint(), 300u);
    if (r.is(3, WireType::kVarint)) CHECK_EQ(r.varint(), ~0ull);
    if (r.is(4, WireType::kFixed32)) CHECK_EQ(r.fixed_float(), -1.5f);
    if (r.is(5, WireType::kFixed64)) CHECK_EQ(r.fixed_double(), 2.25);
    if (r.is(6, WireType::kBytes)) CHECK_EQ(r.bytes(), "ab");
    read_repeated(r, 7, ints);
    read_repeated(r, 1000000, floats);
  }
  CHECK_EQ(fields, 8);
  CHECK_EQ(raw, out.str());
  CHECK(ints == std::vector<int64_t>({-1, 5}));
  CHECK(floats == std::vector<float>({1.5f}));
}

TEST(wire_rejects_malformed) {
  const auto walk = [](std::string bytes) {
    return error_of([&] {
      for (WireReader r(bytes); r.next();) {
      }
    });
  };
  CHECK(contains(walk("\x08"), "ends inside a number"));
  CHECK(contains(walk("\x08" + std::string(11, '\x80')), "more than 10 bytes"));
  CHECK(contains(walk("\x0a\x05"
                      "ab"),
                 "2 are left"));
  CHECK(contains(walk("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), "are left"));
  CHECK(contains(walk(std::string("\x00\x01", 2)), "illegal tag"));
  CHECK(contains(walk("\x0e"), "wire type 6"));
  CHECK(contains(walk("\x0d\x01"), "are left"));
  CHECK(contains(walk(std::string(200, '\x0b')), "too deeply"));
  CHECK(contains(walk("\x0b\x14"), "ends wrongly"));
  CHECK_EQ(walk("\x0b\x08\x01\x0c"), "no error");  // a group, to be skipped
}

TEST(node_def_keeps_unknown_fields) {
  NodeDef node;
  node.name = "n";
  node.op = "MatMul";
  node.inputs = {"a", "b:1", "^c"};
  node.device = "/device:GPU:0";
  node.set_attr("T", AttrValue::of_type(TF_HALF));
  const std::string bytes = node.serialized() + WireWriter().bytes(6, "debug").varint(99, 7).str();
  NodeDef again = NodeDef::parse(bytes);
  CHECK_EQ(again.serialized(), bytes);
  again.name = "m";
  CHECK(contains(again.serialized(), "debug"));
}

TEST(node_def_typed_access) {
  NodeDef node;
  node.name = "layer/mul";
  node.op = "MatMul";
  node.set_attr("b", AttrValue::of_bool(true));
  node.set_attr("i", AttrValue::of_int(-3));
  node.set_attr("f", AttrValue::of_float(0.5f));
  node.set_attr("s", AttrValue::of_string("SAME"));
  node.set_attr("t", AttrValue::of_type(TF_BFLOAT16));
  node.set_attr("is", AttrValue::of_ints({1, -2}));
  node.set_attr("fs", AttrValue::of_floats({1.5f}));
  node.set_attr("ss", AttrValue::of_strings({"a", ""}));
  node.set_attr("ts", AttrValue::of_types({TF_INT32, TF_FLOAT}));
  node.set_attr("shape", AttrValue::of_shape({.dims = {2, -1, 0}}));
  node.set_attr("unknown", AttrValue::of_shape({.unknown_rank = true, .dims = {}}));
  node.set_attr("empty", AttrValue::of_ints({}));
  node = NodeDef::parse(node.serialized());
  CHECK(node.attr_bool("b"));
  CHECK_EQ(node.attr_int("i"), -3);
  CHECK_EQ(node.attr_float("f"), 0.5f);
  CHECK_EQ(node.attr_string("s"), "SAME");
  CHECK_EQ(node.attr_type("t"), TF_BFLOAT16);
  CHECK(node.attr_ints("is") == std::vector<int64_t>({1, -2}));
  CHECK(node.attr_floats("fs") == std::vector<float>({1.5f}));
  CHECK(node.attr_strings("ss") == std::vector<std::string>({"a", ""}));
  CHECK(node.attr_types("ts") == std::vector<TF_DataType>({TF_INT32, TF_FLOAT}));
  CHECK(node.attr_shape("shape").dims == std::vector<int64_t>({2, -1, 0}));
  CHECK(node.attr_shape("unknown").unknown_rank);
  CHECK(node.attr_ints("empty").empty());
  CHECK(node.attr_types("empty").empty());
  CHECK_EQ(node.attr_int("absent", 7), 7);
  CHECK(!node.has_attr("absent"));
  CHECK_EQ(error_of([&] { node.attr_int("absent"); }),
           "MatMul node 'layer/mul' has no attribute 'absent'");
  CHECK_EQ(error_of([&] { node.attr_int("s"); }),
           "MatMul node 'layer/mul', attribute 's': the value is a string, not an int");
  CHECK_EQ(error_of([&] { node.attr_ints("fs"); }),
           "MatMul node 'layer/mul', attribute 'fs': each element is a float, not an int");
  CHECK_EQ(error_of([&] { node.attr_ints("i", std::vector<int64_t>{}); }),
           "MatMul node 'layer/mul', attribute 'i': the value is an int, not a list");
}

TEST(attr_value_oneof_and_merge_as_protobuf) {
  const std::string two = AttrValue::of_int(1).serialized() + AttrValue::of_bool(true).serialized();
  CHECK(AttrValue::parse(two).as_bool());
  const std::string shapes = AttrValue::of_shape({.dims = {1}}).serialized() +
                             AttrValue::of_shape({.dims = {2}}).serialized();
  CHECK(AttrValue::parse(shapes).as_shape().dims == std::vector<int64_t>({1, 2}));
  const std::string strings =
      AttrValue::of_string("a").serialized() + AttrValue::of_string("b").serialized();
  CHECK_EQ(AttrValue::parse(strings).as_string(), "b");
}

TEST(attr_value_depth_is_bounded) {
  AttrValue value = AttrValue::of_int(1);
  const auto wrap = [&] { value = AttrValue::of_func({"f", {{"a", value}}}); };
  for (int i = 0; i < 20; ++i) wrap();
  CHECK_EQ(value.as_func().name, "f");
  CHECK(contains(error_of([&] {
                   for (int i = 0; i < 40; ++i) wrap();
                 }),
                 "too deeply"));
}

TEST(canonical_attributes_ignore_order_and_private_names) {
  NodeDef a, b;
  a.set_attr("T", AttrValue::of_type(TF_FLOAT));
  a.set_attr("N", AttrValue::of_int(2));
  a.set_attr("_class", AttrValue::of_string("x"));
  a.set_attr("f",
             AttrValue::of_func({"g", {{"x", AttrValue::of_int(1)}, {"y", AttrValue::of_int(2)}}}));
  b.set_attr("f",
             AttrValue::of_func({"g", {{"y", AttrValue::of_int(2)}, {"x", AttrValue::of_int(1)}}}));
  b.set_attr("N", AttrValue::of_int(2));
  b.set_attr("T", AttrValue::of_type(TF_FLOAT));
  CHECK(canonical_attributes(a) == canonical_attributes(b));
  b.set_attr("N", AttrValue::of_int(3));
  CHECK(canonical_attributes(a) != canonical_attributes(b));
}

TEST(tensor_proto_values) {
  const int32_t ints[] = {5, -6};
  const TensorProto t =
      TensorProto::make(TF_INT32, {2}, {reinterpret_cast<const char*>(ints), sizeof ints});
  CHECK(t.ints() == std::vector<int64_t>({5, -6}));
  // dtype half, shape [3], half_val {1.0, -2.0}: the last value repeats.
  const std::string splat = WireWriter()
                                .varint(1, TF_HALF)
                                .bytes(2, PartialShape{.dims = {3}}.serialized())
                                .packed(13, std::vector<int64_t>{0x3c00, 0xc000})
                                .str();
  CHECK(TensorProto::parse(splat).doubles() == std::vector<double>({1, -2, -2}));
  const std::string zeros =
      WireWriter().varint(1, TF_FLOAT).bytes(2, PartialShape{.dims = {2}}.serialized()).str();
  CHECK(TensorProto::parse(zeros).doubles() == std::vector<double>({0, 0}));
  const std::string bomb = WireWriter()
                               .varint(1, TF_FLOAT)
                               .bytes(2, PartialShape{.dims = {1 << 30, 1 << 30}}.serialized())
                               .str();
  CHECK_EQ(error_of([&] { TensorProto::parse(bomb).data(); }), "other code");
  CHECK(contains(error_of([&] { TensorProto::make(TF_INT32, {3}, "abcd"); }), "4 bytes, not 12"));
}

static NodeDef make_node(std::string name, std::string op, std::vector<std::string> inputs) {
  NodeDef node;
  node.name = std::move(name);
  node.op = std::move(op);
  node.inputs = std::move(inputs);
  return node;
}

// a -> b -> d, a:1 -> c -> d, c ^-> e, and a library that nobody here understands.
static GraphDef small_graph() {
  GraphDef graph;
  graph.nodes = {make_node("d", "AddV2", {"b", "c"}), make_node("a", "Split", {}),
                 make_node("b", "Relu", {"a:0"}), make_node("c", "Sqrt", {"a:1", "^a"}),
                 make_node("e", "NoOp", {"^c", "^d"})};
  graph.rest = WireWriter().bytes(2, "library").varint(99, 1).take();
  return graph;
}

static std::string inputs_of(const GraphView& view, const char* name) {
  for (const NodeDef& node : view.graph().nodes) {
    if (node.name != name) continue;
    std::string out;
    for (const std::string& input : node.inputs) out += input + " ";
    return out;
  }
  return "no such node";
}

// Every edge must be known at both ends.
static void check_consistent(const GraphView& view) {
  size_t uses = 0, inputs = 0;
  for (size_t i = 0; i < view.size(); ++i) {
    GraphNode& node = view.node(i);
    if (node.removed()) continue;
    CHECK(view.find(node.name()) == &node);
    inputs += node.num_inputs() + node.num_controls();
    uses += node.num_data_uses() + node.num_control_uses();
    CHECK_EQ(node.data_uses().size(), node.num_data_uses());
    CHECK_EQ(node.control_uses().size(), node.num_control_uses());
    for (const Use& use : node.data_uses())
      CHECK(use.node->input(size_t(use.index)).node == &node && !use.node->removed());
    for (GraphNode* waiting : node.control_uses()) {
      const std::vector<GraphNode*> controls = waiting->controls();
      CHECK(std::count(controls.begin(), controls.end(), &node) == 1 && !waiting->removed());
    }
  }
  CHECK_EQ(uses, inputs);
}

TEST(view_round_trip_and_edges) {
  const GraphDef graph = small_graph();
  CHECK_EQ(GraphDef::parse(graph.serialized()).serialized(), graph.serialized());
  const GraphView view{GraphDef(graph)};
  CHECK_EQ(view.graph().serialized(), graph.serialized());
  check_consistent(view);
  GraphNode& a = *view.find("a");
  CHECK_EQ(a.uses(1).size(), 1u);
  CHECK(a.uses(1)[0].node == view.find("c"));
  CHECK_EQ(a.num_control_uses(), 1u);
  CHECK(view.find("d")->input(1) == (Output{view.find("c"), 0}));
  CHECK(view.find("e")->controls() == std::vector<GraphNode*>({view.find("c"), view.find("d")}));
  CHECK(view.find("nothing") == nullptr);
}

TEST(view_rejects_broken_graphs) {
  const auto build = [](std::vector<NodeDef> nodes) {
    return error_of([&] { GraphView view(GraphDef{nodes, ""}); });
  };
  CHECK(contains(build({make_node("a", "X", {}), make_node("a", "X", {})}), "two nodes named"));
  CHECK(contains(build({make_node("a", "X", {"b:1"})}), "not there"));
  CHECK(contains(build({make_node("a", "X", {"^b", "b"}), make_node("b", "X", {})}),
                 "after a control"));
}

TEST(view_rename_add_replace_remove) {
  GraphView view(small_graph());
  view.rename(*view.find("a"), "split");
  CHECK_EQ(inputs_of(view, "c"), "split:1 ^split ");
  GraphNode& fused =
      view.add(make_node("fused", "_Fused", {}), {{view.find("split"), 1}}, {view.find("split")});
  view.replace_uses({view.find("c"), 0}, {&fused, 0});
  CHECK_EQ(inputs_of(view, "d"), "b fused ");
  view.remove(*view.find("c"));  // "e" now waits for what "c" waited for
  CHECK_EQ(inputs_of(view, "e"), "^d ^split ");
  CHECK(view.find("c") == nullptr);
  check_consistent(view);

  NodeDef other = make_node("ignored", "MatMul", {});
  other.set_attr("T", AttrValue::of_type(TF_FLOAT));
  view.redefine(*view.find("d"), other, {{view.find("split"), 0}, {view.find("split"), 0}});
  CHECK_EQ(inputs_of(view, "d"), "split split ");
  CHECK_EQ(view.find("d")->op(), "MatMul");
  check_consistent(view);
  view.set_input(*view.find("d"), 1, {view.find("b"), 0});
  view.remove_control(*view.find("split"), *view.find("e"));
  CHECK_EQ(inputs_of(view, "e"), "^d ");
  check_consistent(view);
  CHECK_EQ(view.unique_name("b"), "b_1");
  CHECK(contains(view.graph().rest, "library"));
}

TEST(view_refuses_to_break_the_graph) {
  GraphView view(small_graph());
  const std::string before = view.graph().serialized();
  const auto refused = [](auto edit) {
    try {
      edit();
    } catch (const Error& error) {
      return error.code == TF_FAILED_PRECONDITION || error.code == TF_OUT_OF_RANGE;
    }
    return false;
  };
  GraphNode& a = *view.find("a");
  GraphNode& d = *view.find("d");
  CHECK(refused([&] { view.remove(a); }));
  CHECK(refused([&] { view.rename(a, "b"); }));
  CHECK(refused([&] { view.add(make_node("a", "X", {}), {}); }));
  CHECK(refused([&] { view.add(make_node("x", "X", {"a"}), {}); }));
  CHECK(refused([&] { view.set_input(d, 0, {&d, 0}); }));
  CHECK(refused([&] { view.set_input(d, 2, {&a, 0}); }));
  CHECK(refused([&] { view.set_input(d, 0, {&a, kControlPort}); }));
  CHECK(refused([&] { view.add_control(a, a); }));
  CHECK(refused([&] { view.redefine(d, make_node("", "X", {}), {{&d, 0}}); }));
  CHECK(refused([&] { d.input(2); }));
  CHECK_EQ(view.graph().serialized(), before);
  view.remove(*view.find("e"));
  CHECK(refused([&] { view.remove(*&view.node(4)); }));
  CHECK(refused([&] { view.add_control(view.node(4), a); }));
}

TEST(view_survives_random_edits) {
  std::mt19937 random(7);
  GraphView view(small_graph());
  const auto pick = [&]() -> GraphNode& { return view.node(random() % view.size()); };
  int added = 0;
  for (int i = 0; i < 3000; ++i) {
    try {
      switch (random() % 6) {
        case 0:
          view.add(make_node(concat("n", added++), "Op", {}), {{&pick(), 0}, {&pick(), 1}},
                   {&pick()});
          break;
        case 1:
          view.replace_uses({&pick(), int(random() % 2)}, {&pick(), 0});
          break;
        case 2:
          if (random() % 4 == 0) view.remove(pick());
          break;
        case 3:
          view.add_control(pick(), pick());
          break;
        case 4:
          view.set_input(pick(), random() % 2, {&pick(), 1});
          break;
        case 5:
          view.remove_control(pick(), pick());
          break;
      }
    } catch (const Error& error) {
      CHECK(error.code == TF_FAILED_PRECONDITION || error.code == TF_OUT_OF_RANGE);
    }
  }
  check_consistent(view);
  // What the view writes is a graph, with the same edges.
  const std::string bytes = view.graph().serialized();
  CHECK(view.graph().nodes.size() > 100);
  CHECK_EQ(GraphView(GraphDef::parse(bytes)).graph().serialized(), bytes);
}

// CPU time of parsing, editing and writing 10,000 nodes, all reading one node and one waiting for
// all. An algorithm with a quadratic step takes seconds.
TEST(view_ten_thousand_nodes) {
  constexpr int kNodes = 10000;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  constexpr double kLimitSeconds = 4;
#else
  constexpr double kLimitSeconds = 0.2;
#endif
  GraphDef graph;
  graph.nodes.push_back(make_node("source", "Const", {}));
  NodeDef all = make_node("all", "NoOp", {});
  for (int i = 0; i < kNodes; ++i) {
    NodeDef node = make_node(concat("layer/block/node_", i), "AddV2", {"source"});
    node.inputs.push_back(i ? concat("layer/block/node_", i - 1) : "source");
    for (const char* name : {"T", "_class", "_output_shapes", "N", "transpose_a"})
      node.set_attr(name, AttrValue::of_type(TF_FLOAT));
    all.inputs.push_back("^" + node.name);
    graph.nodes.push_back(std::move(node));
  }
  graph.nodes.push_back(all);
  const std::string bytes = graph.serialized();
  const std::clock_t start = std::clock();
  GraphView view(GraphDef::parse(bytes));
  GraphNode& other = view.add(make_node("other", "Const", {}), {});
  view.replace_uses({view.find("source"), 0}, {&other, 0});
  for (int i = kNodes - 1; i >= kNodes / 2; --i) {
    GraphNode& node = *view.find(concat("layer/block/node_", i));
    view.remove_control(node, *view.find("all"));
    view.remove(node);
  }
  const std::string result = view.graph().serialized();
  const double seconds = double(std::clock() - start) / CLOCKS_PER_SEC;
  CHECK_EQ(GraphDef::parse(result).nodes.size(), size_t(kNodes / 2 + 3));
  CHECK(seconds < kLimitSeconds);
  std::printf("     %.0f ms\n", seconds * 1e3);
}

TEST(damaged_graphs_are_rejected_cleanly) {
  GraphDef graph = small_graph();
  NodeDef& node = graph.nodes[0];
  const float values[] = {1, 2, 3, 4};
  const std::string_view content(reinterpret_cast<const char*>(values), sizeof values);
  node.set_attr("value", AttrValue::of_tensor(TensorProto::make(TF_FLOAT, {2, 2}, content)));
  node.set_attr("shape", AttrValue::of_shape({.unknown_rank = false, .dims = {1, -1}}));
  node.set_attr("f", AttrValue::of_func({"g", {{"x", AttrValue::of_ints({1, 2, 3})}}}));
  node.set_attr("s", AttrValue::of_strings({"NHWC", ""}));
  node.set_attr("t", AttrValue::of_types({TF_FLOAT, TF_HALF}));
  node.set_attr("fs", AttrValue::of_floats({1, 2}));
  constexpr int kCopies = 20000;
  const fuzz::Result result = fuzz::run(graph.serialized(), kCopies, 1);
  CHECK_EQ(result.parsed + result.rejected, kCopies);
  // Both outcomes must occur, else the damage is too small or too large to test anything.
  CHECK(result.parsed > kCopies / 50);
  CHECK(result.rejected > kCopies / 10);
  std::printf("     %d parsed, %d rejected\n", result.parsed, result.rejected);
}

TEST_MAIN()
