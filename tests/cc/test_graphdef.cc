// The wire codec, attribute values and node definitions, on bytes written by hand; real graphs and
// TensorFlow's own decoder are compared in tests/test_graphdef.py.
#include "grappler/graphdef/node_def.h"
#include "grappler/graphdef/wire.h"
#include "tests/cc/check.h"

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

TEST_MAIN()
