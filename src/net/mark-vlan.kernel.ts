/**
 * Asking the transmit port for a VLAN tag, as testpmd's `tx_vlan set` does.
 * @module
 */
import { ld32, st16, st32 } from '../memory/access.ts';
import { MBUF_FLAGS, MBUF_VLAN, MBUF_WORK_VLAN } from '../memory/mbuf-layout.ts';

/** Has the tag `tci` (16 bits, in host order) inserted into each of the `count` packets listed at `mbufs`, whatever tag they were to get. */
export function markVlan(mbufs: u32, count: u32, tci: u32): void {
  for (let index: u32 = 0; index < count; index++) {
    const packet: u32 = ld32(mbufs + (index << 2));
    st16(packet + MBUF_VLAN, tci);
    st32(packet + MBUF_FLAGS, ld32(packet + MBUF_FLAGS) | MBUF_WORK_VLAN);
  }
}
