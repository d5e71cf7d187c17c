// Polynomials over named values: two formulas that are equal whatever the values are have the same
// polynomial, however they are written.
#pragma once

#include <algorithm>
#include <map>
#include <vector>

namespace tfmetal {

class Polynomial {
 public:
  Polynomial() = default;  // zero
  static Polynomial number(double value) { return Polynomial({}, value); }
  static Polynomial variable(int name) { return Polynomial({name}, 1); }

  // More terms than this are no gradient of a cell; products of them could grow without end.
  static constexpr size_t kMaxTerms = 256;
  bool too_large() const { return terms_.size() > kMaxTerms; }

  friend bool operator==(const Polynomial&, const Polynomial&) = default;
  friend Polynomial operator+(Polynomial a, const Polynomial& b) {
    for (const auto& [variables, factor] : b.terms_) a.add(variables, factor);
    return a;
  }
  friend Polynomial operator-(Polynomial a, const Polynomial& b) {
    for (const auto& [variables, factor] : b.terms_) a.add(variables, -factor);
    return a;
  }
  friend Polynomial operator*(const Polynomial& a, const Polynomial& b) {
    Polynomial product;
    for (const auto& [left, factor] : a.terms_) {
      for (const auto& [right, other] : b.terms_) {
        std::vector<int> both(left.size() + right.size());
        std::ranges::merge(left, right, both.begin());
        product.add(both, factor * other);
      }
    }
    return product;
  }

 private:
  Polynomial(std::vector<int> variables, double factor) { add(variables, factor); }
  void add(const std::vector<int>& variables, double factor) {
    if ((terms_[variables] += factor) == 0) terms_.erase(variables);
  }

  std::map<std::vector<int>, double> terms_;  // sorted variables (powers: repeated) to their factor
};

}  // namespace tfmetal
