/**
 * `set verbose 1` (received), 2 (sent), 3 (both): a line a packet.
 * @module
 */
import { MBUF_DATA, MBUF_FLAGS, MBUF_HASH, MBUF_HASH_VALID, MBUF_LENGTH, MBUF_SEGMENTS } from '../memory/mbuf-layout.ts';
import type { ArenaViews } from '../memory/arena.ts';
import { formatMac } from '../net/mac-address.ts';

export interface PacketPlace {
  readonly port: number;
  readonly queue: number;
  readonly sending: boolean;
}

/** Lines for the `count` packets whose handles are at arena offset `mbufs`. */
export function describePackets({ u8, u16, u32 }: ArenaViews, mbufs: number, count: number, { port, queue, sending }: PacketPlace): string {
  const lines = [`port ${String(port)}/queue ${String(queue)}: ${sending ? 'sent' : 'received'} ${String(count)} packets`];
  for (let index = 0; index < count; index++) {
    const packet = u32[(mbufs >>> 2) + index] ?? 0;
    const data = u32[(packet + MBUF_DATA) >>> 2] ?? 0;
    const address = (at: number): string => formatMac(Uint8Array.from(u8.subarray(data + at, data + at + 6)));
    const type = ((u8[data + 12] ?? 0) << 8) | (u8[data + 13] ?? 0);
    const length = u32[(packet + MBUF_LENGTH) >>> 2] ?? 0;
    const segments = u16[(packet + MBUF_SEGMENTS) >>> 1] ?? 1;
    const hashed = ((u32[(packet + MBUF_FLAGS) >>> 2] ?? 0) & MBUF_HASH_VALID) !== 0;
    const hash = hashed ? ` - RSS hash=0x${(u32[(packet + MBUF_HASH) >>> 2] ?? 0).toString(16)} - RSS queue=0x${queue.toString(16)}` : '';
    lines.push(
      `  src=${address(6)} - dst=${address(0)} - type=0x${type.toString(16).padStart(4, '0')} - length=${String(length)} - nb_segs=${String(segments)}` +
        `${hash} - ${sending ? 'Send' : 'Receive'} queue=0x${queue.toString(16)}`,
    );
  }
  return `${lines.join('\n')}\n`;
}
