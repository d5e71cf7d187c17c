// Runs one method of MPSGraph, or one MPSMatrixMultiplication, outside of any op: how a selftest
// finds out what they do on a machine (tensorflow_metal_py/selftest/questions.py). Bytes travel as
// hexadecimal text; types are TensorFlow's numbers.
#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "kernels/dtype.h"
#include "kernels/tensor_data.h"
#include "plugin/device/device.h"
#include "plugin/error.h"
#include "plugin/runtime_op.h"

namespace tfmetal {

namespace {

using mpsg::Tensor;
using Numbers = std::vector<int64_t>;
using Tensors = std::vector<Tensor>;

// ---- arguments ----------------------------------------------------------------------------------

Numbers numbers(const json::Value& value) {
  Numbers out;
  if (const json::Array* list = value.as<json::Array>()) {
    for (const json::Value& item : *list) out.push_back(item.get<int64_t>());
  }
  return out;
}

std::string from_hex(const std::string& digits) {
  std::string bytes;
  for (size_t i = 0; i + 1 < digits.size(); i += 2) {
    bytes += static_cast<char>(std::stoi(digits.substr(i, 2), nullptr, 16));
  }
  return bytes;
}

std::string to_hex(const void* data, size_t size) {
  static const char kDigits[] = "0123456789abcdef";
  std::string digits;
  for (size_t i = 0; i < size; ++i) {
    const auto byte = static_cast<const unsigned char*>(data)[i];
    digits += {kDigits[byte >> 4], kDigits[byte & 15]};
  }
  return digits;
}

struct Operand {
  mps::DataType type;
  Numbers shape;
  std::string bytes;
};

Operand operand(const json::Value& value) {
  const auto dtype = static_cast<TF_DataType>(value["dtype"].get<int64_t>());
  return {to_mps(dtype), numbers(value["shape"]), from_hex(value["bytes"].get<std::string>())};
}

mtl::Device device() { return device_of().metal(); }

objc::Ref<mtl::Buffer> buffer_of(const std::string& bytes, size_t offset = 0) {
  objc::Ref<mtl::Buffer> buffer = device().new_buffer(offset + bytes.size());
  if (!buffer) throw_resource_exhausted("no buffer of ", offset + bytes.size(), " bytes");
  std::memcpy(static_cast<char*>(buffer.contents()) + offset, bytes.data(), bytes.size());
  return buffer;
}

// ---- methods of MPSGraph ------------------------------------------------------------------------

struct Call {
  const mpsg::Graph& graph;
  const Tensors& in;
  const Numbers& numbers;

