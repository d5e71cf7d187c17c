// The host's Objective-C runtime, seen through objc::send.
#include <array>
#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "plugin/host/block.h"
#include "plugin/host/catalogue.h"
#include "plugin/host/foundation.h"
#include "plugin/host/parallel.h"
#include "plugin/metal/metal.h"
#include "plugin/metal/mps.h"
#include "tests/cc/death.h"

using objc::send;

namespace {

struct Triple {
  static constexpr const char* kEncoding = "{?=qqq}";
  long a, b, c;
};
struct Pair {
  static constexpr const char* kEncoding = "{?=dq}";
  double a;
  long b;
};

// Classes of this prefix are not compared with Apple's catalogue.
struct Probe : host::Object {
  static constexpr const char* kClass = "HostTestProbe";
  long value = 7;
};
struct Derived : Probe {
  static constexpr const char* kClass = "HostTestDerived";
};

double many(Probe* self, int a, double b, long c, float d, const char* e, unsigned f, long g,
            double h, long i, bool j, double k, double l, double m, double n, double o) {
  return a + b + c + d + e[0] + f + g + h + i + j + k + l + m + n + o + self->value;
}

HOST_CLASS(HostTestProbe, NSObject);
HOST_CLASS(HostTestDerived, HostTestProbe);
HOST_INIT(HostTestProbe, "init", []() -> id { return host::make<Probe>(); });
HOST_INIT(HostTestDerived, "init", []() -> id { return host::make<Derived>(); });
HOST_METHOD(HostTestProbe, "value", [](Probe* self) -> long { return self->value; });
HOST_METHOD(HostTestProbe, "setValue:", [](Probe* self, long v) -> void { self->value = v; });
HOST_METHOD(HostTestProbe, "float", [](Probe*) -> float { return 1.5f; });
HOST_METHOD(HostTestProbe, "triple:plus:", [](Probe* self, Triple t, long n) -> Triple {
  return {t.a + n, t.b + n, t.c + self->value};
});
HOST_METHOD(HostTestProbe, "pair:", [](Probe*, Pair p) -> Pair { return {p.a * 2, p.b * 3}; });
HOST_METHOD(HostTestProbe, "many",
            [](Probe* self, int a, double b, long c, float d, const char* e, unsigned f, long g,
               double h, long i, bool j, double k, double l, double m, double n,
               double o) -> double {
              return many(self, a, b, c, d, e, f, g, h, i, j, k, l, m, n, o);
            });
HOST_METHOD(HostTestProbe, "overridden", [](Probe*) -> int { return 1; });
HOST_METHOD(HostTestDerived, "overridden", [](Derived*) -> int { return 2; });
HOST_METHOD(HostTestProbe, "call:with:", [](Probe* self, id block, int n) -> void {
  const host::BlockRef<int, id> copy(block);
  copy(n, self);
});

objc::Ref<objc::Object> probe(const char* name = "HostTestProbe") {
  return objc::Ref(send<objc::Object>(objc_getClass(name), OBJC_SEL("new")));
}

}  // namespace

TEST(arguments_in_registers_and_on_the_stack) {
  const auto p = probe();
  const char* text = "A";
  const double sum = send<double>(p.raw(), OBJC_SEL("many"), 1, 2.5, 3l, 4.5f, text, 5u, 6l, 7.0,
                                  8l, true, 9.0, 10.0, 11.0, 12.0, 13.0);
  CHECK_EQ(sum, 1 + 2.5 + 3 + 4.5 + 'A' + 5 + 6 + 7 + 8 + 1 + 9 + 10 + 11 + 12 + 13 + 7);
}

TEST(float_and_integer_results) {
  const auto p = probe();
  CHECK_EQ(send<float>(p.raw(), OBJC_SEL("float")), 1.5f);
  send<void>(p.raw(), OBJC_SEL("setValue:"), -3l);
  CHECK_EQ(send<long>(p.raw(), OBJC_SEL("value")), -3l);
}

