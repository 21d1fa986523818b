// The mathematics of one row of N weights of the NTM (Graves et al. 2014, equations 3 to 9), once for CPU and GPU.
//
// A Team works on a row together: on the CPU the lanes of a vector, on the GPU the threads of a warp or a block. It has
//   Value                     what a member holds at its places: a vector or a number
//   each(f), sum(f), max(f)   f(i) at every place i; its sum or maximum over the row, known to all
//   load(p, i), store(p, i, v)
//   around(p, i, o)           p[(i - o) mod N], of a row that was settled after its last store
//   settle(p)                 what members stored to p may now be read around
//   exp(v), log(v)            exp of v <= 0; log of v >= 0, -inf at 0
//   power(v, e)               v^e for v in [0,1] and e >= 0, with 0^0 = 1, to the last bits however large e is
// Scalars given by reference are the same for all members. No row overlaps another unless said.
#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#define MANNKERN_BOTH __host__ __device__ inline
#else
#define MANNKERN_BOTH inline
#endif

namespace mannkern {

// w = softmax(b x); w may be x.
template <class Team, class T>
MANNKERN_BOTH void softmax(const Team& team, T* w, const T* x, T b) {
  const T top = team.max([&](auto i) { return b * team.load(x, i); });
  const T sum = team.sum([&](auto i) {
    const auto e = team.exp(b * team.load(x, i) - top);
    team.store(w, i, e);
    return e;
  });
  const T scale = 1 / sum;
  team.each([&](auto i) { team.store(w, i, team.load(w, i) * scale); });
}

// sum_i w(i) d(i), and once more of what is left: gradients are sums of w (d - mean) (x - mean of x), which cancel.
template <class Team, class T>
MANNKERN_BOTH T weighted_mean(const Team& team, const T* d, const T* w) {
  const T first = team.sum([&](auto i) { return team.load(d, i) * team.load(w, i); });
  return first + team.sum([&](auto i) { return (team.load(d, i) - first) * team.load(w, i); });
}

// d_x, and the gradient of b, of w = softmax(b x), for d_w; d_x may be d_w.
template <class Team, class T>
MANNKERN_BOTH void softmax_backward(const Team& team, T* d_x, T& d_b, const T* d_w, const T* w, const T* x, T b) {
  const T mean = weighted_mean(team, d_w, w), center = weighted_mean(team, x, w);
  d_b = team.sum([&](auto i) {
    const auto slope = team.load(w, i) * (team.load(d_w, i) - mean);
    team.store(d_x, i, b * slope);
    return slope * (team.load(x, i) - center);
  });
}

// w_g = g w_c + (1 - g) w_prev, settled.
template <class Team, class T>
MANNKERN_BOTH void interpolate(const Team& team, T* w_g, const T* content, const T* previous, T g) {
  team.each([&](auto i) { team.store(w_g, i, g * team.load(content, i) + (1 - g) * team.load(previous, i)); });
  team.settle(w_g);
}

// For d_g, the gradient of w_g: those of w_c, w_prev and g. d_content may be d_g.
template <class Team, class T>
MANNKERN_BOTH void interpolate_backward(const Team& team, T* d_content, T* d_previous, T& d_gate, const T* d_g,
                                        const T* content, const T* previous, T g) {
  d_gate = team.sum([&](auto i) {
    const auto d = team.load(d_g, i);
    const auto moved = d * (team.load(content, i) - team.load(previous, i));
    team.store(d_previous, i, (1 - g) * d);
    team.store(d_content, i, g * d);
    return moved;
  });
}

// w_s(i) = sum_j s_j w_g((i - (j - S/2)) mod N), of a settled w_g.
template <class Team, class T>
MANNKERN_BOTH void shift(const Team& team, T* w_s, const T* w_g, const T* s, int64_t S) {
  team.each([&](auto i) {
    typename Team::Value sum = {};
    for (int64_t j = 0; j < S; ++j) sum += s[j] * team.around(w_g, i, j - S / 2);
    team.store(w_s, i, sum);
  });
}

// For d_s, the settled gradient of w_s: those of w_g and of the S shifts.
template <class Team, class T>
MANNKERN_BOTH void shift_backward(const Team& team, T* d_g, T* d_shift, const T* d_s, const T* w_g, const T* s,
                                  int64_t S) {
  team.each([&](auto i) {
    typename Team::Value sum = {};
    for (int64_t j = 0; j < S; ++j) sum += s[j] * team.around(d_s, i, S / 2 - j);
    team.store(d_g, i, sum);
  });
  for (int64_t j = 0; j < S; ++j)
    d_shift[j] = team.sum([&](auto i) { return team.load(d_s, i) * team.around(w_g, i, j - S / 2); });
}

// w = softmax(y log w_s), as powers of w_s / max w_s: the largest is 1, so the sum neither overflows nor vanishes.
// w may be w_s.
template <class Team, class T>
MANNKERN_BOTH void sharpen(const Team& team, T* w, const T* w_s, T y) {
  const T top = team.max([&](auto i) { return team.load(w_s, i); });
  const T sum = team.sum([&](auto i) {
    const auto r = team.load(w_s, i) / top;
    const auto p = r * team.power(r, y - 1);
    team.store(w, i, p);
    return p;
  });
  const T scale = 1 / sum;
  team.each([&](auto i) { team.store(w, i, team.load(w, i) * scale); });
}

// For d_w: the gradient of w_s, settled, and of y. At w_s = 0 it is that of w_s^y / sum w_s^y, with 0^0 = 1 and
// 0 log 0 = 0. `w` is the sharpened row.
template <class Team, class T>
MANNKERN_BOTH void sharpen_backward(const Team& team, T* d_s, T& d_y, const T* d_w, const T* w, const T* w_s, T y) {
  using Value = typename Team::Value;
  const T top = team.max([&](auto i) { return team.load(w_s, i); });
  const T mean = weighted_mean(team, d_w, w);
  const T largest = team.max([&](auto i) { return team.load(w, i); });  // 1 / sum of the powers: the largest is 1
  const T scale = y * largest / top;
  d_y = team.sum([&](auto i) {
    const Value r = team.load(w_s, i) / top, above = team.load(d_w, i) - mean;
    team.store(d_s, i, scale * team.power(r, y - 1) * above);
    return above * team.load(w, i) * team.log(r > 0 ? r : Value{} + T(1));
  });
  team.settle(d_s);
}

// M'(i, j) = keep M(i, j) + gain, to which each head brings its factor and its term.
template <class Team, class T>
MANNKERN_BOTH void write_head(typename Team::Value& keep, typename Team::Value& gain, typename Team::Value w, T erase,
                              T add) {
  keep *= 1 - w * erase;
  gain += w * add;
}

}  // namespace mannkern