  ns::Array list() const { return ns::Array::numbers(numbers); }
  ns::Array list(size_t from, size_t count) const {
    return ns::Array::numbers(Numbers(numbers.begin() + from, numbers.begin() + from + count));
  }
  ns::Array tensors() const {
    std::vector<id> all;
    for (const Tensor& tensor : in) all.push_back(tensor.raw());
    return ns::Array::make(all);
  }
};

using Method = Tensor (*)(const Call&);

template <Tensor (mpsg::Graph::*F)(Tensor) const>
Tensor unary(const Call& c) {
  return (c.graph.*F)(c.in.at(0));
}
template <Tensor (mpsg::Graph::*F)(Tensor, Tensor) const>
Tensor binary(const Call& c) {
  return (c.graph.*F)(c.in.at(0), c.in.at(1));
}
template <Tensor (mpsg::Graph::*F)(Tensor, ns::Array) const>
Tensor with_list(const Call& c) {
  return (c.graph.*F)(c.in.at(0), c.list());
}

const std::map<std::string, Method, std::less<>>& methods() {
  using G = mpsg::Graph;
  static const std::map<std::string, Method, std::less<>> table = {
      {"identity", unary<&G::identity>},
      {"exp", unary<&G::exp>},
      {"add", binary<&G::add>},
      {"mul", binary<&G::mul>},
      {"pow", binary<&G::pow>},
      {"minimum_nan", binary<&G::minimum_nan>},
      {"maximum_nan", binary<&G::maximum_nan>},
      {"equal", binary<&G::equal>},
      {"less", binary<&G::less>},
      {"matmul", binary<&G::matmul>},
      {"sum", with_list<&G::sum>},
      {"mean", with_list<&G::mean>},
      {"variance", with_list<&G::variance>},
      {"reduce_and", with_list<&G::reduce_and>},
      {"reduce_or", with_list<&G::reduce_or>},
      {"reshape", with_list<&G::reshape>},
      {"transpose", with_list<&G::transpose>},
      {"broadcast", with_list<&G::broadcast>},
      {"tile", with_list<&G::tile>},
      {"concat", [](const Call& c) { return c.graph.concat(c.tensors(), c.numbers.at(0)); }},
      {"select", [](const Call& c) { return c.graph.select(c.in.at(0), c.in.at(1), c.in.at(2)); }},
      {"cast",
       [](const Call& c) {
         return c.graph.cast(c.in.at(0), to_mps(static_cast<TF_DataType>(c.numbers.at(0))));
       }},
      {"slice",  // starts, ends, strides
       [](const Call& c) {
         const size_t rank = c.numbers.size() / 3;
         return c.graph.slice(c.in.at(0), c.list(0, rank), c.list(rank, rank),
                              c.list(2 * rank, rank));
       }},
      {"convolve",  // images and filters in TensorFlow's layouts, one by one pixel
       [](const Call& c) {
         return c.graph.convolution(c.in.at(0), c.in.at(1),
                                    mpsg::Convolution2D::make({}, {}, 1, mpsg::Layout::NHWC));
       }},
      {"normalize",  // x, mean, variance, gamma, beta
       [](const Call& c) {
         return c.graph.normalize(c.in.at(0), c.in.at(1), c.in.at(2), c.in.at(3), c.in.at(4),
                                  1e-3f);
       }},
  };
  return table;
}

// ---- one execution ------------------------------------------------------------------------------

struct Probe {
  objc::Ref<mpsg::Graph> graph = mpsg::Graph::make();
  std::vector<Operand> operands;
  Tensors placeholders;
  Tensor target;

