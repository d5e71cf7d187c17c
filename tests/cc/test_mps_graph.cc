// The host's MPSGraph: values against plain double-precision references, the rules of
// plugin/host/mps_graph, and the aborts. tests/test_cc.py also runs it in chaos mode.
#include <array>

#include "tests/cc/graph_check.h"

using namespace graph_check;
using mpsg::Tensor;

// ---- element types ---------------------------------------------------------------------------

TEST(half_conversion_is_exact_and_rounds_to_even) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const host::Half half{uint16_t(bits)};
    const int exponent = int(bits >> 10 & 31), mantissa = int(bits & 1023);
    const double sign = bits & 0x8000 ? -1 : 1;
    const double want = exponent == 31  ? (mantissa ? kNan : sign * kInf)
                        : exponent == 0 ? sign * std::ldexp(mantissa, -24)
                                        : sign * std::ldexp(1024 + mantissa, exponent - 25);
    const float got = host::to_float(half);
    CHECK(std::isnan(want) ? std::isnan(got) : got == want && std::signbit(got) == (sign < 0));
    if (std::isnan(want)) continue;
    host::Half back;
    host::from_float(got, back);
    CHECK_EQ(back.bits, half.bits);
    if (exponent == 31 || (bits & 0x7fff) == 0x7bff) continue;
    // Half way to the next number: to the even one. A little less or more: to the nearer one.
    const float next = host::to_float(host::Half{uint16_t(bits + 1)}), middle = (got + next) / 2;
    host::from_float(middle, back);
    CHECK_EQ(back.bits, uint16_t(bits + (bits & 1)));
    host::from_float(std::nextafter(middle, got), back);
    CHECK_EQ(back.bits, half.bits);
    host::from_float(std::nextafter(middle, next), back);
    CHECK_EQ(back.bits, uint16_t(bits + 1));
  }
  host::Half big;
  host::from_float(65519.0f, big);
  CHECK_EQ(big.bits, 0x7bff);
  host::from_float(65520.0f, big);
  CHECK_EQ(big.bits, 0x7c00);
}

TEST(bfloat_rounds_to_even) {
  host::BFloat b;
  host::from_float(std::bit_cast<float>(0x3f808000u), b);
  CHECK_EQ(b.bits, 0x3f80);
  host::from_float(std::bit_cast<float>(0x3f818000u), b);
  CHECK_EQ(b.bits, 0x3f82);
  host::from_float(std::bit_cast<float>(0x7fffffffu), b);
  CHECK_EQ(b.bits, 0x7fc0);
  host::from_float(std::bit_cast<float>(0x7f7fffffu), b);
  CHECK_EQ(b.bits, 0x7f80);
}

// ---- elementwise -----------------------------------------------------------------------------

