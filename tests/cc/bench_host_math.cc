// Speed of the host's math: GFLOP/s of products, GB/s of elementwise chains and reductions.
// Not a test; build with TFMETAL_TESTS and run it alone on the machine.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>

#include "plugin/host/mps_graph/gemm.h"
#include "plugin/host/parallel.h"
#include "tests/cc/run_graph.h"

using namespace run_graph;

namespace {

// Seconds of the fastest of several runs.
double best_of(const std::function<void()>& run) {
  double best = 1e9;
  for (int i = 0; i < 7; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    run();
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    best = std::min(best, took.count());
  }
  return best;
}

void bench_products() {
  for (DataType type : {DataType::Float32, DataType::Float16, DataType::BFloat16}) {
    for (long n : {32l, 128l, 256l, 512l, 1024l, 2048l}) {
      const std::vector<char> a(n * n * mps::size_of(type)), b(a.size());
      std::vector<char> c(a.size());
      const long repeats = std::max(1l, 256 * 256 * 256 / (n * n * n));
      const double seconds = best_of([&] {
        for (long i = 0; i < repeats; ++i) {
          host::gemm(n, n, n, {a.data(), type, n, 1}, {b.data(), type, n, 1}, c.data(), type);
        }
      });
      std::printf("matmul %-5s %5ld  %7.1f GFLOP/s\n", host::type_name(type), n,
                  2e-9 * n * n * n * repeats / seconds);
    }
  }
}

void bench_graph(const char* name, DataType type, double bytes_per_element,
                 const std::function<mpsg::Tensor(Runner&, mpsg::Tensor, mpsg::Tensor)>& build) {
  Runner r;
  const Shape shape{2048, 2048};
  const Value x = value(type, shape, std::vector<double>(2048 * 2048, 0.5));
  const auto executable = r.compile({build(r, r.feed(x), r.feed(x))});
  const double seconds = r.time(executable, best_of);
  std::printf("%-10s %-5s 4M  %7.2f ms  %6.1f GB/s\n", name, host::type_name(type), 1e3 * seconds,
              bytes_per_element * mps::size_of(type) * 2048 * 2048 * 1e-9 / seconds);
}

}  // namespace

int main() {
  host::flush_denormals();
  bench_products();
  using mpsg::Tensor;
  const ns::AutoreleasePool pool;
  const ns::Array first = ns::Array::numbers(std::vector<long>{0});
  const ns::Array last = ns::Array::numbers(std::vector<long>{1});
  for (DataType type : {DataType::Float32, DataType::Float16, DataType::BFloat16}) {
    bench_graph("add", type, 3, [](Runner& r, Tensor a, Tensor b) { return r.graph().add(a, b); });
    bench_graph("chain", type, 3, [](Runner& r, Tensor a, Tensor b) {
      const auto& g = r.graph();
      return g.mul(g.add(g.mul(a, b), a), g.sub(b, g.constant(1, a.data_type())));
    });
    bench_graph("exp", type, 2, [](Runner& r, Tensor a, Tensor) { return r.graph().exp(a); });
    bench_graph("tanh", type, 2, [](Runner& r, Tensor a, Tensor) { return r.graph().tanh(a); });
    bench_graph("erf", type, 2, [](Runner& r, Tensor a, Tensor) { return r.graph().erf(a); });
    bench_graph("pow", type, 3, [](Runner& r, Tensor a, Tensor b) { return r.graph().pow(a, b); });
    bench_graph("sum 0", type, 1,
                [&](Runner& r, Tensor a, Tensor) { return r.graph().sum(a, first); });
    bench_graph("sum 1", type, 1,
                [&](Runner& r, Tensor a, Tensor) { return r.graph().sum(a, last); });
    bench_graph("softmax", type, 2,
                [](Runner& r, Tensor a, Tensor) { return r.graph().softmax(a, 1); });
    bench_graph("transpose", type, 2, [](Runner& r, Tensor a, Tensor b) {
      const auto& g = r.graph();
      return g.add(g.transpose(a, ns::Array::numbers(std::vector<long>{1, 0})), b);
    });
  }
}
