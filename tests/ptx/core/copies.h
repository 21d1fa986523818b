// Asynchronous copies from global to shared memory, of cp.async.
//
// A copy may land at any time until its thread waits for it. Here it lands at the wait, and before that the place that
// it writes to is undefined, so that whoever reads too early is found.
#pragma once

#include "memory.h"

namespace ptx {

inline void read_numbers(Access& read, u8* numbers) {
  if (read.bytes)
    if (const u8* host = place_global(read, nullptr)) memcpy(numbers, host, read.bytes);
}

// Sources: to, from, how many bytes there are (the others become zeros), and an offset of `from`.
inline void copy_later(Warp& w, const Instruction& i, u32 mask) {
  Machine& m = *w.machine;
  if (m.cluster) return m.error("cp.async in a cluster is not emulated", i.pc, 0, "");
  for (int k = 0; k < 3; ++k)
    if (const u32 bits = undefined(w, i.s[k]) & mask)
      m.error("undefined address", i.pc, 0, describe(w, first_lane(bits), 0));
  u64 from[kLanes];
  u32 reads = 0;
  for (int l = 0; l < kLanes; ++l) {
    from[l] = get(w, i.s[1], l) + get(w, i.s[3], l);
    reads |= u32(get(w, i.s[2], l) != 0) << l;
  }
  count_cost(w, i, mask & reads, from, i.size);
  each_lane(mask, [&](int l) {
    Copy copy{&i, l, w.copy_groups[l], get(w, i.s[0], l) + i.immediate, from[l], int(get(w, i.s[2], l)), {}};
    Access read{w, i, l, copy.from, copy.bytes, false, 0};
    if ((copy.to | copy.from) % i.size) return read.error("misaligned");
    if (copy.bytes > i.size) return read.error("copy of more bytes than it has");
    Access write{w, i, l, copy.to, i.size, true, kAllLanes};
    u8 junk[16];
    for (u8& byte : junk) byte = u8(m.random());
    u32 unused;
    u8* place = place_shared(write, copy.to, junk, unused);
    if (!place) return;
    memcpy(place, junk, i.size);
    read_numbers(read, copy.numbers);
    w.copies.push_back(copy);
  });
}

inline void land(Warp& w, const Copy& copy) {
  const Instruction& i = *copy.instruction;
  Machine& m = *w.machine;
  u8 numbers[16] = {};
  u32 unused;
  Access read{w, i, copy.lane, copy.from, copy.bytes, false, 0};
  read_numbers(read, numbers);
  if (memcmp(numbers, copy.numbers, sizeof numbers)) read.error("store to where a copy has yet to read");
  Access write{w, i, copy.lane, copy.to, i.size, true, 0};
  for (u64 at = copy.to; at < copy.to + i.size; at += m.program->shared_unit) {
    const Shadow& s = m.shared_shadow[at / m.program->shared_unit];
    if (!s.undefined) write.error("store to where a copy has yet to land", s.write_pc);
  }
  memcpy(place_shared(write, copy.to, numbers, unused), numbers, i.size);
}

inline void close_group(Warp& w, const Instruction&, u32 mask) {
  each_lane(mask, [&](int l) { ++w.copy_groups[l]; });
}

// For all copies, or for those of all closed groups but the last `immediate`.
inline void wait_for_copies(Warp& w, const Instruction& i, u32 mask) {
  std::vector<Copy> others;
  for (const Copy& copy : w.copies) {
    if (has(mask, copy.lane) && (i.immediate < 0 || copy.group + i.immediate < w.copy_groups[copy.lane]))
      land(w, copy);
    else
      others.push_back(copy);
  }
  w.copies = others;
}

}  // namespace ptx