TEST(functions_stay_within_metals_bounds) {
  struct Function {
    const char* name;
    Tensor (mpsg::Graph::*method)(Tensor) const;
    double (*reference)(double);
    double low, high, ulps;
  };
  const Function functions[] = {
      {"exp", &mpsg::Graph::exp, [](double x) { return std::exp(x); }, -87, 88, 4},
      {"log", &mpsg::Graph::log, [](double x) { return std::log(x); }, 1e-30, 1e4, 4},
      {"log near 1", &mpsg::Graph::log, [](double x) { return std::log(x); }, 0.5, 1.5, 4},
      {"tanh", &mpsg::Graph::tanh, [](double x) { return std::tanh(x); }, -12, 12, 5},
      {"tanh small", &mpsg::Graph::tanh, [](double x) { return std::tanh(x); }, -0.7, 0.7, 5},
      {"sigmoid", &mpsg::Graph::sigmoid, [](double x) { return 1 / (1 + std::exp(-x)); }, -20, 20,
       5},
      {"erf", &mpsg::Graph::erf, [](double x) { return std::erf(x); }, -4, 4, 4},
      {"sin", &mpsg::Graph::sin, [](double x) { return std::sin(x); }, -100, 100, 4},
      {"sqrt", &mpsg::Graph::sqrt, [](double x) { return std::sqrt(x); }, 0, 1e9, 0.5},
      {"rsqrt", &mpsg::Graph::rsqrt, [](double x) { return 1 / std::sqrt(x); }, 1e-9, 1e9, 2},
      {"reciprocal", &mpsg::Graph::reciprocal, [](double x) { return 1 / x; }, 1e-9, 1e9, 1},
      {"cos", &mpsg::Graph::cos, [](double x) { return std::cos(x); }, -100, 100, 4},
      {"tan", &mpsg::Graph::tan, [](double x) { return std::tan(x); }, -100, 100, 6},
      {"asin", &mpsg::Graph::asin, [](double x) { return std::asin(x); }, -1, 1, 4},
      {"acos", &mpsg::Graph::acos, [](double x) { return std::acos(x); }, -1, 1, 4},
      {"atan", &mpsg::Graph::atan, [](double x) { return std::atan(x); }, -50, 50, 5},
      {"sinh", &mpsg::Graph::sinh, [](double x) { return std::sinh(x); }, -80, 80, 4},
      {"cosh", &mpsg::Graph::cosh, [](double x) { return std::cosh(x); }, -80, 80, 4},
      {"asinh", &mpsg::Graph::asinh, [](double x) { return std::asinh(x); }, -1e4, 1e4, 4},
      {"acosh", &mpsg::Graph::acosh, [](double x) { return std::acosh(x); }, 1, 1e4, 4},
      {"atanh", &mpsg::Graph::atanh, [](double x) { return std::atanh(x); }, -1, 1, 5}};
  for (const Function& f : functions) {
    Runner runner;
    const Value x = random_value(DataType::Float32, {20011}, f.low, f.high);
    const Value y = runner.run((runner.graph().*f.method)(runner.feed(x)));
    double worst = 0;
    for (long i = 0; i < x.count(); ++i) {
      const double want = f.reference(x.at(i));
      const double ulp = std::ldexp(1, std::max(std::ilogb(want), -126) - 23);
      worst = std::max(worst, std::abs(y.at(i) - want) / ulp);
    }
    if (!(worst <= f.ulps + 0.5)) {
      check::report(f.name, 0, std::to_string(worst) + " ulp, allowed " + std::to_string(f.ulps));
    }
  }
}

TEST(powers_and_quotients_stay_within_metals_bounds) {
  Runner runner;
  const auto& g = runner.graph();
  const Value a = random_value(DataType::Float32, {20011}, 1e-3, 1e3);
  const Value b = random_value(DataType::Float32, {20011}, -8, 8);
  const Tensor x = runner.feed(a), y = runner.feed(b);
  const auto v = runner.run({g.pow(x, y), g.div(x, y)});
  double power = 0, quotient = 0;
  for (long i = 0; i < a.count(); ++i) {
    const auto ulps = [&](const Value& got, double want) {
      const double ulp = std::ldexp(1, std::max(std::ilogb(want), -126) - 23);
      return std::abs(got.at(i) - want) / ulp;
    };
    power = std::max(power, ulps(v[0], std::pow(a.at(i), b.at(i))));
    quotient = std::max(quotient, ulps(v[1], a.at(i) / b.at(i)));
  }
  CHECK(power <= 16 && quotient <= 2.5);
}