TEST(structs_by_value_and_as_results) {
  const auto p = probe();
  const Triple t = send<Triple>(p.raw(), OBJC_SEL("triple:plus:"), Triple{1, 2, 3}, 10l);
  CHECK(t.a == 11 && t.b == 12 && t.c == 10);
  const Pair pair = send<Pair>(p.raw(), OBJC_SEL("pair:"), Pair{1.25, 5});
  CHECK(pair.a == 2.5 && pair.b == 15);
}

TEST(nil_answers_zero) {
  id nil = nullptr;
  CHECK_EQ(send<long>(nil, OBJC_SEL("value")), 0l);
  CHECK_EQ(send<double>(nil, OBJC_SEL("many")), 0.0);
  const Triple t = send<Triple>(nil, OBJC_SEL("triple"));
  CHECK(t.a == 0 && t.b == 0 && t.c == 0);
}

TEST(inheritance_and_overriding) {
  const auto base = probe(), derived = probe("HostTestDerived");
  for (int round = 0; round < 2; ++round) {  // one call site, two classes
    for (id object : {base.raw(), derived.raw()}) {
      CHECK_EQ(send<int>(object, OBJC_SEL("overridden")), object == base.raw() ? 1 : 2);
      CHECK_EQ(send<long>(object, OBJC_SEL("value")), 7l);
    }
  }
  CHECK(send<bool>(derived.raw(), OBJC_SEL("isKindOfClass:"), objc_getClass("HostTestProbe")));
  CHECK(!send<bool>(base.raw(), OBJC_SEL("isKindOfClass:"), objc_getClass("HostTestDerived")));
}

TEST(reference_counts) {
  const long before = host::live_objects("HostTestProbe");
  {
    const auto a = probe();
    const auto b = a;  // NOLINT: a copy is the point
    CHECK_EQ(host::live_objects("HostTestProbe"), before + 1);
  }
  CHECK_EQ(host::live_objects("HostTestProbe"), before);
}

TEST(autorelease_pools_nest) {
  const long before = host::live_objects("NSNumber");
  objc::AutoreleasePool outer;
  ns::Number::make(1);
  {
    objc::AutoreleasePool inner;
    ns::Number::make(2);
    CHECK_EQ(host::live_objects("NSNumber"), before + 2);
  }
  CHECK_EQ(host::live_objects("NSNumber"), before + 1);
  std::thread([&] {
    objc::AutoreleasePool of_thread;
    ns::Number::make(3);
  }).join();
  CHECK_EQ(host::live_objects("NSNumber"), before + 1);
}

TEST(popping_an_outer_pool_ends_inner_pools) {
  const long before = host::live_objects("NSNumber");
  void* outer = objc_autoreleasePoolPush();
  objc_autoreleasePoolPush();
  ns::Number::make(1);
  objc_autoreleasePoolPop(outer);
  CHECK_EQ(host::live_objects("NSNumber"), before);
}

DEATH_CASE(autorelease_without_pool) {
  ns::Number::make(1);
  std::exit(host::autoreleased_without_pool() == 1 ? 0 : 1);
}
TEST(autorelease_without_pool_leaks_and_warns) {
  const death::Outcome outcome =
      death::run("autorelease_without_pool", {"ASAN_OPTIONS=detect_leaks=0"});
  CHECK_EQ(outcome.status, 0);
  CHECK(outcome.stderr_text.find("NSNumber autoreleased with no pool") != std::string::npos);
}

TEST(blocks_capture_and_release) {
  const auto token = std::make_shared<int>(5);
  int called_with = 0;
  {
    objc::Block<void(int, id)> block(
        [token, &called_with](int n, id) { called_with = n + *token; });
    const host::BlockRef<int, id> kept(block.raw());
    const auto p = probe();
    send<void>(p.raw(), OBJC_SEL("call:with:"), block, 37);
    CHECK_EQ(called_with, 42);
    kept(1, nullptr);
    CHECK_EQ(called_with, 6);
    objc_release(objc_retain(block.raw()));
    CHECK_EQ(token.use_count(), 2);
  }
  CHECK_EQ(token.use_count(), 1);
}

