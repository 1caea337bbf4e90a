/**
 * Generic segmentation offload: packets longer than a limit are cut in software, TCP into segments, UDP over IPv4 into fragments.
 * @module
 */
import { ld16, ld32, st16, st32 } from '../memory/access.ts';
import {
  MBUF_DATA,
  MBUF_FLAGS,
  MBUF_LENGTH,
  MBUF_SEGMENT_LENGTH,
  MBUF_SEGMENT_SIZE,
  MBUF_WORK_SEGMENTS,
  MBUF_WORK_TCP4,
  MBUF_WORK_TCP6,
  MBUF_WORK_UDP,
} from '../memory/mbuf-layout.ts';
import { packetFree } from '../memory/mempool.kernel.ts';
import { CUT_MALFORMED, cutFragments, cutPacket } from './cut-packet.kernel.ts';
import { finishPacketChecksum } from './finish-packet.kernel.ts';
import { ipEnd, ipProtocol, ipVersion, isFragment, parseHeaders, payloadStart, PROTOCOL_TCP, PROTOCOL_UDP } from './headers.kernel.ts';
import { CSUM_ASK_TCP, CSUM_ASK_UDP, CSUM_GSO_SIZE, CSUM_LOST, CSUM_NEXT, CSUM_POOL, CSUM_SWITCHES } from './recompute-checksums.kernel.ts';

const WHOLE: u32 = 0;
const SEGMENTS: u32 = 1;
const FRAGMENTS: u32 = 2;

/** How a packet is cut; marks it for cutPacket(). */
function howToCut(packet: u32, size: u32): u32 {
  const length: u32 = ld32(packet + MBUF_LENGTH);
  const first: u32 = ld32(packet + MBUF_SEGMENT_LENGTH);
  const frame: u32 = ld32(packet + MBUF_DATA);
  if (length <= size || parseHeaders(frame, 0, first) === 0 || isFragment !== 0 || ipEnd !== length) return WHOLE;
  const headers: u32 = payloadStart(frame, first);
  if (headers === 0 || headers >= size) return WHOLE;
  const flags: u32 = ld32(packet + MBUF_FLAGS);
  if ((flags & MBUF_WORK_SEGMENTS) !== 0) {
    const asked: u32 = ld16(packet + MBUF_SEGMENT_SIZE);
    if ((flags & MBUF_WORK_UDP) === 0 && asked > size - headers) st16(packet + MBUF_SEGMENT_SIZE, size - headers);
    return SEGMENTS;
  }
  if (ipProtocol === PROTOCOL_TCP) {
    st16(packet + MBUF_SEGMENT_SIZE, size - headers);
    st32(packet + MBUF_FLAGS, flags | (ipVersion === 4 ? MBUF_WORK_TCP4 : MBUF_WORK_TCP6));
    return SEGMENTS;
  }
  return ipProtocol === PROTOCOL_UDP && ipVersion === 4 ? FRAGMENTS : WHOLE;
}

/**
 * Cuts those of the `count` packets at `from` that are longer than CSUM_GSO_SIZE, beginning at number CSUM_NEXT; writes what is
 * to be sent to `to`, up to `room` handles. CSUM_NEXT says afterwards where to go on, `count` when all are done.
 * @returns handles at `to`
 */
export function cutLargePackets(settings: u32, from: u32, count: u32, to: u32, room: u32, lcore: u32): u32 {
  const pool: u32 = ld32(settings + CSUM_POOL);
  const size: u32 = ld32(settings + CSUM_GSO_SIZE);
  const switches: u32 = ld32(settings + CSUM_SWITCHES);
  let next: u32 = ld32(settings + CSUM_NEXT);
  let made: u32 = 0;
  while (next < count && made < room) {
    const packet: u32 = ld32(from + (next << 2));
    const how: u32 = howToCut(packet, size);
    if (how === WHOLE || (how === FRAGMENTS && finishPacketChecksum(packet) === 0)) {
      st32(to + (made << 2), packet);
      made++;
      next++;
      continue;
    }
    const place: u32 = to + (made << 2);
    const ask: u32 = (switches & (ipProtocol === PROTOCOL_TCP ? CSUM_ASK_TCP : CSUM_ASK_UDP)) === 0 ? 0 : 1;
    const cut: u32 =
      how === SEGMENTS
        ? cutPacket(packet, pool, lcore, place, room - made, ask)
        : cutFragments(packet, pool, lcore, place, room - made, size);
    // there may be room for its parts in an empty list
    if (cut === CUT_MALFORMED && made !== 0) break;
    if (cut === CUT_MALFORMED || cut === 0) st32(settings + CSUM_LOST, ld32(settings + CSUM_LOST) + 1);
    else made += cut;
    packetFree(packet, lcore);
    next++;
  }
  st32(settings + CSUM_NEXT, next);
  return made;
}
