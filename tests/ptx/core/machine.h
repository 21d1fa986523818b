// What a launch consists of: decoded instructions, warps of 32 lanes, memory, and what is found on the way.
//
// A register holds a value for each lane; `undefined` has a bit for each lane whose value no instruction has defined.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <random>
#include <string>
#include <tuple>
#include <vector>

namespace ptx {

using u8 = uint8_t;
using u16 = uint16_t;
using u32 = uint32_t;
using u64 = uint64_t;
using i8 = int8_t;
using i16 = int16_t;
using i32 = int32_t;
using i64 = int64_t;

constexpr int kLanes = 32;
constexpr u32 kAllLanes = ~0u;
constexpr u64 kSharedWindow = 0x7f00000000000000ull;  // where generic addresses of shared memory begin

// As in instructions.py. kTogether: an instruction that needs all lanes of its member mask at once.
// kWait: it waits for other warps, of the block or of the cluster.
enum Kind { kAlu, kBranch, kReturn, kBarrier, kTogether, kWait };
enum Space { kGeneric, kGlobal, kShared, kParameter, kCluster };

struct Warp;
struct Instruction;
struct Cluster;
struct ClusterShadow;
using Clock = std::vector<u32>;  // of cluster.h
using Execute = void (*)(Warp&, const Instruction&, u32 mask);

// A register: its place among a warp's values, its number, and the bytes of a lane's value, 0 for a predicate.
struct Operand {
  u32 offset, id, width;
};

struct Instruction {
  Execute execute;
  int kind, num_results, num_sources, size, vector, space, negated;
  i64 guard_offset, guard_id;  // of the predicate that guards it; -1 without one
  int flag;                    // a load sign-extends, or a matrix is transposed
  i64 immediate;
  u32 target, pc;
  Operand d[8], s[16];
};

// Who wrote and who read a unit of memory last. Epochs count barriers: of the block, and of the warp.
struct Shadow {
  u32 write_epoch, write_warp_epoch, read_epoch, read_warp_epoch, write_pc, read_pc;
  u16 writer, reader;                    // threads
  u8 many_warps, many_lanes, undefined;  // readers are of more than one warp, or lane, since the barrier
};

// A tensor. `unit`: the bytes that a shadow stands for. Bit 0 of `touched`: a sector was read; bit 1: written.
struct Buffer {
  u64 address;
  i64 size;
  u8* host;
  int unit;
  Shadow* shadow;
  ClusterShadow* cluster_shadow;  // in its place where blocks run in clusters
  std::vector<u8>* touched;
};

struct Program {
  std::vector<Instruction> code;
  i64 register_bytes, num_registers;
  std::vector<i64> constants;  // offset, number, width and value of each
  int shared_unit;
};

struct Machine {
  Program* program;
  Cluster* cluster;  // null where blocks run one after the other
  std::vector<Buffer> buffers;
  std::vector<u8> shared;
  std::vector<Shadow> shared_shadow;
  const u8* parameters;
  u32 clock, launch_start, block_start, epoch;
  u32 grid[3], block[3], block_index[3];
  bool check;
  std::vector<i64> count, lanes, sectors, wavefronts, least_wavefronts;  // of each instruction
  std::map<std::tuple<std::string, u32, u32>, std::pair<i64, std::string>> errors;
  std::mt19937_64 random;

  void error(const char* kind, u32 pc, u32 other_pc, const std::string& detail) {
    auto& entry = errors[{kind, pc, other_pc}];
    if (entry.first++ == 0) entry.second = detail;
  }
};

// A copy that a lane has asked for and not waited for. `group`: its number among the lane's groups. `bytes`: how many
// there are; the others become zeros. `numbers`: what was there when it asked.
struct Copy {
  const Instruction* instruction;
  int lane;
  u32 group;
  u64 to, from;
  int bytes;
  u8 numbers[16];
};

// Lanes that are at the same instruction.
struct Group {
  u32 pc, mask;
  bool waits;
};

struct Warp {
  Machine* machine;
  u8* values;
  u32* undefined;
  Group groups[kLanes + 1];
  int num_groups;
  u32 alive;
  int id;
  u32 epoch;
  bool done, at_barrier;
  i64 steps;
  std::vector<Copy> copies;
  u32 copy_groups[kLanes];  // how many groups of copies each lane has closed
  // In a cluster: the block's rank, the warp's number in the cluster, what it knows, and what it waits for.
  u32 block, agent;
  Clock clock;
  enum { kRuns, kAtMeeting, kIsReleased, kAtMbarrier } waits;
  u64 mbarrier;
  u32 parity;
  u32 ordered;  // what the lanes did up to this step comes before what they do now
};

inline bool has(u32 mask, int lane) { return mask >> lane & 1; }
inline int first_lane(u32 mask) { return __builtin_ctz(mask); }

template <class F>
void each_lane(u32 mask, F f) {
  if (mask == kAllLanes)
    for (int l = 0; l < kLanes; ++l) f(l);
  else
    for (int l = 0; l < kLanes; ++l)
      if (has(mask, l)) f(l);
}

template <class T>
T* values(Warp& w, const Operand& o) {
  return reinterpret_cast<T*>(w.values + o.offset);
}

// A predicate's bits, one for each lane.
inline u32& predicate(Warp& w, const Operand& o) { return *values<u32>(w, o); }
inline void set_predicate(Warp& w, const Operand& o, u32 mask, u32 bits) {
  predicate(w, o) = (predicate(w, o) & ~mask) | (bits & mask);
}

inline u32 undefined(Warp& w, const Operand& o) { return w.undefined[o.id]; }
inline void set_undefined(Warp& w, const Operand& o, u32 mask, u32 bits) {
  w.undefined[o.id] = (w.undefined[o.id] & ~mask) | (bits & mask);
}

// Results are undefined where a source is.
inline void follow_sources(Warp& w, const Instruction& i, u32 mask) {
  u32 bits = 0;
  for (int k = 0; k < i.num_sources; ++k) bits |= undefined(w, i.s[k]);
  for (int k = 0; k < i.num_results; ++k) set_undefined(w, i.d[k], mask, bits);
}

// A lane's value of any width.
inline u64 get(Warp& w, const Operand& o, int lane) {
  switch (o.width) {
    case 0: return has(predicate(w, o), lane);
    case 2: return values<u16>(w, o)[lane];
    case 4: return values<u32>(w, o)[lane];
    default: return values<u64>(w, o)[lane];
  }
}

inline void set(Warp& w, const Operand& o, int lane, u64 value) {
  switch (o.width) {
    case 2: values<u16>(w, o)[lane] = u16(value); break;
    case 4: values<u32>(w, o)[lane] = u32(value); break;
    case 8: values<u64>(w, o)[lane] = value; break;
    default: abort();
  }
}

inline std::string describe(const Warp& w, int lane, u64 address) {
  char text[160];
  const u32* b = w.machine->block_index;
  snprintf(text, sizeof text, "block (%u,%u,%u) thread %d address %#llx", b[0], b[1], b[2], w.id * kLanes + lane,
           static_cast<unsigned long long>(address));
  return text;
}

}  // namespace ptx
