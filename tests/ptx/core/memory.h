// Loads, stores and matrices of shared memory, with what they cost.
#pragma once

#include "accesses.h"

namespace ptx {

inline int random_winner = 1;  // of lanes that store to one place a random one wins; 0: the last

inline void check_address(Warp& w, const Instruction& i, u32 mask) {
  if (const u32 bits = undefined(w, i.s[0]) & mask)
    w.machine->error("undefined address", i.pc, 0, describe(w, first_lane(bits), 0));
}

// Adds `x` to a list without repetition; true if it was not there.
inline bool insert(std::vector<u64>& list, u64 x) {
  for (size_t k = list.size(); k-- > 0;)
    if (list[k] == x) return false;
  list.push_back(x);
  return true;
}

// Sectors of 32 bytes of global memory; wavefronts of shared memory, which has 32 banks of 4 bytes.
inline void count_cost(Warp& w, const Instruction& i, u32 mask, const u64* address, int bytes) {
  Machine& m = *w.machine;
  m.lanes[i.pc] += __builtin_popcount(mask);
  if (!mask) return;
  const bool shared = i.space == kShared || i.space == kCluster || (i.space == kGeneric && address[first_lane(mask)] >= kSharedWindow);
  std::vector<u64> seen;
  if (!shared) {
    each_lane(mask, [&](int l) {
      for (u64 sector = address[l] >> 5; sector <= (address[l] + bytes - 1) >> 5; ++sector) insert(seen, sector);
    });
    m.sectors[i.pc] += i64(seen.size());
    return;
  }
  const int lanes_at_once = bytes <= 4 ? kLanes : bytes == 8 ? kLanes / 2 : kLanes / 4;
  for (int begin = 0; begin < kLanes; begin += lanes_at_once) {
    int of_bank[32] = {}, most = 0;
    seen.clear();
    for (int l = begin; l < begin + lanes_at_once; ++l) {
      if (!has(mask, l)) continue;
      for (u64 word = address[l] >> 2; word <= (address[l] + bytes - 1) >> 2; ++word)
        if (insert(seen, word)) most = std::max(most, ++of_bank[word & 31]);
    }
    m.wavefronts[i.pc] += most;
    m.least_wavefronts[i.pc] += i64(seen.size() + 31) / 32;
  }
}

inline u64 sign_extend(u64 value, int bytes) {
  const int unused = 64 - 8 * bytes;
  return u64(i64(value << unused) >> unused);
}

inline void load(Warp& w, const Instruction& i, u32 mask) {
  const int bytes = i.size * i.vector;
  const u32 all = (1u << i.size) - 1;
  u64 address[kLanes];
  u32 bits[8] = {};
  for (int l = 0; l < kLanes; ++l) address[l] = get(w, i.s[0], l) + i.immediate;
  if (i.space != kParameter) {
    check_address(w, i, mask);
    count_cost(w, i, mask, address, bytes);
  }
  each_lane(mask, [&](int l) {
    u32 bad = 0;
    const u8* host = i.space == kParameter ? w.machine->parameters + address[l]
                                           : place({w, i, l, address[l], bytes, false, 0}, nullptr, bad);
    for (int k = 0; k < i.vector; ++k) {
      u64 value = 0;
      if (host)
        memcpy(&value, host + k * i.size, i.size);
      else
        value = w.machine->random();
      if (!host || (bad >> (k * i.size) & all)) bits[k] |= 1u << l;
      set(w, i.d[k], l, i.flag ? sign_extend(value, i.size) : value);
    }
  });
  for (int k = 0; k < i.vector; ++k) set_undefined(w, i.d[k], mask, bits[k]);
}

inline void store(Warp& w, const Instruction& i, u32 mask) {
  const int bytes = i.size * i.vector;
  const u32 all = (1u << i.size) - 1;
  u64 address[kLanes];
  for (int l = 0; l < kLanes; ++l) address[l] = get(w, i.s[0], l) + i.immediate;
  check_address(w, i, mask);
  count_cost(w, i, mask, address, bytes);
  const u64 dice = random_winner ? w.machine->random() : kLanes;
  for (int k = 0, l = dice & 31, step = dice & 32 ? 1 : 31; k < kLanes; ++k, l = (l + step) & 31) {
    if (!has(mask, l)) continue;
    u8 from[64];
    u32 bits = 0, unused;
    for (int v = 0; v < i.vector; ++v) {
      const u64 value = get(w, i.s[v + 1], l);
      memcpy(from + v * i.size, &value, i.size);
      if (has(undefined(w, i.s[v + 1]), l)) bits |= all << (v * i.size);
    }
    if (u8* host = place({w, i, l, address[l], bytes, true, bits}, from, unused)) memcpy(host, from, bytes);
  }
}

// A matrix is 8 rows of 16 bytes; the lanes 8 k to 8 k + 7 have the addresses of the rows of matrix k.
inline void begin_matrices(Warp& w, const Instruction& i, u64* address) {
  Machine& m = *w.machine;
  for (int l = 0; l < kLanes; ++l) address[l] = get(w, i.s[0], l) + i.immediate;
  check_address(w, i, i.vector == 4 ? kAllLanes : (1u << (8 * i.vector)) - 1);
  m.lanes[i.pc] += kLanes;
  for (int k = 0; k < i.vector; ++k) {
    int of_bank[32] = {}, most = 0;
    std::vector<u64> seen;
    for (int row = 0; row < 8; ++row)
      if (insert(seen, address[8 * k + row]))
        for (int b = 0; b < 4; ++b) most = std::max(most, ++of_bank[(address[8 * k + row] / 4 + b) & 31]);
    m.wavefronts[i.pc] += most;
    m.least_wavefronts[i.pc] += 1;
  }
}

// Row and byte of a lane's two 16-bit numbers in a matrix.
struct Halves {
  int row[2], byte[2];
  Halves(int l, bool transposed) {
    for (int h = 0; h < 2; ++h) {
      row[h] = transposed ? 2 * (l % 4) + h : l / 4;
      byte[h] = transposed ? 2 * (l / 4) : 4 * (l % 4) + 2 * h;
    }
  }
};

inline void load_matrices(Warp& w, const Instruction& i, u32) {
  u64 address[kLanes];
  begin_matrices(w, i, address);
  for (int k = 0; k < i.vector; ++k) {
    u8 rows[8][16];
    u32 bad[8], bits = 0;
    for (int r = 0; r < 8; ++r) {
      const u8* host = place({w, i, 8 * k + r, address[8 * k + r], 16, false, 0}, nullptr, bad[r]);
      if (!host) bad[r] = ~0u;
      if (host)
        memcpy(rows[r], host, 16);
      else
        memset(rows[r], 0x5a, 16);
    }
    for (int l = 0; l < kLanes; ++l) {
      const Halves at(l, i.flag);
      u8 value[4];
      for (int h = 0; h < 2; ++h) {
        memcpy(value + 2 * h, rows[at.row[h]] + at.byte[h], 2);
        if (bad[at.row[h]] >> at.byte[h] & 3) bits |= 1u << l;
      }
      memcpy(values<u32>(w, i.d[k]) + l, value, 4);
    }
    set_undefined(w, i.d[k], kAllLanes, bits);
  }
}

inline void store_matrices(Warp& w, const Instruction& i, u32) {
  u64 address[kLanes];
  begin_matrices(w, i, address);
  for (int k = 0; k < i.vector; ++k) {
    u8 rows[8][16];
    u32 bad[8] = {}, unused;
    for (int l = 0; l < kLanes; ++l) {
      const Halves at(l, i.flag);
      const u32 value = values<u32>(w, i.s[k + 1])[l];
      for (int h = 0; h < 2; ++h) {
        const u16 half = u16(value >> (16 * h));
        memcpy(rows[at.row[h]] + at.byte[h], &half, 2);
        if (has(undefined(w, i.s[k + 1]), l)) bad[at.row[h]] |= 3u << at.byte[h];
      }
    }
    for (int r = 0; r < 8; ++r)
      if (u8* host = place({w, i, 8 * k + r, address[8 * k + r], 16, true, bad[r]}, rows[r], unused))
        memcpy(host, rows[r], 16);
  }
}

}  // namespace ptx
