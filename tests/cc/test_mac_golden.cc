// Results measured on a real Mac (tests/golden/mac_golden.tsv, made by tools/make_golden.py)
// against the host's MPSGraph. Every row whose method the host implements has to run here: values
// bit by bit, aborts in a child process with Apple's message.
#include <cmath>
#include <fstream>
#include <map>
#include <set>

#include "tests/cc/check.h"
#include "tests/cc/run_graph.h"

using namespace run_graph;

namespace {

struct GoldenTensor {
  Value value;
  std::vector<bool> published, any_nan;  // per element
  bool ranked = true;
};

struct Row {
  std::string id, selector, abort_message;
  std::vector<GoldenTensor> inputs, outputs;
  std::map<std::string, std::string> attributes;
  bool aborts = false;
  double tolerance = 0;
};

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  for (size_t at = 0;; ++at) {
    const size_t end = text.find(separator, at);
    parts.push_back(text.substr(at, end - at));
    if (end == std::string::npos) return parts;
    at = end;
  }
}

const std::map<std::string, DataType> kTypes = {
    {"float32", DataType::Float32}, {"float16", DataType::Float16}, {"int8", DataType::Int8},
    {"int16", DataType::Int16},     {"int32", DataType::Int32},     {"int64", DataType::Int64},
    {"uint8", DataType::UInt8},     {"uint16", DataType::UInt16},   {"uint32", DataType::UInt32},
    {"uint64", DataType::UInt64},   {"bool", DataType::Bool}};

GoldenTensor parse_tensor(const std::string& text) {
  const std::vector<std::string> parts = split(text, ':');
  GoldenTensor tensor;
  tensor.value.type = kTypes.at(parts[0]);
  tensor.ranked = parts[1] != "nil";
  if (!tensor.ranked) return tensor;
  for (const std::string& extent : split(parts[1], 'x')) {
    if (!extent.empty()) tensor.value.shape.push_back(std::stol(extent));
  }
  const size_t count = size_t(tensor.value.count()), size = mps::size_of(tensor.value.type);
  tensor.value.bytes.resize(count * size);
  tensor.published.assign(count, false);
  tensor.any_nan.assign(count, false);
  if (parts[2].empty()) return tensor;
  const std::vector<std::string> elements = split(parts[2], ',');
  for (size_t i = 0; i < count; ++i) {
    if (elements[i] == "?") continue;
    if (elements[i] == "nan") {  // any of them
      const Value nan = value(tensor.value.type, {}, {std::nan("")});
      std::memcpy(&tensor.value.bytes[i * size], nan.bytes.data(), size);
      tensor.any_nan[i] = tensor.published[i] = true;
      continue;
    }
    const uint64_t bits = std::stoull(elements[i], nullptr, 16);
    std::memcpy(&tensor.value.bytes[i * size], &bits, size);  // little endian
    tensor.published[i] = true;
  }
  return tensor;
}

std::vector<GoldenTensor> parse_tensors(const std::string& text) {
  std::vector<GoldenTensor> tensors;
  for (const std::string& part : split(text, ' ')) {
    if (!part.empty()) tensors.push_back(parse_tensor(part));
  }
  return tensors;
}

std::vector<Row> read_rows() {
  std::ifstream file(TFMETAL_SOURCE_DIR "/tests/golden/mac_golden.tsv");
  std::vector<Row> rows;
  for (std::string line; std::getline(file, line);) {
    const std::vector<std::string> columns = split(line, '\t');
    Row row;
    row.id = columns[0];
    row.selector = columns[1];
    row.inputs = parse_tensors(columns[2]);
    for (const std::string& pair : split(columns[3], ';')) {
      const size_t equals = pair.find('=');
      if (equals != std::string::npos)
        row.attributes[pair.substr(0, equals)] = pair.substr(equals + 1);
    }
    const std::string abort = "abort: ";
    row.aborts = columns[4].compare(0, abort.size(), abort) == 0;
    if (row.aborts)
      row.abort_message = columns[4].substr(abort.size());
    else
      row.outputs = parse_tensors(columns[4]);
    if (!columns[5].empty()) row.tolerance = std::stod(columns[5]);
    rows.push_back(std::move(row));
  }
  return rows;
}

