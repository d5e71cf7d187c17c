// Shows tests/test_graphdef.py what the codec makes of bytes.
//   tool_graphdef roundtrip IN OUT   parses a GraphDef, also as a view, and writes it again
//   tool_graphdef decode IN          IN: records of a 32-bit length and a NodeDef. Prints one line
//                                    per record: "error: ...", or name, inputs and attributes
//   tool_graphdef fuzz IN COUNT SEED parses COUNT damaged copies of a GraphDef
//   tool_graphdef time IN            milliseconds for parsing, viewing and writing a GraphDef
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>

#include "grappler/graphdef/graph_view.h"
#include "tests/cc/graph_fuzz.h"

using namespace tfmetal;

namespace {

std::string read_file(const char* path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw_not_found("Cannot read ", path);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::string hex(std::string_view bytes) {
  std::string out;
  for (const unsigned char c : bytes) {
    out += "0123456789abcdef"[c >> 4];
    out += "0123456789abcdef"[c & 15];
  }
  return out;
}

template <class T>
std::string join(const std::vector<T>& list, std::string (*show)(const T&)) {
  std::string out = "[";
  for (const T& item : list) out += show(item) + ";";
  return out + "]";
}

std::string show(const AttrValue& value);

std::string show_string(const std::string& value) { return "s" + hex(value); }
std::string show_int(const int64_t& value) { return concat("i", value); }
std::string show_type(const TF_DataType& value) { return concat("t", int(value)); }
std::string show_float(const float& value) {
  if (value != value) return "fnan";
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return concat("f", bits);
}
std::string show_shape(const PartialShape& shape) {
  std::string out = shape.unknown_rank ? "shape(?" : "shape(";
  for (const int64_t dim : shape.dims) out += concat(dim, ",");
  return out + ")";
}
std::string show_tensor(const TensorProto& tensor) {
  std::string data;
  try {
    if (tensor.dtype() == TF_STRING) {
      for (const std::string& text : tensor.strings()) data += hex(text) + ",";
    } else {
      data = hex(tensor.data(1 << 16));
    }
  } catch (const Error&) {
    data = "?";
  }
  return concat("tensor(", int(tensor.dtype()), " ", show_shape(tensor.shape()), " {", data, "})");
}
std::string show_func(const AttrFunc& func) {
  std::vector<std::string> attrs;
  for (const Attribute& attr : func.attrs)
    attrs.push_back(hex(attr.first) + "=" + show(attr.second));
  std::sort(attrs.begin(), attrs.end());
  std::string out = "func(" + hex(func.name);
  for (const std::string& attr : attrs) out += " " + attr;
  return out + ")";
}

std::string show_list(const AttrValue& value) {
  using Kind = AttrValue::Kind;
  switch (value.element_kind()) {
    case Kind::kString:
      return join(value.as_strings(), show_string);
    case Kind::kInt:
      return join(value.as_ints(), show_int);
    case Kind::kFloat:
      return join(value.as_floats(), show_float);
    case Kind::kBool: {
      std::string out = "[";
      for (const bool b : value.as_bools()) out += b ? "b1;" : "b0;";
      return out + "]";
    }
    case Kind::kType:
      return join(value.as_types(), show_type);
    case Kind::kShape:
      return join(value.as_shapes(), show_shape);
    case Kind::kTensor:
      return join(value.as_tensors(), show_tensor);
    case Kind::kFunc:
      return join(value.as_funcs(), show_func);
    default:
      return "[]";
  }
}

std::string show(const AttrValue& value) {
  using Kind = AttrValue::Kind;
  switch (value.kind()) {
    case Kind::kString:
      return show_string(value.as_string());
    case Kind::kInt:
      return show_int(value.as_int());
    case Kind::kFloat:
      return show_float(value.as_float());
    case Kind::kBool:
      return value.as_bool() ? "b1" : "b0";
    case Kind::kType:
      return show_type(value.as_type());
    case Kind::kShape:
      return show_shape(value.as_shape());
    case Kind::kTensor:
      return show_tensor(value.as_tensor());
    case Kind::kPlaceholder:
      return "p" + hex(value.as_placeholder());
    case Kind::kFunc:
      return show_func(value.as_func());
    case Kind::kList:
      return show_list(value);
    default:
      return "none";
  }
}

std::string show(const NodeDef& node) {
  std::string out = hex(node.name) + " " + hex(node.op) + " " + hex(node.device) + " (";
  for (const std::string& input : node.inputs) out += hex(input) + ",";
  std::vector<std::string> attrs;
  for (const Attribute& attr : node.attrs())
    attrs.push_back(hex(attr.first) + "=" + show(attr.second));
  std::sort(attrs.begin(), attrs.end());
  out += ")";
  for (const std::string& attr : attrs) out += " " + attr;
  return out;
}

int roundtrip(const char* in, const char* out) {
  const GraphDef graph = GraphDef::parse(read_file(in));
  const std::string direct = graph.serialized();
  if (GraphView(graph).graph().serialized() != direct) throw_internal("the view changed the graph");
  std::ofstream(out, std::ios::binary) << direct;
  return 0;
}

int decode(const char* in) {
  const std::string file = read_file(in);
  for (size_t at = 0; at + sizeof(uint32_t) <= file.size();) {
    uint32_t length;
    std::memcpy(&length, &file[at], sizeof length);
    at += sizeof length;
    try {
      const NodeDef node = NodeDef::parse(std::string_view(file).substr(at, length));
      canonical_attributes(node);
      std::cout << show(node) << "\n";
    } catch (const Error& error) {
      std::cout << "error: " << error.what() << "\n";
    }
    at += length;
  }
  return 0;
}

int fuzz_file(const char* in, int count, unsigned seed) {
  const fuzz::Result result = fuzz::run(read_file(in), count, seed);
  std::printf("%d parsed, %d rejected\n", result.parsed, result.rejected);
  return 0;
}

int time_it(const char* in) {
  const std::string bytes = read_file(in);
  const auto start = std::chrono::steady_clock::now();
  const std::string again = GraphView(GraphDef::parse(bytes)).graph().serialized();
  const std::chrono::duration<double, std::milli> spent = std::chrono::steady_clock::now() - start;
  std::printf("%.1f\n", spent.count());
  return again != bytes;
}

}  // namespace

int main(int argc, char** argv) try {
  const std::string mode = argc > 2 ? argv[1] : "";
  if (mode == "roundtrip" && argc == 4) return roundtrip(argv[2], argv[3]);
  if (mode == "decode" && argc == 3) return decode(argv[2]);
  if (mode == "fuzz" && argc == 5)
    return fuzz_file(argv[2], std::atoi(argv[3]), unsigned(std::atoi(argv[4])));
  if (mode == "time" && argc == 3) return time_it(argv[2]);
  std::fprintf(stderr, "usage: see the source\n");
  return 2;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