TEST(foundation_values) {
  const long live = host::live_objects("NSNumber") + host::live_objects("NSArray") +
                    host::live_objects("NSDictionary") + host::live_objects("NSString");
  {
    objc::AutoreleasePool pool;
    const ns::Array numbers = ns::Array::numbers(std::vector<long>{3, -1, 1l << 40});
    CHECK_EQ(numbers.count(), 3u);
    CHECK_EQ(ns::Number(numbers[2]).integer(), 1l << 40);
    CHECK(host::numbers(numbers.raw()) == (std::vector<long>{3, -1, 1l << 40}));
    CHECK(host::numbers(nullptr).empty());
    const ns::String text = ns::String::make("κόσμε");
    CHECK_EQ(text.str(), "κόσμε");
    const std::array<id, 2> keys{text.raw(), ns::Number::make(4).raw()};
    const std::array<id, 2> values{numbers.raw(), text.raw()};
    const ns::Dictionary map = ns::Dictionary::make(keys, values);
    CHECK_EQ(map.count(), 2u);
    CHECK(map[ns::String::make("κόσμε").raw()] == numbers.raw());  // equal, not identical
    CHECK(map[ns::Number::make(4).raw()] == text.raw());
    CHECK(map[ns::Number::make(5).raw()] == nullptr);
    const ns::Data data = ns::Data::make("abc", 3);
    CHECK_EQ(send<NSUInteger>(data.raw(), OBJC_SEL("length")), 3u);
  }
  CHECK_EQ(live, host::live_objects("NSNumber") + host::live_objects("NSArray") +
                     host::live_objects("NSDictionary") + host::live_objects("NSString"));
}

TEST(responds_to_selector_follows_the_simulated_macos) {
  objc::AutoreleasePool pool;
  const auto d = mps::NDArrayDescriptor::make(mps::DataType::Float32,
                                              ns::Array::numbers(std::vector<long>{2}));
  const SEL prefer = sel_registerName("setPreferPackedRows:");
  auto responds = [&] { return send<bool>(d.raw(), OBJC_SEL("respondsToSelector:"), prefer); };
  setenv("TF_METAL_HOST_MACOS", "14.0", 1);
  CHECK(!responds());
  setenv("TF_METAL_HOST_MACOS", "15.0", 1);
  CHECK(responds());
  unsetenv("TF_METAL_HOST_MACOS");
  CHECK(!send<bool>(d.raw(), OBJC_SEL("respondsToSelector:"), sel_registerName("fly:")));
}

TEST(catalogue_knows_inherited_and_adopted_methods) {
  CHECK(host::find_in_catalogue("MTLBuffer", '-', "contents"));
  CHECK(host::find_in_catalogue("MTLBuffer", '-', "setLabel:"));       // of MTLResource
  CHECK(host::find_in_catalogue("MPSCommandBuffer", '-', "commit"));   // of MTLCommandBuffer
  CHECK(host::find_in_catalogue("MPSGraphExecutable", '+', "alloc"));  // of NSObject
  CHECK(!host::find_in_catalogue("MTLBuffer", '-', "commit"));
  CHECK_EQ(host::find_in_catalogue("MTLCompileOptions", '-', "setMathMode:")->macos, 1500);
}