TEST(function_edges) {
  Runner r;
  const auto& g = r.graph();
  const Tensor x = r.feed(floats({7}, {0, -0.0, kInf, -kInf, kNan, -1, 1000}));
  const auto v = r.run({g.exp(x), g.log(x), g.sqrt(x), g.rsqrt(x), g.sigmoid(x), g.tanh(x),
                        g.reciprocal(x), g.sign(x), g.relu(x)});
  check_equal("exp", v[0], {1, 1, kInf, 0, kNan, double(std::exp(-1.0f)), kInf});
  check_close("log", v[1], {-kInf, -kInf, kInf, kNan, kNan, kNan, std::log(1000.0)}, 3e-7);
  check_close("sqrt", v[2], {0, 0, kInf, kNan, kNan, kNan, std::sqrt(1000.0)}, 1e-7);
  CHECK(std::signbit(v[2].at(1)));
  check_close("rsqrt", v[3], {kInf, -kInf, 0, kNan, kNan, kNan, 1 / std::sqrt(1000.0)}, 2e-7);
  check_close("sigmoid", v[4], {0.5, 0.5, 1, 0, kNan, 0.26894142, 1}, 3e-7);
  check_close("tanh", v[5], {0, 0, 1, -1, kNan, -0.76159416, 1}, 3e-7);
  check_close("reciprocal", v[6], {kInf, -kInf, 0, 0, kNan, -1, 1e-3}, 1e-7);
  check_equal("sign", v[7], {0, 0, 1, -1, 0, -1, 1});
  check_equal("relu", v[8], {0, 0, kInf, 0, 0, 0, 1000});
  CHECK(v[1].as<uint32_t>()[5] == host::kCanonicalNan);  // sign of NaN is lost in arithmetic
}

TEST(minimum_and_maximum_and_nan) {
  Runner r;
  const auto& g = r.graph();
  for (DataType type : kFloats) {
    const Tensor a = r.feed(value(type, {4}, {kNan, 1, 2, kNan}));
    const Tensor b = r.feed(value(type, {4}, {1, kNan, 3, kNan}));
    const auto v = r.run(
        {g.minimum(a, b), g.maximum(a, b), g.minimum_nan(a, b), g.maximum_nan(a, b), g.is_nan(a)});
    check_equal("minimum", v[0], {1, 1, 2, kNan});
    check_equal("maximum", v[1], {1, 1, 3, kNan});
    check_equal("minimum_nan", v[2], {kNan, kNan, 2, kNan});
    check_equal("maximum_nan", v[3], {kNan, kNan, 3, kNan});
    check_equal("is_nan", v[4], {1, 0, 0, 1});
    CHECK(v[4].type == DataType::Bool);
  }
}

TEST(arithmetic_flushes_denormals_and_copies_keep_them) {
  Runner r;
  const auto& g = r.graph();
  const std::vector<uint32_t> bits = {1, 0x80000001, 0x007fffff, 0x7f800001};
  const Tensor x = r.feed(raw_value(DataType::Float32, {4}, bits));
  const Tensor one = g.constant(1, DataType::Float32), yes = g.constant(1, DataType::Bool);
  const auto v = r.run({g.mul(x, one), g.identity(x), g.select(yes, x, x), g.negative(x),
                        g.minimum(x, g.constant(5, DataType::Float32))});
  check_equal("mul", v[0], {0, 0, 0, kNan});
  CHECK(v[1].vector<uint32_t>() == bits);
  CHECK(v[2].vector<uint32_t>() == bits);
  CHECK_EQ(v[3].as<uint32_t>()[3], 0xff800001u);
  CHECK_EQ(v[4].as<uint32_t>()[2], 0x007fffffu);
}

TEST(integers) {
  Runner r;
  const auto& g = r.graph();
  const Tensor a = r.feed(value(DataType::Int32, {5}, {7, -7, -2147483648.0, 5, 3}));
  const Tensor b = r.feed(value(DataType::Int32, {5}, {-2, 2, -1, 0, 40}));
  const auto v = r.run({g.add(a, b), g.mul(a, b), g.div(a, b), g.modulo(a, b), g.floor_mod(a, b),
                        g.bitwise_left_shift(a, b), g.bitwise_right_shift(a, b), g.abs(a)});
  check_equal("add wraps", v[0], {5, -5, 2147483647.0, 5, 43});
  check_equal("mul wraps", v[1], {-14, -14, -2147483648.0, 0, 120});
  check_equal("div truncates", v[2], {-3, -3, -2147483648.0, -1, 0});
  check_equal("modulo", v[3], {1, -1, 0, 0, 3});
  check_equal("floor_mod", v[4], {-1, 1, 0, 0, 3});
  CHECK_EQ(v[5].as<int32_t>()[4], 3 << 8);
  CHECK_EQ(v[6].as<int32_t>()[1], -7 >> 2);
  check_equal("abs", v[7], {7, 7, -2147483648.0, 5, 3});
}

