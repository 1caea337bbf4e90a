/**
 * How long frames are: what a device adds to the MTU, and how large receive offload may make a packet.
 * @module
 */
import type { PortInfo } from './port.ts';

/** The shortest Ethernet frame, its CRC included. */
const MIN_FRAME = 64;

/** Bytes around the payload that the MTU counts: what the device adds, or an Ethernet header and its CRC. */
export function frameOverhead({ maxMtu, maxRxPacketLength }: PortInfo): number {
  return maxMtu !== 0xffff && maxRxPacketLength > maxMtu ? maxRxPacketLength - maxMtu : 18;
}

/** Sizes that PortConfiguration's maxLroPacketSize can have: any up to the device's limit, or one frame's where it states none. */
export function lroPacketSizes(info: PortInfo, mtu: number): { readonly min: number; readonly max: number } {
  if (info.maxLroPacketSize !== 0) return { min: MIN_FRAME, max: info.maxLroPacketSize };
  const frame = mtu + frameOverhead(info);
  return { min: frame, max: frame };
}
