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

  // The gradient of a cell has 16 terms of degree 8 at most. Sums and products beyond these bounds
  // could grow without end: they are equal to nothing.
  static constexpr size_t kMostTerms = 64, kMostFactors = 32;
  bool too_large() const { return too_large_; }

  friend bool operator==(const Polynomial& a, const Polynomial& b) {
    return !a.too_large_ && !b.too_large_ && a.terms_ == b.terms_;
  }
  friend Polynomial operator+(Polynomial a, const Polynomial& b) { return a.add(b, 1); }
  friend Polynomial operator-(Polynomial a, const Polynomial& b) { return a.add(b, -1); }
  friend Polynomial operator*(const Polynomial& a, const Polynomial& b) {
    Polynomial product;
    product.too_large_ = a.too_large_ || b.too_large_;
    for (const auto& [left, factor] : a.terms_) {
      for (const auto& [right, other] : b.terms_) {
        if (product.too_large_) return product;
        std::vector<int> both(left.size() + right.size());
        std::ranges::merge(left, right, both.begin());
        product.add(both, factor * other);
      }
    }
    return product;
  }

 private:
  Polynomial(std::vector<int> variables, double factor) { add(variables, factor); }
  Polynomial& add(const Polynomial& other, double sign) {
    too_large_ |= other.too_large_;
    for (const auto& [variables, factor] : other.terms_) add(variables, sign * factor);
    return *this;
  }
  void add(const std::vector<int>& variables, double factor) {
    if ((terms_[variables] += factor) == 0) terms_.erase(variables);
    too_large_ |= terms_.size() > kMostTerms || variables.size() > kMostFactors;
  }

  std::map<std::vector<int>, double> terms_;  // sorted variables (powers: repeated) to their factor
  bool too_large_ = false;
};

}  // namespace tfmetal