TEST(logic_answers_in_the_operands_type) {
  Runner r;
  const auto& g = r.graph();
  const Tensor a = r.feed(floats({4}, {0, 2, 0, kNan})), b = r.feed(floats({4}, {0, 0, 3, 1}));
  const auto v = r.run({g.logical_and(a, b), g.logical_or(a, b), g.logical_xor(a, b),
                        g.logical_not(a), g.equal(a, b), g.logical_nand(a, b)});
  check_equal("and", v[0], {0, 0, 0, 1});
  check_equal("or", v[1], {0, 1, 1, 1});
  check_equal("xor", v[2], {0, 1, 1, 0});
  check_equal("not", v[3], {1, 0, 1, 0});
  check_equal("nand", v[5], {1, 1, 1, 0});
  CHECK(v[0].type == DataType::Float32 && v[3].type == DataType::Float32);
  CHECK(v[4].type == DataType::Bool);
}

TEST(casts) {
  Runner r;
  const auto& g = r.graph();
  const Tensor x = r.feed(floats({7}, {1.9, -1.9, 300, -300, kNan, 3e9, -3e9}));
  const auto v =
      r.run({g.cast(x, DataType::Int8), g.cast(x, DataType::UInt8), g.cast(x, DataType::Int32),
             g.cast(x, DataType::Bool), g.cast(x, DataType::Float16), g.cast(x, DataType::Int64)});
  check_equal("i8", v[0], {1, -1, 127, -128, 0, 127, -128});
  check_equal("u8", v[1], {1, 0, 255, 0, 0, 255, 0});
  check_equal("i32", v[2], {1, -1, 300, -300, 0, 2147483647.0, -2147483648.0});
  check_equal("bool", v[3], {1, 1, 1, 1, 1, 1, 1});
  check_close("f16", v[4], {1.9, -1.9, 300, -300, kNan, kInf, -kInf}, 5e-4);
  check_equal("i64", v[5], {1, -1, 300, -300, 0, 3e9, -3e9});
  Runner back;
  const Tensor i = back.feed(value(DataType::Int32, {3}, {-1, 257, 16777217}));
  const auto w =
      back.run({back.graph().cast(i, DataType::UInt8), back.graph().cast(i, DataType::Float32)});
  check_equal("wraps", w[0], {255, 1, 1});
  check_equal("f32", w[1], {-1, 257, 16777216});
}