DEATH_TEST(unknown_selector, "-[MTLSharedEvent explode]: unrecognized selector; NOT IN APPLE'S") {
  const auto event = mtl::Device::create_default().new_shared_event();
  send<void>(event.raw(), OBJC_SEL("explode"));
}
DEATH_TEST(selector_that_the_host_lacks, "Apple has it, the host does not implement it") {
  const auto event = mtl::Device::create_default().new_shared_event();
  send<id>(event.raw(), OBJC_SEL("newSharedEventHandle"));
}
DEATH_TEST(wrong_types, "called with types v@:i, Apple declares v@:Q") {
  const auto event = mtl::Device::create_default().new_shared_event();
  send<void>(event.raw(), OBJC_SEL("setSignaledValue:"), 1);
}
DEATH_TEST(wrong_result_type, "called with types f@:, Apple declares Q@:") {
  const auto event = mtl::Device::create_default().new_shared_event();
  send<float>(event.raw(), OBJC_SEL("signaledValue"));
}
DEATH_TEST(types_other_than_the_host_method, "called with types i@:, the host implements q@:") {
  send<int>(probe().raw(), OBJC_SEL("value"));
}
DEATH_TEST(selector_newer_than_the_simulated_macos, "needs macOS 15.0, simulating 14.0") {
  setenv("TF_METAL_HOST_MACOS", "14.0", 1);
  mtl::CompileOptions::make().set_math_mode(mtl::MathMode::Safe);
}
DEATH_TEST(unknown_class, "objc_getClass(\"MTLToaster\"): NOT IN APPLE'S CATALOGUE") {
  objc_getClass("MTLToaster");
}
DEATH_TEST(class_that_the_host_lacks, "Apple has it, the host does not implement it") {
  objc_getClass("MTLHeapDescriptor");
}
DEATH_TEST(object_of_the_wrong_class, "must be a MTLSharedEvent, got a MTLCommandQueue") {
  objc::AutoreleasePool pool;
  const auto queue = mtl::Device::create_default().new_command_queue();
  queue.command_buffer().encode_signal(mtl::SharedEvent(queue.raw()), 1);
}
DEATH_TEST(no_such_initializer, "-[NSString init]: not an initializer") {
  send<id>(objc_getClass("NSString"), OBJC_SEL("new"));
}
DEATH_TEST(array_index_out_of_bounds, "index 2 beyond bounds of 2") {
  objc::AutoreleasePool pool;
  ns::Array::numbers(std::vector<long>{1, 2})[2];
}
#if !defined(__SANITIZE_ADDRESS__)  // which finds these first
DEATH_TEST(message_to_a_freed_object, "value sent to a deallocated HostTestProbe") {
  id object = probe().raw();
  send<long>(object, OBJC_SEL("value"));
}
DEATH_TEST(over_release, "release sent to a deallocated HostTestProbe") {
  const auto p = probe();
  objc_release(p.raw());
  objc_release(p.raw());
}
#endif

TEST(parallel_for_covers_everything_once) {
  for (size_t n : {0ul, 1ul, 7ul, 1000ul, 100003ul}) {
    std::vector<std::atomic<int>> seen(n);
    host::parallel_for(n, 10, [&](size_t begin, size_t end) {
      for (; begin < end; ++begin) ++seen[begin];
    });
    bool once = true;
    for (auto& count : seen) once &= count == 1;
    CHECK(once);
  }
}

TEST(parallel_for_nests_and_throws) {
  std::atomic<int> sum{0};
  host::parallel_for(8, 1, [&](size_t begin, size_t end) {
    for (; begin < end; ++begin) {
      host::parallel_for(100, 1, [&](size_t b, size_t e) { sum += static_cast<int>(e - b); });
    }
  });
  CHECK_EQ(sum.load(), 800);
  bool caught = false;
  try {
    host::parallel_for(100, 1, [](size_t begin, size_t end) {
      if (begin <= 50 && 50 < end) throw std::runtime_error("fifty");
    });
  } catch (const std::runtime_error&) {
    caught = true;
  }
  CHECK(caught);
}

TEST(parallel_for_keeps_the_floating_point_mode) {
  const unsigned long mode = host::floating_point_mode();
  host::flush_denormals();
  std::atomic<int> flushed{0};
  host::parallel_for(64, 1, [&](size_t begin, size_t end) {
    for (; begin < end; ++begin) {
      volatile float tiny = 1e-39f;
      flushed += tiny * 2 == 0;
    }
  });
  host::set_floating_point_mode(mode);
  CHECK_EQ(flushed.load(), 64);
}

DEATH_TEST_MAIN()