// ---- calls -----------------------------------------------------------------------------------

// Call sites live forever: the runtime remembers which it has checked.
const objc::Selector& call_site(const std::string& selector) {
  static std::map<std::string, objc::Selector> sites;
  return sites.try_emplace(selector, selector.c_str()).first->second;
}

// A row with its operands fed: what the callers below need.
struct Call {
  const Row& row;
  Runner& runner;
  std::vector<mpsg::Tensor> inputs;

  id graph() const { return runner.graph().raw(); }
  long integer(const std::string& name) const { return std::stol(row.attributes.at(name)); }
  bool boolean(const std::string& name) const { return row.attributes.at(name) == "true"; }
  std::vector<long> list(const std::string& name) const {
    std::vector<long> values;
    const std::string& text = row.attributes.at(name);
    for (const std::string& item : split(text.substr(1, text.size() - 2), ',')) {
      if (!item.empty()) values.push_back(std::stol(item));
    }
    return values;
  }
  ns::Array array(const std::string& name) const {
    return row.attributes.at(name) == "nil" ? ns::Array() : ns::Array::numbers(list(name));
  }
  mpsg::Tensor constant(const std::string& name) const {
    const std::vector<long> values = list(name);
    return runner.constant(raw_value(DataType::Int32, {long(values.size())},
                                     std::vector<int32_t>(values.begin(), values.end())));
  }
  ns::Array tensors() const {
    std::vector<id> items;
    for (const mpsg::Tensor& tensor : inputs) items.push_back(tensor.raw());
    return ns::Array::make(items);
  }
  template <class... A>
  std::vector<mpsg::Tensor> one(const A&... arguments) const {
    return {ns::send<mpsg::Tensor>(graph(), call_site(row.selector), arguments..., ns::String())};
  }
  template <class... A>
  std::vector<mpsg::Tensor> many(const A&... arguments) const {
    const auto array =
        ns::send<ns::Array>(graph(), call_site(row.selector), arguments..., ns::String());
    std::vector<mpsg::Tensor> result;
    for (NSUInteger i = 0; i < array.count(); ++i) result.emplace_back(array[i]);
    return result;
  }
};
using Caller = std::vector<mpsg::Tensor> (*)(const Call&);

std::vector<mpsg::Tensor> unary(const Call& c) { return c.one(c.inputs[0]); }
std::vector<mpsg::Tensor> binary(const Call& c) { return c.one(c.inputs[0], c.inputs[1]); }
std::vector<mpsg::Tensor> with_axis(const Call& c) {
  return c.one(c.inputs[0], NSInteger(c.integer("axis")));
}
std::vector<mpsg::Tensor> with_axes(const Call& c) { return c.one(c.inputs[0], c.array("axes")); }
std::vector<mpsg::Tensor> with_shape(const Call& c) { return c.one(c.inputs[0], c.array("shape")); }
std::vector<mpsg::Tensor> scan(const Call& c) {
  return c.one(c.inputs[0], NSInteger(c.integer("axis")), c.boolean("exclusive"),
               c.boolean("reverse"));
}
uint32_t mask(const Call& c, const char* name) { return uint32_t(c.integer(name)); }
NSInteger padding_mode(const Call& c) {
  const std::map<std::string, NSInteger> modes = {{"Constant", 0},  {"Reflect", 1},
                                                  {"Symmetric", 2}, {"ClampToEdge", 3},
                                                  {"Zero", 4},      {"Periodic", 5}};
  return modes.at(c.row.attributes.at("paddingMode"));
}