TEST(broadcasting_against_a_reference) {
  const std::vector<std::array<Shape, 3>> cases = {{Shape{3, 4}, {4}, {3, 4}},
                                                   {Shape{3, 1}, {1, 4}, {3, 4}},
                                                   {Shape{}, {2, 3}, {2, 3}},
                                                   {Shape{2, 1, 5}, {3, 1}, {2, 3, 5}},
                                                   {Shape{1, 1}, {7}, {1, 7}},
                                                   {Shape{2, 3, 4, 5}, {3, 1, 5}, {2, 3, 4, 5}},
                                                   {Shape{5, 1, 1000}, {5, 7, 1}, {5, 7, 1000}},
                                                   {Shape{1}, {}, {1}},
                                                   {Shape{40000, 3}, {40000, 1}, {40000, 3}},
                                                   {Shape{70001}, {}, {70001}},
                                                   // Short rows: blocks cover many of them.
                                                   {Shape{5001, 16}, {16}, {5001, 16}},
                                                   {Shape{6, 1, 3}, {6, 700, 3}, {6, 700, 3}},
                                                   {Shape{1, 7}, {3001, 1}, {3001, 7}},
                                                   {Shape{4, 1, 5}, {4, 300, 1}, {4, 300, 5}},
                                                   {Shape{90, 255}, {255}, {90, 255}},
                                                   {Shape{90, 256}, {90, 1}, {90, 256}}};
  for (const auto& [left, right, shape] : cases) {
    for (DataType type : {DataType::Float32, DataType::BFloat16, DataType::Int64}) {
      Runner r;
      const Value a = random_value(type, left, -50, 50), b = random_value(type, right, -50, 50);
      const Value got = r.run(r.graph().sub(r.feed(a), r.feed(b)));
      CHECK(got.shape == shape);
      std::vector<double> want;
      const auto at = [&](const Value& v, const Shape& position) {
        long offset = 0;
        const Shape own = strides(v.shape);
        for (size_t i = 0; i < v.shape.size(); ++i) {
          if (v.shape[i] != 1) offset += own[i] * position[position.size() - v.shape.size() + i];
        }
        return v.at(offset);
      };
      for_each(shape, [&](const Shape& p) {
        want.push_back(value(type, {}, {at(a, p) - at(b, p)}).at(0));
      });
      check_equal("broadcast", got, want);
    }
  }
}

TEST(sixteen_bit_chains_round_after_every_operation) {
  for (DataType type : {DataType::Float16, DataType::BFloat16}) {
    Runner fused, single;
    const Value x = random_value(type, {5000}), y = random_value(type, {5000});
    const auto chain = [](Runner& r, Tensor a, Tensor b, bool stop) {
      const auto& g = r.graph();
      const auto cut = [&](Tensor t) {  // a node that ends a chain
        return stop ? g.reverse(g.reverse(t, list({0})), list({0})) : t;
      };
      const Tensor product = cut(g.mul(a, b)), sum = cut(g.add(product, a));
      return g.div(cut(g.exp(sum)),
                   cut(g.sub(product, g.constant(3, r.graph().add(a, b).data_type()))));
    };
    const Value one = fused.run(chain(fused, fused.feed(x), fused.feed(y), false));
    const Value two = single.run(chain(single, single.feed(x), single.feed(y), true));
    CHECK(one.bytes == two.bytes);
  }
}

// ---- reductions ------------------------------------------------------------------------------

TEST(reductions_against_a_reference) {
  const std::vector<std::pair<Shape, std::vector<long>>> cases = {
      {{7}, {0}},          {{3, 5}, {1}},        {{3, 5}, {0}},       {{2, 3, 4}, {1}},
      {{2, 3, 4}, {0, 2}}, {{2, 3, 4}, {-1}},    {{1, 6, 1}, {0, 1}}, {{3, 5000}, {1}},
      {{5000, 3}, {0}},    {{300, 700}, {0, 1}}, {{2, 9, 3000}, {1}}, {{4, 3, 2, 5}, {1, 3}},
      {{600000}, {0}},     {{2, 3}, {}},         {{3, 1, 2}, {1}},    {{260, 2, 2100}, {0}}};
  for (const auto& [shape, axes] : cases) {
    for (DataType type : {DataType::Float32, DataType::Float16, DataType::Int32}) {
      Runner r;
      const auto& g = r.graph();
      const Value x = random_value(type, shape, -1, 3);
      const Tensor t = r.feed(x);
      Shape reduced = shape;
      for (long axis : axes) reduced[(axis + long(shape.size())) % long(shape.size())] = 1;
      const long n = product(reduced), count = product(shape) / n;
      std::vector<double> sum(n, 0), absolute(n, 0), most(n, -1e30), squares(n, 0);
      std::vector<long> target;
      for_each(shape, [&](const Shape& p) {
        long at = 0;
        for (size_t i = 0; i < p.size(); ++i)
          at += reduced[i] == 1 ? 0 : p[i] * strides(reduced)[i];
        target.push_back(at);
      });
      for (long i = 0; i < product(shape); ++i) {
        sum[target[i]] += x.at(i), absolute[target[i]] += std::abs(x.at(i));
        most[target[i]] = std::max(most[target[i]], x.at(i));
      }
      const auto v = r.run({g.sum(t, list(axes)), g.max(t, list(axes))});
      CHECK(v[0].shape == reduced && v[0].type == type);
      check_equal("max", v[1], most);
      for (long i = 0; i < n; ++i) {
        const double rounding = host::is_floating(type) ? epsilon(type) * std::abs(sum[i]) : 0;
        if (type == DataType::Float16 && std::abs(sum[i]) > 65504) continue;
        if (std::abs(v[0].at(i) - sum[i]) >
            rounding + 2e-6 * absolute[i] * host::is_floating(type)) {
          check::report("sum", int(i), std::to_string(v[0].at(i)) + " " + std::to_string(sum[i]));
          break;
        }
      }
      if (!host::is_floating(type)) continue;
      for (long i = 0; i < product(shape); ++i) {
        const double d = x.at(i) - sum[target[i]] / count;
        squares[target[i]] += d * d / count;
      }
      const auto w = r.run({g.mean(t, list(axes)), g.variance(t, list(axes))});
      for (double& s : sum) s /= count;
      if (axes.empty()) continue;
      check_close("mean", w[0], sum, epsilon(type), 1e-6);
      check_close("variance", w[1], squares, 2 * epsilon(type), 1e-5);
    }
  }
}

