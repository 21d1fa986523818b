// The equations of one row of N weights, once for CPU and GPU: softmax, interpolation, shift, sharpen, and their
// gradients; and the equations of single numbers: sigmoid, softplus, erase and add. docs/equations.md defines them by
// these names.
//
// A Team works on a row together: on the CPU the lanes of a vector, on the GPU the threads of a warp or a block. It has
//   Value                      what a member holds: a vector or a number
//   each(f), sum(f), max(f)    f(i) at every place i of the row; its sum or maximum over the row, for every member
//   load(p, i), store(p, i, v)
//   load_shifted(p, i, o)      p[(i - o) mod N], of a row whose halo was filled after its last store
//   fill_halo(p)               makes the numbers that members stored to p ready for load_shifted
//   exp(v), log(v)             exp of v <= 0; log of v >= 0, -inf at 0
//   power(v, e)                v^e for v in [0,1] and e >= 0, with 0^0 = 1, accurate to the last bits at any e
//   lower_power(v, p, e)       the same where p = v^(e + 1) is known
// Every member passes the same scalars by reference and gets the same result in them. Rows do not overlap unless a
// comment says so. Gradients are named d_x for the gradient with respect to x.
#pragma once

#include "../../args/shape.h"

namespace mannkern {

// sigmoid(x) of a number or a vector. Math is ScalarMath or VectorMath. The exponent is never positive, so nothing
// overflows.
template <class Math, class V>
MANNKERN_BOTH V sigmoid(V x) {
  using T = typename Math::Number;
  const V e = Math::exp_nonpositive(x > 0 ? -x : x);
  return (x > 0 ? V{} + T(1) : e) / (1 + e);
}

// least + softplus(x), where softplus(x) = log(1 + exp(x)): a number that is at least 0 or 1, such as a strength.
template <class Math, class V>
MANNKERN_BOTH V softplus(V x, typename Math::Number least) {
  return least + (x > 0 ? x : V{}) + Math::log1p_exp(x > 0 ? -x : x);
}

// The derivative of softplus at x, from -softplus(x): 1 - exp(-softplus(x)).
template <class Math, class V>
MANNKERN_BOTH V softplus_slope(V minus_softplus) {
  return -Math::expm1(minus_softplus);
}

// Content weights, of cosines x: w = softmax(b x); w may be x.
template <class Team, class T>
MANNKERN_BOTH void softmax(const Team& team, T* w, const T* x, T b) {
  b = bounded(b);
  const T top = team.max([&](auto i) {
    const auto z = b * team.load(x, i);
    team.store(w, i, z);  // rounded: b x - top in one instruction could be far above 0
    return z;
  });
  const T sum = team.sum([&](auto i) {
    const auto e = team.exp(team.load(w, i) - top);
    team.store(w, i, e);
    return e;
  });
  const T scale = 1 / sum;
  team.each([&](auto i) { team.store(w, i, team.load(w, i) * scale); });
}

// sum_i w(i) d(i), corrected by the same sum of the remainders: softmax's gradients are sums of w (d - mean) (x - mean
// of x), which cancel, so an error of the mean would show.
template <class Team, class T>
MANNKERN_BOTH T weighted_mean(const Team& team, const T* d, const T* w) {
  const T first = team.sum([&](auto i) { return team.load(d, i) * team.load(w, i); });
  return first + team.sum([&](auto i) { return (team.load(d, i) - first) * team.load(w, i); });
}

// Backward of softmax: d_x and d_b from d_w; d_x may be d_w.
template <class Team, class T>
MANNKERN_BOTH void softmax_backward(const Team& team, T* d_x, T& d_b, const T* d_w, const T* w, const T* x, T b) {
  const T mean = weighted_mean(team, d_w, w), center = weighted_mean(team, x, w);
  b = bounded(b);
  d_b = team.sum([&](auto i) {
    const auto slope = team.load(w, i) * (team.load(d_w, i) - mean);
    team.store(d_x, i, b * slope);
    return slope * (team.load(x, i) - center);
  });
}

// Interpolation: w_g = g w_c + (1 - g) w_prev, with its halo filled.
template <class Team, class T>
MANNKERN_BOTH void interpolate(const Team& team, T* w_g, const T* content, const T* previous, T g) {
  team.each([&](auto i) { team.store(w_g, i, g * team.load(content, i) + (1 - g) * team.load(previous, i)); });
  team.fill_halo(w_g);
}

// Backward of interpolation: d_content, d_previous and d_gate from d_g, the gradient of w_g. d_content may be d_g.
template <class Team, class T>
MANNKERN_BOTH void interpolate_backward(const Team& team, T* d_content, T* d_previous, T& d_gate, const T* d_g,
                                        const T* content, const T* previous, T g) {
  d_gate = team.sum([&](auto i) {
    const auto d = team.load(d_g, i);
    const auto product = d * (team.load(content, i) - team.load(previous, i));
    team.store(d_previous, i, (1 - g) * d);
    team.store(d_content, i, g * d);
    return product;
  });
}

// Shift: w_s(i) = sum_j s_j w_g((i - (j - S/2)) mod N). The halo of w_g is filled.
template <class Team, class T>
MANNKERN_BOTH void shift(const Team& team, T* w_s, const T* w_g, const T* s, int64_t S) {
  team.each([&](auto i) {
    typename Team::Value sum = {};
    for (int64_t j = 0; j < S; ++j) sum += s[j] * team.load_shifted(w_g, i, j - S / 2);
    team.store(w_s, i, sum);
  });
}

// Backward of shift: d_g and the S numbers of d_shift from d_s, the gradient of w_s, whose halo is filled.
template <class Team, class T>
MANNKERN_BOTH void shift_backward(const Team& team, T* d_g, T* d_shift, const T* d_s, const T* w_g, const T* s,
                                  int64_t S) {
  team.each([&](auto i) {
    typename Team::Value sum = {};
    for (int64_t j = 0; j < S; ++j) sum += s[j] * team.load_shifted(d_s, i, S / 2 - j);
    team.store(d_g, i, sum);
  });
  for (int64_t j = 0; j < S; ++j)
    d_shift[j] = team.sum([&](auto i) { return team.load(d_s, i) * team.load_shifted(w_g, i, j - S / 2); });
}

// Sharpen: w = softmax(y log w_s), computed as powers of w_s / max w_s, of which the largest is 1, so that their sum
// neither overflows nor vanishes. A row of zeros becomes uniform. w may be w_s.
template <class Team, class T>
MANNKERN_BOTH void sharpen(const Team& team, T* w, const T* w_s, T y) {
  const T top = team.max([&](auto i) { return team.load(w_s, i); });
  const T lift = top == 0 ? 1 : 0;  // to each number of a row of zeros
  y = bounded(y);
  const T sum = team.sum([&](auto i) {
    const auto r = (team.load(w_s, i) + lift) / (top + lift);
    const auto p = r * team.power(r, y - 1);
    team.store(w, i, p);
    return p;
  });
  const T scale = y == y ? 1 / sum : y;  // 1 to the power of NaN is 1
  team.each([&](auto i) { team.store(w, i, team.load(w, i) * scale); });
}

// Backward of sharpen: d_s, with its halo filled, and d_y from d_w. At w_s = 0 they are the gradients of w_s^y / sum
// w_s^y, with 0^0 = 1 and 0 log 0 = 0. A row under kLeastTop passes no gradient. `w` is the sharpened row.
template <class Team, class T>
MANNKERN_BOTH void sharpen_backward(const Team& team, T* d_s, T& d_y, const T* d_w, const T* w, const T* w_s, T y) {
  using Value = typename Team::Value;
  const T top = team.max([&](auto i) { return team.load(w_s, i); });
  const T mean = weighted_mean(team, d_w, w);
  const T largest = team.max([&](auto i) { return team.load(w, i); });  // 1 / sum of the powers: the largest is 1
  const T lift = top == 0 ? 1 : 0, unscale = 1 / largest;
  y = bounded(y);
  T scale = top < kLeastTop<T> ? T(0) : y * largest / top;
  if (scale > kMost<T>) scale = kMost<T>;  // so that 0 times it is 0
  d_y = team.sum([&](auto i) {
    const Value r = (team.load(w_s, i) + lift) / (top + lift), above = team.load(d_w, i) - mean;
    team.store(d_s, i, scale * team.lower_power(r, team.load(w, i) * unscale, y - 1) * above);
    return above * team.load(w, i) * team.log(r > 0 ? r : Value{} + T(1));
  });
  team.fill_halo(d_s);
}

// Erase and add, the part of one head: M'(i, j) = factor M(i, j) + term, where `factor` is the product of the heads' 1
// - w e and `term` the sum of their w a.
template <class Team, class T>
MANNKERN_BOTH void erase_and_add(typename Team::Value& factor, typename Team::Value& term, typename Team::Value w,
                                 T erase, T add) {
  factor *= 1 - w * erase;
  term += w * add;
}

}  // namespace mannkern
