// What is documented, measured or seen about the methods of MPSGraph that the plugin uses, against
// the host: tests/golden/mps_graph_statements.tsv, and below what takes several calls.
// tests/test_fidelity.py checks that no method in use is left out.
#include <set>

#include "tests/cc/fact_calls.h"
#include "tests/cc/graph_check.h"

using namespace facts;
using graph_check::check_equal;
using graph_check::list;
using mpsg::Tensor;

TEST(every_statement_holds) {
  int values = 0, aborts = 0;
  std::set<std::string> selectors;
  for (const Fact& fact : read_facts(TFMETAL_SOURCE_DIR "/tests/golden/mps_graph_statements.tsv")) {
    CHECK(std::string("DMU").find(fact.id[0]) != std::string::npos && fact.id[1] == ' ');
    if (!caller_of(fact.selector)) {
      check::report(fact.id.c_str(), 0, "no caller for " + fact.selector);
      continue;
    }
    fact.aborts ? facts::check_abort(fact, &call) : check_values(fact, &call, 0);
    ++(fact.aborts ? aborts : values);
    selectors.insert(fact.selector);
  }
  std::printf("%d values and %d aborts of %zu methods\n", values, aborts, selectors.size());
  // What ran before must not silently stop running.
  CHECK(values >= 170 && aborts >= 30);
}

// ---- tensors and graphs ----------------------------------------------------------------------

// D: tensors are usable as keys of a dictionary, because a copy is the same object.
TEST(a_copy_of_a_tensor_is_the_tensor) {
  Runner r;
  const Tensor x = r.feed(floats({1}, {1}));
  CHECK(ns::send<id>(x.raw(), OBJC_SEL("copy")) == x.raw());
  objc_release(x.raw());
}

// M: inference runs while the graph is built, so shapes and types can be read at once.
TEST(shapes_are_known_while_the_graph_is_built) {
  Runner r;
  const auto& g = r.graph();
  const Tensor x = r.feed(floats({2, 3}, {1, 2, 3, 4, 5, 6}));
  const Tensor y = g.is_nan(g.sum(x, list({1})));
  CHECK(Runner::shape(y) == (Shape{2, 1}) && y.data_type() == DataType::Bool);
}

// Whether the shape of a scalar constant is @[] or @[@1] is open: lowerings use such constants as
// operands that broadcast, where both mean the same.
TEST(scalar_constants_broadcast) {
  Runner r;
  const auto& g = r.graph();
  const Tensor x = r.feed(floats({2, 1}, {1, 2}));
  const Value sum = r.run(g.add(x, g.constant(2, DataType::Float32)));
  check_equal("constant", sum, {3, 4});
  CHECK(sum.shape == (Shape{2, 1}));
}

// M: the plain extremes skip NaN, so only all NaN gives the infinity; see the propagating forms.
TEST(extremes_of_nothing_but_nan) {
  Runner r;
  const auto& g = r.graph();
  const Tensor x = r.feed(floats({2}, {NAN, NAN}));
  const auto v = r.run({g.max(x, list({0})), g.min(x, list({0})), g.max_nan(x, list({0}))});
  check_equal("max", v[0], {-INFINITY});
  check_equal("min", v[1], {INFINITY});
  check_equal("max_nan", v[2], {NAN});
}

// U: a transpose before a product is part of the product; the result is that of the transpose.
TEST(transposed_operands_of_a_product) {
  Runner r;
  const auto& g = r.graph();
  const Tensor a = r.feed(floats({3, 2}, {1, 4, 2, 5, 3, 6}));
  const Tensor b = r.feed(floats({1, 3}, {1, 0, 2}));
  const auto swap = [&](Tensor x) { return g.transpose(x, list({1, 0})); };
  check_equal("product", r.run(g.matmul(swap(a), swap(b))), {7, 16});
}

// U: before macOS 15.1 output channels beyond 65536 are wrong; the host refuses them.
TEST(output_channels_of_convolutions) {
  const auto convolve = [](Runner& r) {
    const Value weights{DataType::Float16, {1, 1, 1, 65537}, std::vector<char>(2 * 65537, 0)};
    const Tensor x = r.feed(value(DataType::Float16, {1, 1, 1, 1}, {1}));
    return r.graph().convolution(x, r.feed(weights),
                                 mpsg::Convolution2D::make({}, {}, 1, mpsg::Layout::NHWC));
  };
  graph_check::check_abort("macOS 15.0", "more than 65536 output channels", [&](Runner& r) {
    setenv("TF_METAL_HOST_MACOS", "15.0", 1);
    convolve(r);
  });
  setenv("TF_METAL_HOST_MACOS", "15.1", 1);
  Runner r;
  CHECK(Runner::shape(convolve(r)) == (Shape{1, 1, 1, 65537}));
  unsetenv("TF_METAL_HOST_MACOS");
}

