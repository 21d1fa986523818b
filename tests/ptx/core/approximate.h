// Approximate functions: rounded correctly, or with `perturbation` as wrong as the manual allows. Exact results stay
// exact.
#pragma once

#include "arithmetic.h"

namespace ptx {

struct ApproximateRoot {
  float operator()(float a) const {
    const float root = std::sqrt(a);
    return double(root) * root == a ? root : perturb(root, bits_of(a), 1);
  }
};
struct ApproximateReciprocal {
  float operator()(float a) const {
    a = flush(a);
    const float result = 1 / a;
    return flush(double(result) * a == 1 ? result : perturb(result, bits_of(a), 1));
  }
};
// Of the upper half of a float64 alone; the lower half of the result is 0.
struct ApproximateReciprocal64 {
  double operator()(double a) const { return upper_half(1 / upper_half(a)); }
  static double upper_half(double x) {
    u64 bits;
    memcpy(&bits, &x, 8);
    bits &= 0xffffffff00000000ull;
    memcpy(&x, &bits, 8);
    return x;
  }
};
struct ApproximateExp2 {
  float operator()(float a) const {
    const float result = float(std::exp2(double(a)));
    return a == std::rint(a) ? result : perturb(result, bits_of(a), 2);
  }
};
struct ApproximateLog2 {
  float operator()(float a) const { return float(std::log2(double(a))); }
};
struct ApproximateDivide {
  float operator()(float a, float b) const {
    const float result = a / b;
    return double(result) * b == a ? result : perturb(result, bits_of(a) * 31 + bits_of(b), 2);
  }
};
template <class F>  // .ftz: subnormal numbers are 0
struct Flushed {
  template <class... T>
  float operator()(T... a) const {
    return flush(F()(flush(a)...));
  }
};

}  // namespace ptx