const std::map<std::string, Caller> kCallers = {
    {"varianceOfTensor:meanTensor:axes:name:",
     [](const Call& c) { return c.one(c.inputs[0], c.inputs[1], c.array("axes")); }},
    {"reshapeTensor:withShape:name:", with_shape},
    {"broadcastTensor:toShape:name:", with_shape},
    {"expandDimsOfTensor:axis:name:", with_axis},
    {"flatten2DTensor:axis:name:", with_axis},
    {"squeezeTensor:name:", unary},
    {"nonZeroIndicesOfTensor:name:", unary},
    {"tileTensor:withMultiplier:name:",
     [](const Call& c) { return c.one(c.inputs[0], c.array("multiplier")); }},
    {"transposeTensor:permutation:name:",
     [](const Call& c) { return c.one(c.inputs[0], c.array("permutation")); }},
    {"transposeTensor:dimension:withDimension:name:",
     [](const Call& c) {
       return c.one(c.inputs[0], NSUInteger(c.integer("dimension")),
                    NSUInteger(c.integer("withDimension")));
     }},
    {"concatTensors:dimension:name:",
     [](const Call& c) { return c.one(c.tensors(), NSInteger(c.integer("dimension"))); }},
    {"concatTensors:dimension:interleave:name:",
     [](const Call& c) {
       return c.one(c.tensors(), NSInteger(c.integer("dimension")), c.boolean("interleave"));
     }},
    {"stackTensors:axis:name:",
     [](const Call& c) { return c.one(c.tensors(), NSInteger(c.integer("axis"))); }},
    {"splitTensor:splitSizes:axis:name:",
     [](const Call& c) {
       return c.many(c.inputs[0], c.array("splitSizes"), NSInteger(c.integer("axis")));
     }},
    {"splitTensor:splitSizesTensor:axis:name:",
     [](const Call& c) { return c.many(c.inputs[0], c.inputs[1], NSInteger(c.integer("axis"))); }},
    {"splitTensor:numSplits:axis:name:",
     [](const Call& c) {
       return c.many(c.inputs[0], NSUInteger(c.integer("numSplits")), NSInteger(c.integer("axis")));
     }},
    {"sliceTensor:dimension:start:length:name:",
     [](const Call& c) {
       return c.one(c.inputs[0], NSUInteger(c.integer("dimension")), NSInteger(c.integer("start")),
                    NSInteger(c.integer("length")));
     }},
    {"sliceTensor:starts:ends:strides:startMask:endMask:squeezeMask:name:",
     [](const Call& c) {
       return c.one(c.inputs[0], c.array("starts"), c.array("ends"), c.array("strides"),
                    mask(c, "startMask"), mask(c, "endMask"), mask(c, "squeezeMask"));
     }},
    {"sliceGradientTensor:fwdInShapeTensor:starts:ends:strides:name:",
     [](const Call& c) {
       return c.one(c.inputs[0], c.constant("fwdInShape"), c.array("starts"), c.array("ends"),
                    c.array("strides"));
     }},
    {"sliceUpdateDataTensor:updateTensor:starts:ends:strides:name:",
     [](const Call& c) {
       return c.one(c.inputs[0], c.inputs[1], c.array("starts"), c.array("ends"),
                    c.array("strides"));
     }},
    {"sliceUpdateDataTensor:updateTensor:starts:ends:strides:startMask:endMask:squeezeMask:name:",
     [](const Call& c) {
       return c.one(c.inputs[0], c.inputs[1], c.array("starts"), c.array("ends"),
                    c.array("strides"), mask(c, "startMask"), mask(c, "endMask"),
                    mask(c, "squeezeMask"));
     }},
    {"coordinateAlongAxis:withShape:name:",
     [](const Call& c) { return c.one(NSInteger(c.integer("axis")), c.array("shape")); }},
    {"coordinateAlongAxis:withShapeTensor:name:",
     [](const Call& c) {
       const mpsg::Tensor shape = c.inputs.empty() ? c.constant("shapeTensor") : c.inputs[0];
       return c.one(NSInteger(c.integer("axis")), shape);
     }},
    {"coordinateAlongAxisTensor:withShape:name:", with_shape},
    {"constantWithData:shape:dataType:",
     [](const Call& c) {
       const int32_t zero = 0;
       return std::vector<mpsg::Tensor>{ns::send<mpsg::Tensor>(c.graph(), call_site(c.row.selector),
                                                               ns::Data::make(&zero, sizeof zero),
                                                               c.array("shape"), DataType::Int32)};
     }},
    {"padTensor:withPaddingMode:leftPadding:rightPadding:constantValue:name:",
     [](const Call& c) {
       return c.one(c.inputs[0], padding_mode(c), c.array("leftPadding"), c.array("rightPadding"),
                    double(c.integer("constantValue")));
     }},
    {"padGradientWithIncomingGradientTensor:sourceTensor:paddingMode:leftPadding:rightPadding:"
     "name:",
     [](const Call& c) {
       return c.one(c.inputs[0], c.inputs[1], padding_mode(c), c.array("leftPadding"),
                    c.array("rightPadding"));
     }},
    {"spaceToDepth2DTensor:widthAxis:heightAxis:depthAxis:blockSize:usePixelShuffleOrder:name:",
     [](const Call& c) {
       return c.one(c.inputs[0], NSUInteger(c.integer("widthAxis")),
                    NSUInteger(c.integer("heightAxis")), NSUInteger(c.integer("depthAxis")),
                    NSUInteger(c.integer("blockSize")), c.boolean("usePixelShuffleOrder"));
     }},
    {"depthToSpace2DTensor:widthAxis:heightAxis:depthAxis:blockSize:usePixelShuffleOrder:name:",
     [](const Call& c) {
       return c.one(c.inputs[0], NSUInteger(c.integer("widthAxis")),
                    NSUInteger(c.integer("heightAxis")), NSUInteger(c.integer("depthAxis")),
                    NSUInteger(c.integer("blockSize")), c.boolean("usePixelShuffleOrder"));
     }},
    {"spaceToBatchTensor:spatialAxes:batchAxis:blockDimensions:usePixelShuffleOrder:name:",
     [](const Call& c) {
       return c.one(c.inputs[0], c.array("spatialAxes"), NSInteger(c.integer("batchAxis")),
                    c.array("blockDimensions"), c.boolean("usePixelShuffleOrder"));
     }},
    {"batchToSpaceTensor:spatialAxes:batchAxis:blockDimensions:usePixelShuffleOrder:name:",
     [](const Call& c) {
       return c.one(c.inputs[0], c.array("spatialAxes"), NSInteger(c.integer("batchAxis")),
                    c.array("blockDimensions"), c.boolean("usePixelShuffleOrder"));
     }},
};