// U: results of attention are wrong from 2^31 scores on; the host refuses so many.
TEST(scores_of_attention) {
  const auto attend = [](Runner& r, long keys) {
    const auto zeros = [&](long rows) {
      return r.feed(Value{DataType::Float32, {1, 1, rows, 1}, std::vector<char>(4 * size_t(rows))});
    };
    return r.graph().attention(zeros(1 << 16), zeros(keys), zeros(keys), {}, 1);
  };
  graph_check::check_abort("2^31", "2^31 scores", [&](Runner& r) { attend(r, 1 << 15); });
  Runner r;
  CHECK(Runner::shape(attend(r, (1 << 15) - 1)) == (Shape{1, 1, 1 << 16, 1}));
}

// ---- compiling and encoding ------------------------------------------------------------------

namespace {

objc::Ref<mpsg::Executable> compile(const Runner& r, const std::vector<Tensor>& feeds,
                                    const std::vector<Tensor>& targets) {
  std::vector<id> keys, types, list;
  std::vector<objc::Ref<mpsg::ShapedType>> owned;
  for (const Tensor& feed : feeds) {
    owned.push_back(mpsg::ShapedType::make(feed.shape(), feed.data_type()));
    keys.push_back(feed.raw());
    types.push_back(owned.back().raw());
  }
  for (const Tensor& target : targets) list.push_back(target.raw());
  const auto how = mpsg::CompilationDescriptor::make();
  how.set_optimization_level(mpsg::Optimization::Level0);
  how.set_wait_for_completion(true);
  return r.graph().compile(ns::Dictionary::make(keys, types), ns::Array::make(list), how);
}

std::set<id> items(ns::Array array) {
  std::set<id> result;
  for (NSUInteger i = 0; i < array.count(); ++i) result.insert(array[i]);
  return result;
}

}  // namespace

TEST(what_compile_refuses) {
  // M: only placeholders are feeds.
  graph_check::check_abort("constant", "Input feed tensor not found in placeholders",
                           [](Runner& r) {
                             const Tensor c = r.graph().constant(1, list({1}), DataType::Float32);
                             compile(r, {c}, {r.graph().square(c)});
                           });
  // D: the lists of targets may not both be empty.
  graph_check::check_abort("no targets", "neither target tensors nor operations",
                           [](Runner& r) { compile(r, {r.feed(floats({1}, {1}))}, {}); });
  // D: Level1, which is the default, may leave the GPU; the host refuses it.
  graph_check::check_abort("default level", "optimization level 0", [](Runner& r) {
    const Tensor x = r.feed(floats({1}, {1}));
    const id targets[] = {r.graph().square(x).raw()};
    r.graph().compile(ns::Dictionary(), ns::Array::make(targets),
                      mpsg::CompilationDescriptor::make());
  });
  // U: a target that only views a feed may stay unwritten; the host refuses it.
  for (auto view : {+[](const mpsg::Graph& g, Tensor x) { return g.reshape(x, list({4})); },
                    +[](const mpsg::Graph& g, Tensor x) { return g.transpose(x, list({1, 0})); },
                    +[](const mpsg::Graph&, Tensor x) { return x; },
                    +[](const mpsg::Graph& g, Tensor x) {
                      return g.slice(x, list({0, 0}), list({1, 2}), list({1, 1}));
                    }}) {
    graph_check::check_abort("view", "only a view of a feed", [&](Runner& r) {
      const Tensor x = r.feed(floats({2, 2}, {1, 2, 3, 4}));
      compile(r, {x}, {view(r.graph(), x)});
    });
  }
}

// D: the executable's lists define the order of inputs and results. A placeholder that no target
// uses may be missing from them.
TEST(the_executable_names_its_feeds_and_targets) {
  Runner r;
  const auto& g = r.graph();
  const Tensor a = r.feed(floats({1}, {5})), b = r.feed(floats({1}, {3})),
               unused = r.feed(floats({2}, {0, 0}));
  const Tensor difference = g.sub(a, b), sum = g.add(a, b);
  const auto executable = compile(r, {a, b, unused}, {difference, sum});
  std::set<id> feeds = items(executable.feed_tensors());
  feeds.erase(unused.raw());
  CHECK(feeds == (std::set<id>{a.raw(), b.raw()}));
  CHECK(items(executable.target_tensors()) == (std::set<id>{difference.raw(), sum.raw()}));
  const auto v = r.execute(executable);
  const bool in_order = executable.target_tensors()[0] == difference.raw();
  check_equal("difference", v[in_order ? 0 : 1], {2});
  check_equal("sum", v[in_order ? 1 : 0], {8});
}

