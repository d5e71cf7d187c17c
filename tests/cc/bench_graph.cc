// Speed of one large graph on the host: the forward and backward pass of a Transformer encoder, as
// the optimizer of TensorFlow's graphs would hand it over.
// Not a test; build with TFMETAL_TESTS and run it alone on the machine.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <random>

#include "plugin/host/parallel.h"
#include "tests/cc/run_graph.h"

using namespace run_graph;
using mpsg::Tensor;

namespace {

constexpr long kBatch = 16, kLength = 128, kWidth = 256, kHeads = 4, kHidden = 1024;
constexpr DataType kType = DataType::Float32;

double seconds_of(const std::function<void()>& run) {
  const auto begin = std::chrono::steady_clock::now();
  run();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}
double median_of(const std::function<void()>& run) {
  std::vector<double> times;
  for (int i = 0; i < 15; ++i) times.push_back(seconds_of(run));
  std::nth_element(times.begin(), times.begin() + 7, times.end());
  return times[7];
}

class Encoder {
 public:
  explicit Encoder(Runner& r) : r_(r), g_(r.graph()) {}

  // Appends a layer; `grow` turns gradients with respect to its result into those of its operand.
  Tensor layer(Tensor x, std::function<Tensor(Tensor)>* grow) {
    std::function<Tensor(Tensor)> attend, project, norm, widen, activate, narrow, norm_again;
    const Tensor heads = attention(x, &attend);
    const Tensor attended = dense(heads, kWidth, kWidth, &project);
    const Tensor middle = normalize(g_.add(x, attended), &norm);
    const Tensor hidden = gelu(dense(middle, kWidth, kHidden, &widen), &activate);
    const Tensor out =
        normalize(g_.add(middle, dense(hidden, kHidden, kWidth, &narrow)), &norm_again);
    *grow = [=, this](Tensor dy) {
      const Tensor sum = norm_again(dy);
      const Tensor dmiddle = g_.add(sum, widen(activate(narrow(sum))));
      const Tensor dsum = norm(dmiddle);
      return g_.add(dsum, attend(project(dsum)));
    };
    return out;
  }
  std::vector<Tensor> gradients;

 private:
  Tensor parameter(const Shape& shape) {
    static std::mt19937 random(1);
    std::uniform_real_distribution<double> uniform(-0.05, 0.05);
    long n = 1;
    for (long extent : shape) n *= extent;
    std::vector<double> values(static_cast<size_t>(n));
    for (double& v : values) v = uniform(random);
    return r_.feed(value(kType, shape, values));
  }
  static ns::Array list(const Shape& shape) { return ns::Array::numbers(shape); }
  Tensor number(double x) const { return g_.constant(x, kType); }
  Tensor sum(Tensor x, const Shape& axes) const { return g_.sum(x, list(axes)); }
  Tensor rows(Tensor x, long width) const { return g_.reshape(x, list({kBatch * kLength, width})); }

  Tensor dense(Tensor x, long from, long to, std::function<Tensor(Tensor)>* grow) {
    const Tensor w = parameter({from, to}), b = parameter({to});
    *grow = [=, this](Tensor dy) {
      const Tensor d = rows(dy, to);
      gradients.push_back(g_.matmul(g_.transpose(rows(x, from), list({1, 0})), d));
      gradients.push_back(sum(dy, {0, 1}));
      return g_.reshape(g_.matmul(d, g_.transpose(w, list({1, 0}))), list({kBatch, kLength, from}));
    };
    return g_.add(g_.reshape(g_.matmul(rows(x, from), w), list({kBatch, kLength, to})), b);
  }

