// The WebAssembly twin of access.ts: the same functions over AssemblyScript's intrinsics. Only asc reads this file.

// @ts-ignore: decorator
@inline
export function ld8(p: u32): u32 {
  return load<u8>(p);
}

// @ts-ignore: decorator
@inline
export function ld16(p: u32): u32 {
  return load<u16>(p);
}

// @ts-ignore: decorator
@inline
export function ld32(p: u32): u32 {
  return load<u32>(p);
}

// @ts-ignore: decorator
@inline
export function st8(p: u32, value: u32): void {
  store<u8>(p, <u8>value);
}

// @ts-ignore: decorator
@inline
export function st16(p: u32, value: u32): void {
  store<u16>(p, <u16>value);
}

// @ts-ignore: decorator
@inline
export function st32(p: u32, value: u32): void {
  store<u32>(p, value);
}

// @ts-ignore: decorator
@inline
export function ldu16(p: u32): u32 {
  return load<u16>(p);
}

// @ts-ignore: decorator
@inline
export function ldu32(p: u32): u32 {
  return load<u32>(p);
}

// @ts-ignore: decorator
@inline
export function stu16(p: u32, value: u32): void {
  store<u16>(p, <u16>value);
}

// @ts-ignore: decorator
@inline
export function stu32(p: u32, value: u32): void {
  store<u32>(p, value);
}

// @ts-ignore: decorator
@inline
export function atomicLoad16(p: u32): u32 {
  return atomic.load<u16>(p);
}

// @ts-ignore: decorator
@inline
export function atomicStore16(p: u32, value: u32): void {
  atomic.store<u16>(p, <u16>value);
}

// @ts-ignore: decorator
@inline
export function atomicLoad32(p: u32): u32 {
  return atomic.load<u32>(p);
}

// @ts-ignore: decorator
@inline
export function atomicStore32(p: u32, value: u32): void {
  atomic.store<u32>(p, value);
}

// @ts-ignore: decorator
@inline
export function atomicExchangeIf32(p: u32, expected: u32, value: u32): u32 {
  return atomic.cmpxchg<u32>(p, expected, value);
}

// memory.copy leaves the code that V8 generates; up to 256 bytes sixteen at a time in line are faster.
export function copyBytes(to: u32, from: u32, length: u32): void {
  if (length > 256) {
    memory.copy(to, from, length);
    return;
  }
  if (length >= 16) {
    const last: u32 = length - 16;
    for (let at: u32 = 0; at < last; at += 16) v128.store(to + at, v128.load(from + at));
    v128.store(to + last, v128.load(from + last));
    return;
  }
  let at: u32 = 0;
  if (length & 8) {
    store<u64>(to, load<u64>(from));
    at = 8;
  }
  if (length & 4) {
    store<u32>(to + at, load<u32>(from + at));
    at += 4;
  }
  if (length & 2) {
    store<u16>(to + at, load<u16>(from + at));
    at += 2;
  }
  if (length & 1) store<u8>(to + at, load<u8>(from + at));
}

// @ts-ignore: decorator
@inline
export function copyPacket(to: u32, from: u32, length: u32): void {
  if (length - 33 < 32) {
    // 33 to 64 bytes: two from the front, two from the end
    const end: u32 = length - 32;
    const a: v128 = v128.load(from);
    const b: v128 = v128.load(from, 16);
    const c: v128 = v128.load(from + end);
    const d: v128 = v128.load(from + end, 16);
    v128.store(to, a);
    v128.store(to, b, 16);
    v128.store(to + end, c);
    v128.store(to + end, d, 16);
  } else copyBytes(to, from, length);
}

export function copyWhereDifferent(to: u32, from: u32, length: u32): void {
  if (length < 16) {
    for (let at: u32 = 0; at < length; at++) {
      const byte: u8 = load<u8>(from + at);
      if (load<u8>(to + at) !== byte) store<u8>(to + at, byte);
    }
    return;
  }
  const last: u32 = length - 16;
  for (let at: u32 = 0; ; at += 16) {
    if (at > last) at = last;
    const bytes: v128 = v128.load(from + at);
    if (v128.any_true(v128.xor(bytes, v128.load(to + at)))) v128.store(to + at, bytes);
    if (at === last) return;
  }
}

// @ts-ignore: decorator
@inline
export function sameBytes(one: u32, other: u32, length: u32): u32 {
  const end: u32 = length - 16;
  const first: v128 = v128.or(v128.xor(v128.load(one), v128.load(other)), v128.xor(v128.load(one, 16), v128.load(other, 16)));
  return v128.any_true(v128.or(first, v128.xor(v128.load(one + end), v128.load(other + end)))) ? 0 : 1;
}

export function sumWords(from: u32, bytes: u32): u32 {
  let at: u32 = from;
  const end: u32 = from + bytes;
  let sum: u32 = 0;
  if (bytes >= 32) {
    // pairs of words to lanes of 32 bits: 4096 rounds of two words each stay below 1 << 30
    let lanes: v128 = i32x4.splat(0);
    for (const last: u32 = end - 16; at <= last; at += 16) lanes = i32x4.add(lanes, i32x4.extadd_pairwise_i16x8_u(v128.load(at)));
    sum = i32x4.extract_lane(lanes, 0) + i32x4.extract_lane(lanes, 1) + i32x4.extract_lane(lanes, 2) + i32x4.extract_lane(lanes, 3);
  }
  for (; at + 2 <= end; at += 2) sum += load<u16>(at);
  if (at < end) sum += load<u8>(at);
  return sum;
}

// @ts-ignore: decorator
@inline
export function spreadWords(to: u32, from: u32, between: u32): void {
  const words: v128 = v128.load(from);
  const others: v128 = i32x4.splat(between);
  v128.store(to, v128.shuffle<u32>(words, others, 0, 4, 1, 5));
  v128.store(to, v128.shuffle<u32>(words, others, 2, 6, 3, 7), 16);
}

// @ts-ignore: decorator
@inline
export function gatherWords(to: u32, from: u32): void {
  v128.store(to, v128.shuffle<u32>(v128.load(from), v128.load(from, 16), 0, 2, 4, 6));
}

// @ts-ignore: decorator
@inline
export function copyWords(to: u32, from: u32): void {
  v128.store(to, v128.load(from));
}

// @ts-ignore: decorator
@inline
export function clearWords(to: u32): void {
  v128.store(to, i32x4.splat(0));
  v128.store(to, i32x4.splat(0), 16);
}

// @ts-ignore: decorator
@inline
export function touch(p: u32): u32 {
  return load<u32>(p);
}