bool ends_with(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

// Families whose selectors say their form; null for a form that is not known.
Caller caller_of(const std::string& selector) {
  const auto found = kCallers.find(selector);
  if (found != kCallers.end()) return found->second;
  const std::map<std::string, Caller> endings = {
      {"WithTensor:name:", unary},
      {"WithPrimaryTensor:secondaryTensor:name:", binary},
      {"WithIncomingGradient:sourceTensor:name:", binary},
      {"Tensor:axis:name:", with_axis},
      {"Tensor:axes:name:", with_axes},
      {"WithTensor:axis:exclusive:reverse:name:", scan}};
  for (const auto& [ending, caller] : endings) {
    if (ends_with(selector, ending)) return caller;
  }
  return nullptr;
}

bool implemented(const Runner& runner, const std::string& selector) {
  return ns::send<bool>(runner.graph().raw(), OBJC_SEL("respondsToSelector:"),
                        sel_registerName(selector.c_str()));
}

// ---- comparison ------------------------------------------------------------------------------

// Transcendental functions differ in the last bits from one implementation to the other: the bound
// is what Metal documents for the function (single precision); erf has none there.
int allowed_ulps(const std::string& selector) {
  const std::map<std::string, int> bounds = {
      {"tanhWithTensor:name:", 5},
      {"coshWithTensor:name:", 4},
      {"asinWithTensor:name:", 4},
      {"erfWithTensor:name:", 4},
      {"sigmoidGradientWithIncomingGradient:sourceTensor:name:", 4}};
  const auto found = bounds.find(selector);
  return found == bounds.end() ? 0 : found->second;
}

bool same_element(const Row& row, const Value& got, const Value& want, long i) {
  const size_t size = mps::size_of(want.type);
  if (std::memcmp(&got.bytes[i * size], &want.bytes[i * size], size) == 0) return true;
  const double a = got.at(i), b = want.at(i);
  if (!std::isfinite(b) || std::abs(b) < 1e-37) return false;  // special values are exact
  if (row.tolerance > 0) return std::abs(a - b) <= row.tolerance * std::abs(b);
  const int ulps = allowed_ulps(row.selector);
  return want.type == DataType::Float32 && std::signbit(a) == std::signbit(b) &&
         std::abs(double(got.as<int32_t>()[i]) - want.as<int32_t>()[i]) <= ulps;
}

std::vector<mpsg::Tensor> build(const Row& row, Runner& runner) {
  Call call{row, runner, {}};
  for (const GoldenTensor& input : row.inputs) call.inputs.push_back(runner.feed(input.value));
  return caller_of(row.selector)(call);
}

// Targets that are mere views get an encoded producer, as the plugin does.
std::vector<mpsg::Tensor> producers(Runner& runner, const std::vector<mpsg::Tensor>& tensors) {
  std::vector<mpsg::Tensor> result;
  for (const mpsg::Tensor& tensor : tensors) result.push_back(runner.graph().identity(tensor));
  return result;
}

void check_values(const Row& row) {
  Runner runner;
  const std::vector<mpsg::Tensor> results = build(row, runner);
  CHECK_EQ(results.size(), row.outputs.size());
  if (results.size() != row.outputs.size()) return;
  if (!row.outputs[0].ranked) {
    CHECK(!results[0].shape());
    CHECK(results[0].data_type() == row.outputs[0].value.type);
    return;
  }
  const std::vector<Value> got = runner.run(producers(runner, results));
  for (size_t r = 0; r < got.size(); ++r) {
    const GoldenTensor& want = row.outputs[r];
    CHECK(got[r].shape == want.value.shape && got[r].type == want.value.type);
    if (got[r].bytes.size() != want.value.bytes.size()) continue;
    for (long i = 0; i < got[r].count(); ++i) {
      if (!want.published[i] || (want.any_nan[i] && std::isnan(got[r].at(i)))) continue;
      if (same_element(row, got[r], want.value, i)) continue;
      check::report(row.id.c_str(), int(i),
                    row.selector + ": " + std::to_string(got[r].at(i)) + " instead of " +
                        std::to_string(want.value.at(i)));
    }
  }
}

void check_abort(const Row& row) {
  // A message in parentheses is a remark of the source.
  const bool silent = row.abort_message.empty() || row.abort_message[0] == '(';
  const std::string wrong = expect_abort(silent ? "" : row.abort_message, [&] {
    Runner runner;
    runner.run(producers(runner, build(row, runner)));
  });
  if (!wrong.empty()) check::report(row.id.c_str(), 0, "'" + row.abort_message + "': " + wrong);
}

}  // namespace

TEST(every_measurement_of_an_implemented_method) {
  Runner probe;
  const std::vector<Row> rows = read_rows();
  std::set<std::string> selectors, missing;
  int values = 0, aborts = 0;
  for (const Row& row : rows) {
    if (!implemented(probe, row.selector)) {
      missing.insert(row.selector);
      continue;
    }
    selectors.insert(row.selector);
    if (!caller_of(row.selector)) {
      check::report(row.id.c_str(), 0, "no caller for " + row.selector);
      continue;
    }
    row.aborts ? check_abort(row) : check_values(row);
    ++(row.aborts ? aborts : values);
  }
  std::printf("%d values and %d aborts of %zu methods; %zu methods not implemented\n", values,
              aborts, selectors.size(), missing.size());
  for (const std::string& selector : missing)
    std::printf("  not implemented: %s\n", selector.c_str());
  // What ran before must not silently stop running.
  CHECK(values >= 130);
  CHECK(aborts >= 40);
}

TEST_MAIN()