  Tensor normalize(Tensor x, std::function<Tensor(Tensor)>* grow) {
    const Tensor gamma = parameter({kWidth}), beta = parameter({kWidth});
    const Tensor mean = g_.mean(x, list({2}));
    const Tensor centred = g_.sub(x, mean);
    const Tensor variance = g_.mean(g_.mul(centred, centred), list({2}));
    const Tensor rate = g_.rsqrt(g_.add(variance, number(1e-3)));
    const Tensor factor = g_.mul(rate, gamma);
    const Tensor shift = g_.sub(beta, g_.mul(mean, factor));
    *grow = [=, this](Tensor dy) {
      gradients.push_back(sum(g_.mul(dy, g_.mul(centred, rate)), {0, 1}));
      gradients.push_back(sum(dy, {0, 1}));
      const Tensor scaled = g_.mul(dy, factor);
      const Tensor dvariance = g_.mul(sum(g_.mul(scaled, centred), {2}),
                                      g_.mul(g_.mul(rate, rate), number(-1.0 / kWidth)));
      const Tensor dmean = g_.mul(sum(scaled, {2}), number(-1.0 / kWidth));
      return g_.add(g_.add(scaled, g_.mul(centred, dvariance)), dmean);
    };
    return g_.add(g_.mul(x, factor), shift);
  }

  Tensor gelu(Tensor x, std::function<Tensor(Tensor)>* grow) {
    const Tensor cdf =
        g_.mul(number(0.5), g_.add(number(1), g_.erf(g_.mul(x, number(0.70710678)))));
    *grow = [=, this](Tensor dy) {
      const Tensor density = g_.mul(number(0.39894228), g_.exp(g_.mul(number(-0.5), g_.mul(x, x))));
      return g_.mul(dy, g_.add(cdf, g_.mul(x, density)));
    };
    return g_.mul(x, cdf);
  }

  Tensor split(Tensor x) const {
    return g_.transpose(g_.reshape(x, list({kBatch, kLength, kHeads, kWidth / kHeads})),
                        list({0, 2, 1, 3}));
  }
  Tensor join(Tensor x) const {
    return g_.reshape(g_.transpose(x, list({0, 2, 1, 3})), list({kBatch, kLength, kWidth}));
  }
  Tensor swap(Tensor x) const { return g_.transpose(x, list({0, 1, 3, 2})); }

  Tensor attention(Tensor x, std::function<Tensor(Tensor)>* grow) {
    std::function<Tensor(Tensor)> to_q, to_k, to_v;
    const Tensor q = split(dense(x, kWidth, kWidth, &to_q));
    const Tensor k = split(dense(x, kWidth, kWidth, &to_k));
    const Tensor v = split(dense(x, kWidth, kWidth, &to_v));
    const Tensor scores = g_.mul(g_.matmul(q, swap(k)), number(0.125));
    const Tensor p = g_.softmax(scores, 3);
    *grow = [=, this](Tensor dy) {
      const Tensor d = split(dy), dp = g_.matmul(d, swap(v));
      const Tensor ds = g_.mul(g_.mul(g_.sub(dp, sum(g_.mul(dp, p), {3})), p), number(0.125));
      const Tensor dq = g_.matmul(ds, k), dk = g_.matmul(swap(ds), q);
      const Tensor dv = g_.matmul(swap(p), d);
      return g_.add(g_.add(to_q(join(dq)), to_k(join(dk))), to_v(join(dv)));
    };
    return join(g_.matmul(p, v));
  }

  Runner& r_;
  const mpsg::Graph& g_;
};

}  // namespace

int main(int count, char** arguments) {
  const int layers = count > 1 ? std::atoi(arguments[1]) : 4;
  host::flush_denormals();
  const ns::AutoreleasePool pool;
  Runner r;
  Encoder encoder(r);
  Tensor x = r.feed(
      value(kType, {kBatch, kLength, kWidth}, std::vector<double>(kBatch * kLength * kWidth, 0.5)));
  std::vector<std::function<Tensor(Tensor)>> grow(static_cast<size_t>(layers));
  for (auto& each : grow) x = encoder.layer(x, &each);
  Tensor d = r.graph().mul(x, x);
  for (size_t i = grow.size(); i-- > 0;) d = grow[i](d);
  std::vector<Tensor> targets = encoder.gradients;
  targets.push_back(d);
  objc::Ref<mpsg::Executable> executable;
  std::printf("compile %7.2f ms\n", 1e3 * seconds_of([&] { executable = r.compile(targets); }));
  std::printf("run     %7.2f ms\n", 1e3 * r.time(executable, median_of));
}
