/**
 * Loads, stores, atomics and copies of the kernels, in JavaScript. access.wasm.ts is the twin that AssemblyScript compiles.
 *
 * A kernel (`*.kernel.ts`) is written once in the subset of TypeScript that AssemblyScript accepts too: functions over
 * u32 offsets into the arena, no closures, no objects, no allocation; every wrap-around written as a mask or `>>> 0`.
 * `tsc` compiles it to JavaScript over this module, `asc` to WebAssembly over the twin. WebAssembly is three to five times
 * faster (docs/performance.md); the JavaScript is there to read, to debug and to check the other against.
 * @module
 */
let u8 = new Uint8Array(0);
let u16 = new Uint16Array(0);
let u32 = new Uint32Array(0);
let i32 = new Int32Array(0);

/** Lets the kernels of this thread work on an arena. The views span the whole of it. */
export function bindAccess(views: {
  readonly u8: Uint8Array;
  readonly u16: Uint16Array;
  readonly u32: Uint32Array;
  readonly i32: Int32Array;
}): void {
  u8 = views.u8 as Uint8Array<ArrayBuffer>;
  u16 = views.u16 as Uint16Array<ArrayBuffer>;
  u32 = views.u32 as Uint32Array<ArrayBuffer>;
  i32 = views.i32 as Int32Array<ArrayBuffer>;
}

export function ld8(p: u32): u32 {
  return u8[p]!;
}

/** `p` must be even. */
export function ld16(p: u32): u32 {
  return u16[p >>> 1]!;
}

/** `p` must be a multiple of 4. */
export function ld32(p: u32): u32 {
  return u32[p >>> 2]!;
}

export function st8(p: u32, value: u32): void {
  u8[p] = value;
}

export function st16(p: u32, value: u32): void {
  u16[p >>> 1] = value;
}

export function st32(p: u32, value: u32): void {
  u32[p >>> 2] = value;
}

/** Loads and stores at any alignment: fields of packets. */
export function ldu16(p: u32): u32 {
  return u8[p]! | (u8[p + 1]! << 8);
}

export function ldu32(p: u32): u32 {
  return (u8[p]! | (u8[p + 1]! << 8) | (u8[p + 2]! << 16) | (u8[p + 3]! << 24)) >>> 0;
}

export function stu16(p: u32, value: u32): void {
  u8[p] = value;
  u8[p + 1] = value >>> 8;
}

export function stu32(p: u32, value: u32): void {
  u8[p] = value;
  u8[p + 1] = value >>> 8;
  u8[p + 2] = value >>> 16;
  u8[p + 3] = value >>> 24;
}

/** Sequentially consistent, as are all of Atomics and of WebAssembly's atomics. */
export function atomicLoad16(p: u32): u32 {
  return Atomics.load(u16, p >>> 1);
}

export function atomicStore16(p: u32, value: u32): void {
  Atomics.store(u16, p >>> 1, value);
}

export function atomicLoad32(p: u32): u32 {
  return Atomics.load(i32, p >>> 2) >>> 0;
}

export function atomicStore32(p: u32, value: u32): void {
  Atomics.store(i32, p >>> 2, value | 0);
}

/** Stores `value` if `expected` is there; returns what was there. */
export function atomicExchangeIf32(p: u32, expected: u32, value: u32): u32 {
  return Atomics.compareExchange(i32, p >>> 2, expected | 0, value | 0) >>> 0;
}

/** Copies `length` bytes between ranges that do not overlap, at any alignment. */
export function copyBytes(to: u32, from: u32, length: u32): void {
  if (length > 384) {
    u8.copyWithin(to, from, from + length);
    return;
  }
  let done: u32 = 0;
  if (((to | from) & 3) === 0) {
    const whole: u32 = length >>> 2;
    const target: u32 = to >>> 2;
    const source: u32 = from >>> 2;
    for (let index: u32 = 0; index < whole; index++) i32[target + index] = i32[source + index]!;
    done = whole << 2;
  }
  for (; done < length; done++) u8[to + done] = u8[from + done]!;
}

/** The same for packets: short ones are copied in line. */
export function copyPacket(to: u32, from: u32, length: u32): void {
  copyBytes(to, from, length);
}

/** Copies, but only where the bytes differ: a line that both sides merely read costs nothing. */
export function copyWhereDifferent(to: u32, from: u32, length: u32): void {
  let done: u32 = 0;
  if (((to | from) & 3) === 0) {
    const whole: u32 = length >>> 2;
    const target: u32 = to >>> 2;
    const source: u32 = from >>> 2;
    for (let index: u32 = 0; index < whole; index++) {
      const word = i32[source + index]!;
      if (i32[target + index] !== word) i32[target + index] = word;
    }
    done = whole << 2;
  }
  for (; done < length; done++) if (u8[to + done] !== u8[from + done]) u8[to + done] = u8[from + done]!;
}

/** 1 when `length` bytes, 32 to 48 of them, are the same at both places. */
export function sameBytes(one: u32, other: u32, length: u32): u32 {
  for (let at: u32 = 0; at < length; at++) if (u8[one + at] !== u8[other + at]) return 0;
  return 1;
}

/** The sum of the 16-bit words of up to 64 KiB at any alignment, as they lie in memory, a last single byte as a low one; below 1 << 31. */
export function sumWords(from: u32, bytes: u32): u32 {
  const last = from + (bytes & ~1);
  let sum: u32 = 0;
  let at: u32 = from;
  if ((from & 1) === 0) for (; at < last; at += 2) sum += u16[at >>> 1]!;
  else for (; at < last; at += 2) sum += u8[at]! | (u8[at + 1]! << 8);
  if ((bytes & 1) !== 0) sum += u8[last]!;
  return sum;
}

/** Writes the four words at `from` to every other word from `to` on, and `between` into those between: 32 bytes. */
export function spreadWords(to: u32, from: u32, between: u32): void {
  for (let word: u32 = 0; word < 4; word++) {
    st32(to + (word << 3), ld32(from + (word << 2)));
    st32(to + (word << 3) + 4, between);
  }
}

/** The contrary: writes every other one of the eight words from `from` on to the four at `to`. */
export function gatherWords(to: u32, from: u32): void {
  for (let word: u32 = 0; word < 4; word++) st32(to + (word << 2), ld32(from + (word << 3)));
}

/** Copies four words. */
export function copyWords(to: u32, from: u32): void {
  for (let word: u32 = 0; word < 4; word++) st32(to + (word << 2), ld32(from + (word << 2)));
}

/** Writes zeros to the eight words at `to`. */
export function clearWords(to: u32): void {
  for (let word: u32 = 0; word < 8; word++) st32(to + (word << 2), 0);
}

/** Reads a word so that its cache line is on its way when it is needed. */
export function touch(p: u32): u32 {
  return u32[p >>> 2]!;
}
