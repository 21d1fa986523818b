// What executes each instruction, by the name that decode.py gives it.
#pragma once

#include <unordered_map>

#include "approximate.h"
#include "bits.h"
#include "copies.h"
#include "cluster_instructions.h"
#include "lanes.h"
#include "tensor_core.h"

namespace ptx {

using Table = std::unordered_map<std::string, Execute>;

template <class T>
void add_moves(Table& t, const std::string& type) {
  t["mov" + type] = unary<T, Move>;
  t["selp" + type] = select<T>;
}

template <class T>
void add_floats(Table& t, const std::string& type) {
  add_moves<T>(t, type);
  t["add" + type] = binary<T, Add>;
  t["sub" + type] = binary<T, Subtract>;
  t["mul" + type] = binary<T, Multiply>;
  t["fma" + type] = ternary<T, FusedMultiplyAdd>;
  t["div" + type] = binary<T, FloatDivide>;
  t["max" + type] = binary<T, FloatGreatest>;
  t["min" + type] = binary<T, FloatLeast>;
  t["copysign" + type] = binary<T, CopySign>;
  t["neg" + type] = unary<T, Negate>;
  t["abs" + type] = unary<T, FloatAbsolute>;
  t["sqrt" + type] = unary<T, Root>;
  t["rcp" + type] = unary<T, Reciprocal>;
  t["setp.eq" + type] = compare<T, Equal>;
  t["setp.ne" + type] = compare<T, OrderedDifferent>;
  t["setp.lt" + type] = compare<T, Less>;
  t["setp.le" + type] = compare<T, LessEqual>;
  t["setp.gt" + type] = compare<T, Greater>;
  t["setp.ge" + type] = compare<T, GreaterEqual>;
  t["setp.equ" + type] = compare<T, Unordered<Equal>>;
  t["setp.neu" + type] = compare<T, Unordered<OrderedDifferent>>;
  t["setp.ltu" + type] = compare<T, Unordered<Less>>;
  t["setp.leu" + type] = compare<T, Unordered<LessEqual>>;
  t["setp.gtu" + type] = compare<T, Unordered<Greater>>;
  t["setp.geu" + type] = compare<T, Unordered<GreaterEqual>>;
  t["setp.num" + type] = compare<T, Numbers>;
  t["setp.nan" + type] = compare<T, NotNumbers>;
}

template <class T>
void add_integers(Table& t, const std::string& type) {
  add_moves<T>(t, type);
  t["add" + type] = binary<T, Add>;
  t["sub" + type] = binary<T, Subtract>;
  t["mul.lo" + type] = binary<T, Multiply>;
  t["mul.hi" + type] = binary<T, MultiplyHigh>;
  t["mad.lo" + type] = ternary<T, MultiplyAdd>;
  t["div" + type] = binary<T, Divide>;
  t["rem" + type] = binary<T, Remainder>;
  t["min" + type] = binary<T, Least>;
  t["max" + type] = binary<T, Greatest>;
  t["neg" + type] = unary<T, Negate>;
  t["abs" + type] = unary<T, Absolute>;
  t["shr" + type] = binary<T, ShiftRight, u32>;
  t["setp.eq" + type] = compare<T, Equal>;
  t["setp.ne" + type] = compare<T, Different>;
  t["setp.lt" + type] = t["setp.lo" + type] = compare<T, Less>;
  t["setp.le" + type] = t["setp.ls" + type] = compare<T, LessEqual>;
  t["setp.gt" + type] = t["setp.hi" + type] = compare<T, Greater>;
  t["setp.ge" + type] = t["setp.hs" + type] = compare<T, GreaterEqual>;
}

template <class T>
void add_bits(Table& t, const std::string& type) {
  add_moves<T>(t, type);
  t["and" + type] = binary<T, And>;
  t["or" + type] = binary<T, Or>;
  t["xor" + type] = binary<T, Xor>;
  t["not" + type] = unary<T, Not>;
  t["shl" + type] = binary<T, ShiftLeft, u32>;
  t["shr" + type] = binary<T, ShiftRight, u32>;
  t["setp.eq" + type] = compare<T, Equal>;
  t["setp.ne" + type] = compare<T, Different>;
}

// bfloat16 and float16; with x2 two of them in 32 bits.
template <float (*number)(u16)>
void add_halves(Table& t, const std::string& type) {
  t["setp.lt" + type] = compare<u16, OfHalf<number, Less>>;
  t["setp.gt" + type] = compare<u16, OfHalf<number, Greater>>;
  t["setp.le" + type] = compare<u16, OfHalf<number, LessEqual>>;
  t["setp.ge" + type] = compare<u16, OfHalf<number, GreaterEqual>>;
  t["setp.eq" + type] = compare<u16, OfHalf<number, Equal>>;
  t["setp.num" + type] = compare<u16, OfHalf<number, Numbers>>;
  t["setp.nan" + type] = compare<u16, OfHalf<number, NotNumbers>>;
  t["setp.neu" + type] = compare<u16, OfHalf<number, Unordered<OrderedDifferent>>>;
  t["setp.num" + type + "x2"] = compare_halves<OfHalf<number, Numbers>>;
  t["setp.lt" + type + "x2"] = compare_halves<OfHalf<number, Less>>;
  t["setp.gt" + type + "x2"] = compare_halves<OfHalf<number, Greater>>;
  t["setp.eq" + type + "x2"] = compare_halves<OfHalf<number, Equal>>;
  t["fma.f32" + type] = fuse_halves<number>;
  t["add.f32" + type] = combine_half<number, Add>;
  t["sub.f32" + type] = combine_half<number, Subtract>;
  t["abs" + type] = unary<u16, HalfAbsolute>;
  t["neg" + type] = unary<u16, HalfNegate>;
}

inline void add_approximate(Table& t) {
  t["add.rz.f32"] = binary<float, RoundedAdd<FE_TOWARDZERO>>;
  t["fma.rm.f32"] = ternary<float, RoundedFusedMultiplyAdd<FE_DOWNWARD>>;
  t["fma.rp.f32"] = ternary<float, RoundedFusedMultiplyAdd<FE_UPWARD>>;
  t["add.rz.f32"] = binary<float, RoundedToZeroAdd>;
  t["add.ftz.f32"] = binary<float, Flushed<Add>>;
  t["sub.ftz.f32"] = binary<float, Flushed<Subtract>>;
  t["mul.ftz.f32"] = binary<float, Flushed<Multiply>>;
  t["fma.ftz.f32"] = ternary<float, Flushed<FusedMultiplyAdd>>;
  t["abs.ftz.f32"] = unary<float, Flushed<FloatAbsolute>>;
  t["sqrt.approx.f32"] = unary<float, ApproximateRoot>;
  t["sqrt.approx.ftz.f32"] = unary<float, Flushed<ApproximateRoot>>;
  t["rcp.approx.ftz.f32"] = unary<float, ApproximateReciprocal>;
  t["rcp.approx.ftz.f64"] = unary<double, ApproximateReciprocal64>;
  t["ex2.approx.f32"] = unary<float, ApproximateExp2>;
  t["ex2.approx.ftz.f32"] = unary<float, Flushed<ApproximateExp2>>;
  t["lg2.approx.f32"] = unary<float, ApproximateLog2>;
  t["div.full.f32"] = t["div.approx.f32"] = binary<float, ApproximateDivide>;
}

inline void add_pairs(Table& t, const std::string& type) {
  t["add" + type] = binary<u64, Pair<Add>>;
  t["sub" + type] = binary<u64, Pair<Subtract>>;
  t["mul" + type] = binary<u64, Pair<Multiply>>;
  t["fma" + type] = ternary<u64, Pair<FusedMultiplyAdd>>;
}

inline void add_wide(Table& t) {
  t["mul.wide.s16"] = t["mad.wide.s16"] = multiply_wide<i16, i32>;
  t["mul.wide.u16"] = t["mad.wide.u16"] = multiply_wide<u16, u32>;
  t["mul.wide.s32"] = t["mad.wide.s32"] = multiply_wide<i32, i64>;
  t["mul.wide.u32"] = t["mad.wide.u32"] = multiply_wide<u32, u64>;
}

inline void add_cluster(Table& t) {
  t["bar.arrive"] = arrive_at_barrier;
  t["barrier.cluster.arrive"] = arrive_in_cluster;
  t["mbarrier.init"] = init_mbarrier;
  t["mbarrier.arrive.expect_tx"] = expect_bytes;
  t["st.async"] = store_later;
  t["mapa"] = map_address;
  t["mma.tf32"] = multiply_tf32;
  t["mma.f64"] = multiply_f64;
}

inline void no_operation(Warp&, const Instruction&, u32) {}

inline Table make_table() {
  Table t;
  add_floats<float>(t, ".f32");
  add_floats<double>(t, ".f64");
  add_integers<i16>(t, ".s16");
  add_integers<u16>(t, ".u16");
  add_integers<i32>(t, ".s32");
  add_integers<u32>(t, ".u32");
  add_integers<i64>(t, ".s64");
  add_integers<u64>(t, ".u64");
  add_bits<u16>(t, ".b16");
  add_bits<u32>(t, ".b32");
  add_bits<u64>(t, ".b64");
  add_wide(t);
  add_pairs(t, ".f32x2");
  add_halves<bfloat16_of>(t, ".bf16");
  add_halves<float16_of>(t, ".f16");
  t["cvt.bf16x2"] = convert_to_halves<to_bfloat16>;
  t["cvt.f16x2"] = convert_to_halves<to_float16>;
  add_approximate(t);
  t["and.pred"] = on_predicates<And>;
  t["or.pred"] = on_predicates<Or>;
  t["xor.pred"] = on_predicates<Xor>;
  t["not.pred"] = on_predicates<PredicateNot>;
  t["mov.pred"] = on_predicates<PredicateMove>;
  t["popc.b32"] = t["popc.b64"] = count_ones;
  t["clz.b32"] = count_leading_zeros;
  t["bfind.shiftamt.u32"] = find_first_one;
  t["brev.b32"] = reverse_bits;
  t["dp2a.lo.u32.u32"] = ternary<u32, DotOfHalves>;
  t["bfe.u32"] = extract_bits<u32>;
  t["bfe.s32"] = extract_bits<i32>;
  t["bfi.b32"] = insert_bits;
  t["prmt.b32"] = permute_bytes;
  t["shf"] = funnel_shift;
  t["pack"] = pack;
  t["unpack"] = unpack;
  t["move"] = move_bits;
  t["special_register"] = special_register;
  t["cvt"] = convert;
  t["cvta.shared"] = to_generic;
  t["cvta.to.shared"] = from_generic;
  t["ld"] = load;
  t["st"] = store;
  t["copy_later"] = copy_later;
  t["close_group"] = close_group;
  t["wait_for_copies"] = wait_for_copies;
  t["ldmatrix"] = load_matrices;
  t["stmatrix"] = store_matrices;
  t["shfl"] = shuffle;
  t["redux.s32"] = reduce<i32>;
  t["redux.u32"] = t["redux.b32"] = reduce<u32>;
  t["redux.f32"] = reduce_float;
  t["vote"] = vote;
  t["warp_barrier"] = warp_barrier;
  add_cluster(t);
  t["nop"] = no_operation;
  return t;
}

}  // namespace ptx
