// What the tests of the host's MPSGraph share: random operands, comparisons, expected aborts.
#pragma once

#include <cmath>
#include <numeric>
#include <random>

#include "tests/cc/check.h"
#include "tests/cc/run_graph.h"

namespace graph_check {

using namespace run_graph;

inline const std::vector<DataType> kFloats = {DataType::Float32, DataType::Float16,
                                              DataType::BFloat16};
inline constexpr float kInf = std::numeric_limits<float>::infinity();
inline constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

inline ns::Array list(const std::vector<long>& values) { return ns::Array::numbers(values); }
inline long product(const Shape& shape) {
  return std::accumulate(shape.begin(), shape.end(), 1l, std::multiplies<>());
}
inline Shape strides(const Shape& shape) { return host::strides_of(shape); }

// Relative distance of two neighbouring numbers of a type.
inline double epsilon(DataType type) {
  return type == DataType::Float32 ? 1.2e-7 : type == DataType::Float16 ? 9.8e-4 : 7.9e-3;
}

inline std::mt19937& random_engine() {
  static std::mt19937 engine(20);
  return engine;
}
inline Value random_value(DataType type, const Shape& shape, double low = -2, double high = 2) {
  std::uniform_real_distribution<double> uniform(low, high);
  std::vector<double> elements(product(shape));
  for (double& x : elements) x = uniform(random_engine());
  return value(type, shape, elements);
}

inline void check_close(const char* what, const Value& got, const std::vector<double>& want,
                        double relative, double absolute = 0) {
  CHECK_EQ(size_t(got.count()), want.size());
  for (size_t i = 0; i < want.size(); ++i) {
    const double x = got.at(long(i));
    if (std::isnan(want[i])
            ? std::isnan(x)
            : x == want[i] || std::abs(x - want[i]) <= absolute + relative * std::abs(want[i])) {
      continue;
    }
    check::report(what, int(i), std::to_string(x) + " instead of " + std::to_string(want[i]));
    return;
  }
}
inline void check_equal(const char* what, const Value& got, const std::vector<double>& want) {
  check_close(what, got, want, 0);
}
inline void check_abort(const char* what, const std::string& fragments,
                        const std::function<void(Runner&)>& body) {
  const std::string wrong = expect_abort(fragments, [&] {
    Runner runner;
    body(runner);
  });
  if (!wrong.empty()) check::report(what, 0, wrong);
}

// Calls f(position) for every position within `shape`, in row-major order.
inline void for_each(const Shape& shape, const std::function<void(const Shape&)>& f) {
  Shape at(shape.size(), 0);
  for (long i = 0; i < product(shape); ++i) {
    f(at);
    for (size_t axis = shape.size(); axis-- > 0;) {
      if (++at[axis] < shape[axis]) break;
      at[axis] = 0;
    }
  }
}

}  // namespace graph_check