TEST(half_sums_accumulate_in_float32) {
  Runner r;
  const Tensor ones = r.feed(value(DataType::Float16, {4096}, std::vector<double>(4096, 1)));
  check_equal("sum", r.run(r.graph().sum(ones, list({0}))), {4096});
}

TEST(reduction_rules) {
  Runner r;
  const auto& g = r.graph();
  const Tensor x = r.feed(floats({3, 2}, {kNan, 1, kNan, kNan, 2, 5}));
  const auto v = r.run({g.max(x, list({1})), g.max_nan(x, list({1})), g.arg_max(x, 1),
                        g.arg_min(x, -1), g.sum(x, ns::Array()), g.reduce_and(x, list({1})),
                        g.product(x, list({0})), g.min_nan(x, list({0, 1}))});
  check_equal("max skips NaN", v[0], {1, -kInf, 5});
  check_equal("max_nan", v[1], {kNan, kNan, 5});
  check_equal("arg_max", v[2], {1, -1, 1});
  check_equal("arg_min", v[3], {1, -1, 0});
  CHECK(v[4].shape == (Shape{1, 1}) && v[2].type == DataType::Int32);
  check_equal("and", v[5], {1, 1, 1});
  check_equal("product", v[6], {kNan, kNan});
  check_equal("min_nan", v[7], {kNan});
}

TEST(softmax_over_any_axis) {
  // Half an ulp of x - max (up to 40) changes e^(x - max) by 1.9e-6; e^x may be 4 ulp off itself.
  const double relative = 1.9e-6 + 6 * 1.2e-7;
  for (long axis : {0l, 1l, -1l}) {
    Runner r;
    const Shape shape{3, 37, 5};
    const Value x = random_value(DataType::Float32, shape, -20, 20);
    const Value y = r.run(r.graph().softmax(r.feed(x), axis));
    const long a = (axis + 3) % 3, step = strides(shape)[a];
    std::vector<double> want(x.count());
    for (long i = 0; i < x.count(); ++i) {
      const long first = i - i / step % shape[a] * step;
      double total = 0;
      for (long k = 0; k < shape[a]; ++k) total += std::exp(x.at(first + k * step));
      want[i] = std::exp(x.at(i)) / total;
    }
    check_close("softmax", y, want, relative, 1e-30);
  }
  Runner r;
  check_close("large", r.run(r.graph().softmax(r.feed(floats({2}, {1000, 1000})), 0)), {0.5, 0.5},
              1e-7);
}

TEST_MAIN()
