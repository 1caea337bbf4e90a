/**
 * The time of day of a burst, to the nanosecond, in the words of capture files; no number is made that would have to be allocated.
 * @module
 */
import { performance } from 'node:perf_hooks';

const NANOSECONDS = 1_000_000_000;
const TWO_TO_32 = 0x1_0000_0000;
// the sum of both in milliseconds has no bits left for nanoseconds
const originSeconds = Math.floor(performance.timeOrigin / 1000);
const originRest = performance.timeOrigin - originSeconds * 1000;

/** Writes the time to two words: seconds and nanoseconds (pcap), or the high and the low word of nanoseconds (pcapng). */
export function writePacketTime(u32: Uint32Array, index: number, blocks: boolean): void {
  const now = originRest + performance.now();
  const whole = Math.floor(now / 1000);
  const seconds = originSeconds + whole;
  const nanoseconds = Math.min(NANOSECONDS - 1, Math.floor((now - whole * 1000) * 1_000_000));
  if (!blocks) {
    u32[index] = seconds;
    u32[index + 1] = nanoseconds;
    return;
  }
  // seconds * 1e9 has more bits than a number: 1e9 is 512 * 1953125
  const units = seconds * 1_953_125;
  const low = (units % 0x80_0000) * 512 + nanoseconds;
  u32[index] = Math.floor(units / 0x80_0000) + (low >= TWO_TO_32 ? 1 : 0);
  u32[index + 1] = low >>> 0;
}
