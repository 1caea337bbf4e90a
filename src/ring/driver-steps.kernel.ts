/**
 * Single steps of driver-fours.kernel.ts, in JavaScript; driver-steps.kernel.wasm.ts is the twin that AssemblyScript compiles, by vectors.
 * Measured on Zen 4 by bench/kernels.ts: sending from a packed ring takes 6.5 ns a packet by vectors, 9.3 by scalars; from a split one 8.2 against 10.5.
 * @module
 */
import { clearWords, gatherWords, ld32 } from '../memory/access.ts';
import { MBUF_BUFFER, MBUF_DATA, MBUF_FLAGS, MBUF_LENGTH, MBUF_SEGMENTS, MBUF_WORK, ONE_SEGMENT_ONE_OWNER } from '../memory/mbuf-layout.ts';
import { ONE_DESCRIPTOR, SHADOW_BYTES, SHADOW_COUNT_MASK, SHADOW_MBUF, SHADOW_NEXT } from './queue-layout.ts';

/** 0 when a packet is one segment with one owner, without work, not too long, with room for its header, which is zero as it should be. */
function unfit(packet: u32, header: u32, limit: u32): u32 {
  const place: u32 = ld32(packet + MBUF_DATA) - header;
  return (
    (ld32(packet + MBUF_SEGMENTS) ^ ONE_SEGMENT_ONE_OWNER) |
    (ld32(packet + MBUF_FLAGS) & MBUF_WORK) |
    (((place - ld32(packet + MBUF_BUFFER)) | (limit - ld32(packet + MBUF_LENGTH))) & 0x80000000) |
    (place & 3) |
    ld32(place) |
    ld32(place + 4) |
    // num_buffers may be what the device wrote there (writeSentHeader)
    (ld32(place + 8) & 0xfffeffff)
  );
}

/** 0 when the four packets whose handles are at `from` can be sent as they are, each by one descriptor. The header has 12 bytes or more. */
export function unfitFour(from: u32, header: u32, limit: u32): u32 {
  return (
    unfit(ld32(from), header, limit) |
    unfit(ld32(from + 4), header, limit) |
    unfit(ld32(from + 8), header, limit) |
    unfit(ld32(from + 12), header, limit)
  );
}

/** 0 when there is a packet of one descriptor in a shadow. */
function several(shadow: u32): u32 {
  return ((ld32(shadow + SHADOW_NEXT) ^ ONE_DESCRIPTOR) & SHADOW_COUNT_MASK) | (ld32(shadow + SHADOW_MBUF) === 0 ? 1 : 0);
}

/**
 * Takes four packets out of their shadows, which lie one behind the other from `shadow` on.
 * @returns 1; 0 when not all four are there, with one descriptor each
 */
export function takeFour(to: u32, shadow: u32): u32 {
  if ((several(shadow) | several(shadow + SHADOW_BYTES)) !== 0) return 0;
  if ((several(shadow + 2 * SHADOW_BYTES) | several(shadow + 3 * SHADOW_BYTES)) !== 0) return 0;
  gatherWords(to, shadow);
  clearWords(shadow);
  return 1;
}
