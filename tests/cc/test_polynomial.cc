// Polynomials: equal when the formulas are, and bounded.
#include "grappler/rnn/polynomial.h"
#include "tests/cc/check.h"

using namespace tfmetal;
using P = Polynomial;

static const P x = P::variable(0), y = P::variable(1), one = P::number(1);

TEST(formulas_that_are_equal) {
  CHECK((x + y) * (x - y) == x * x - y * y);
  CHECK((one - x) * (one + x) == one - x * x);
  CHECK(x * y == y * x);
  CHECK(x - x == P());
  CHECK(P::number(0) * x == P());
}

TEST(formulas_that_are_not) {
  CHECK(!(x == y));
  CHECK(!(x * x == x));
  CHECK(!(x + x == x));
  CHECK(!(x * P::number(0.5) == x));
  CHECK(!(x == P()));
}

TEST(powers_end) {
  P power = x;
  for (int i = 0; i < 1000; ++i) power = power * power;
  CHECK(power.too_large());
  CHECK(!(power == power));
}

TEST(sums_end) {
  P sum = one;
  for (int i = 0; i < 1000; ++i) sum = sum * (one + P::variable(i));
  CHECK(sum.too_large());
  CHECK((sum + x).too_large() && (sum * P()).too_large());
}

TEST_MAIN()