  objc::Ref<mpsg::Executable> compile() const {
    std::vector<id> keys, types;
    std::vector<objc::Ref<mpsg::ShapedType>> owned;
    for (size_t i = 0; i < operands.size(); ++i) {
      owned.push_back(
          mpsg::ShapedType::make(ns::Array::numbers(operands[i].shape), operands[i].type));
      keys.push_back(placeholders[i].raw());
      types.push_back(owned.back().raw());
    }
    const auto how = mpsg::CompilationDescriptor::make();
    how.set_optimization_level(mpsg::Optimization::Level0);
    how.set_wait_for_completion(true);
    const std::array<id, 1> targets{target.raw()};
    return graph.compile(ns::Dictionary::make(keys, types), ns::Array::make(targets), how);
  }
};

objc::Ref<mpsg::TensorData> data_of(mtl::Buffer buffer, size_t offset, const Operand& x) {
  return tensor_data(buffer, offset, ns::Array::numbers(x.shape), x.type);
}

void finish(mtl::CommandBuffer last) {
  last.commit();
  last.wait_until_completed();
  if (last.status() == mtl::CommandBufferStatus::Error) {
    throw_internal("the command buffer failed: ", last.error().description());
  }
}

// `offset`: bytes before each operand in its buffer (macOS 15).
json::Value run(const Probe& probe, size_t offset) {
  const objc::Ref<mpsg::Executable> executable = probe.compile();
  std::vector<objc::Ref<mtl::Buffer>> buffers;
  std::vector<objc::Ref<mpsg::TensorData>> datas;
  std::vector<id> inputs;
  const ns::Array feeds = executable.feed_tensors();
  for (NSUInteger k = 0; k < feeds.count(); ++k) {
    for (size_t i = 0; i < probe.operands.size(); ++i) {
      if (probe.placeholders[i].raw() != feeds[k]) continue;
      buffers.push_back(buffer_of(probe.operands[i].bytes, offset));
      datas.push_back(data_of(buffers.back(), offset, probe.operands[i]));
      inputs.push_back(datas.back().raw());
    }
  }
  Operand result{probe.target.data_type(), {}, ""};
  size_t size = mps::size_of(result.type);
  const ns::Array shape = probe.target.shape();
  for (NSUInteger i = 0; i < shape.count(); ++i) {
    result.shape.push_back(ns::Number(shape[i]).integer());
    size *= static_cast<size_t>(result.shape.back());
  }
  result.bytes.assign(size, '\xbd');  // what is not written shows
  const objc::Ref<mtl::Buffer> buffer = buffer_of(result.bytes, offset);
  const objc::Ref<mpsg::TensorData> data = data_of(buffer, offset, result);
  const std::array<id, 1> results{data.raw()};
  {
    const std::lock_guard lock(Device::mutex());
    const objc::Ref<mtl::CommandQueue> queue = device().new_command_queue();
    const auto commands = mps::CommandBuffer::from_queue(queue);
    executable.encode(commands, ns::Array::make(inputs), ns::Array::make(results));
    finish(commands.root());
  }
  json::Array extents;
  for (const int64_t extent : result.shape) extents.push_back(extent);
  json::Object answer;
  answer.emplace_back("shape", std::move(extents));
  answer.emplace_back("feeds", static_cast<int64_t>(feeds.count()));
  answer.emplace_back("bytes", to_hex(static_cast<const char*>(buffer.contents()) + offset, size));
  return answer;
}

const RuntimeCall kProbe(
    "probe", "one 'method' of MPSGraph on 'operands', with 'numbers'",
    [](const json::Value& request) -> json::Value {
      const ns::AutoreleasePool pool;
      const auto method = methods().find(request["method"].get<std::string>());
      if (method == methods().end()) throw_invalid_argument("unknown method");
      Probe probe;
      for (const json::Value& row : request["operands"].get<json::Array>()) {
        probe.operands.push_back(operand(row));
        const Operand& x = probe.operands.back();
        probe.placeholders.push_back(probe.graph.placeholder(ns::Array::numbers(x.shape), x.type));
      }
      const Numbers arguments = numbers(request["numbers"]);
      probe.target = method->second({probe.graph, probe.placeholders, arguments});
      // As the plugin does: a result that is a view of a feed gets a producer.
      probe.target = probe.graph.identity(probe.target);
      const json::Value& offset = request["offset"];
      return run(probe, offset.is_null() ? 0 : static_cast<size_t>(offset.get<int64_t>()));
    });

// ---- MPSMatrixMultiplication --------------------------------------------------------------------

// [offset in bytes, rows, columns, bytes of a row] of float32.
objc::Ref<mps::Matrix> matrix(mtl::Buffer buffer, const Numbers& place) {
  if (place.size() != 4) throw_invalid_argument("a matrix is four numbers");
  return mps::Matrix::make(buffer, static_cast<NSUInteger>(place[0]),
                           mps::MatrixDescriptor::make(
                               static_cast<NSUInteger>(place[1]), static_cast<NSUInteger>(place[2]),
                               static_cast<NSUInteger>(place[3]), mps::DataType::Float32));
}

const RuntimeCall kProduct(
    "probe_product",
    "'result' = 'left' * 'right', all in the one buffer of 'bytes'; its bytes then",
    [](const json::Value& request) -> json::Value {
      const ns::AutoreleasePool pool;
      const std::string bytes = from_hex(request["bytes"].get<std::string>());
      const objc::Ref<mtl::Buffer> buffer = buffer_of(bytes);
      const Numbers left = numbers(request["left"]), right = numbers(request["right"]);
      const auto a = matrix(buffer, left), b = matrix(buffer, right);
      const auto c = matrix(buffer, numbers(request["result"]));
      const auto product = mps::MatrixMultiplication::make(
          device(), false, false, static_cast<NSUInteger>(left[1]),
          static_cast<NSUInteger>(right[2]), static_cast<NSUInteger>(left[2]), 1.0, 0.0);
      const std::lock_guard lock(Device::mutex());
      const objc::Ref<mtl::CommandQueue> queue = device().new_command_queue();
      const auto commands = mps::CommandBuffer::from_queue(queue);
      product.encode(commands, a, b, c);
      finish(commands.root());
      return to_hex(buffer.contents(), bytes.size());
    });

}  // namespace

}  // namespace tfmetal