// D: results are written in place and returned as well; encoding does not commit the last part.
TEST(results_are_the_callers_memory) {
  Runner r;
  const auto device = mtl::Device::create_default();
  const auto queue = device.new_command_queue();
  const auto executable = r.compile({r.graph().square(r.feed(floats({2}, {3, 4})))});
  const auto in = device.new_buffer(8), out = device.new_buffer(8);
  const float values[] = {3, 4};
  std::memcpy(in.contents(), values, sizeof values);
  std::memset(out.contents(), 0, 8);
  const auto type = DataType::Float32;
  const auto feed = mpsg::TensorData::make(in, list({2}), type);
  const auto result = mpsg::TensorData::make(out, list({2}), type);
  const id inputs[] = {feed.raw()}, results[] = {result.raw()};
  const auto commands = mps::CommandBuffer::from_queue(queue);
  const auto returned = ns::send<ns::Array>(
      executable.raw(),
      OBJC_SEL("encodeToCommandBuffer:inputsArray:resultsArray:executionDescriptor:"), commands,
      ns::Array::make(inputs), ns::Array::make(results), ns::Object());
  CHECK(returned.count() == 1 && returned[0] == result.raw());
  CHECK_EQ(static_cast<float*>(out.contents())[0], 0.0f);
  const mtl::CommandBuffer last = commands.root();  // encoding may have replaced it
  last.commit();
  last.wait_until_completed();
  CHECK_EQ(static_cast<float*>(out.contents())[1], 16.0f);
}

// D: tensor data keeps its buffer, and a command buffer keeps what was encoded into it.
TEST(encoded_work_outlives_what_the_caller_releases) {
  const auto device = mtl::Device::create_default();
  const auto queue = device.new_command_queue();
  const auto out = device.new_buffer(4);
  objc::Ref<mtl::CommandBuffer> last;
  {
    const objc::AutoreleasePool pool;
    Runner r;
    const auto executable = r.compile({r.graph().square(r.feed(floats({1}, {3})))});
    const auto in = device.new_buffer(4);
    *static_cast<float*>(in.contents()) = 3;
    const auto feed = mpsg::TensorData::make(in, list({1}), DataType::Float32);
    const auto result = mpsg::TensorData::make(out, list({1}), DataType::Float32);
    const id inputs[] = {feed.raw()}, results[] = {result.raw()};
    const auto commands = mps::CommandBuffer::from_queue(queue);
    executable.encode(commands, ns::Array::make(inputs), ns::Array::make(results));
    last = objc::Ref<mtl::CommandBuffer>::retain(commands.root());
  }
  last.commit();
  last.wait_until_completed();
  CHECK_EQ(*static_cast<float*>(out.contents()), 9.0f);
}

// ---- memory of tensors -----------------------------------------------------------------------

// D M: a buffer is read from offset 0, rows packed. D: from macOS 15 on an array may begin at an
// offset; its rows are packed if asked for.
TEST(tensor_data_over_buffers) {
  Runner r;
  const auto device = mtl::Device::create_default();
  const auto queue = device.new_command_queue();
  const auto executable = r.compile({r.graph().negative(r.feed(floats({2, 1}, {0, 0})))});
  const auto in = device.new_buffer(16), out = device.new_buffer(8);
  const float values[] = {1, 2, 3, 4};
  std::memcpy(in.contents(), values, sizeof values);
  const auto run = [&](const mpsg::TensorData& feed) {
    const auto result = mpsg::TensorData::make(out, list({2, 1}), DataType::Float32);
    const id inputs[] = {feed.raw()}, results[] = {result.raw()};
    const auto commands = mps::CommandBuffer::from_queue(queue);
    executable.encode(commands, ns::Array::make(inputs), ns::Array::make(results));
    commands.root().commit();
    commands.root().wait_until_completed();
    return static_cast<float*>(out.contents())[0];
  };
  CHECK_EQ(run(mpsg::TensorData::make(in, list({2, 1}), DataType::Float32)), -1.0f);
  const auto descriptor = mps::NDArrayDescriptor::make(DataType::Float32, list({2, 1}));
  descriptor.set_prefer_packed_rows(true);
  CHECK_EQ(run(mpsg::TensorData::make(mps::NDArray::make(in, 8, descriptor))), -3.0f);
  // M: too small a buffer ends the process.
  graph_check::check_abort("too small", "buffer is not large enough", [&](Runner&) {
    mpsg::TensorData::make(in, list({5}), DataType::Float32);
  });
  // D: rows of an array are padded to 16 bytes unless packed rows are preferred.
  graph_check::check_abort("padded", "rows of the array are padded", [&](Runner&) {
    const auto padded = mps::NDArrayDescriptor::make(DataType::Float32, list({2, 1}));
    mpsg::TensorData::make(mps::NDArray::make(device.new_buffer(64), 0, padded));
  });
}

TEST_MAIN()
