/**
 * Offloads by name, for openPort(): DPDK's names in small letters, of those that a port here can have.
 * @module
 */
import {
  RX_OFFLOAD_RSS_HASH,
  RX_OFFLOAD_SCATTER,
  RX_OFFLOAD_TCP_CKSUM,
  RX_OFFLOAD_TCP_LRO,
  RX_OFFLOAD_UDP_CKSUM,
  RX_OFFLOAD_VLAN_FILTER,
  RX_OFFLOAD_VLAN_STRIP,
  TX_OFFLOAD_MULTI_SEGS,
  TX_OFFLOAD_TCP_CKSUM,
  TX_OFFLOAD_TCP_TSO,
  TX_OFFLOAD_UDP_CKSUM,
  TX_OFFLOAD_UDP_TSO,
  TX_OFFLOAD_VLAN_INSERT,
} from '../port/offloads.ts';
import { VirtioError } from '../system/error.ts';

const RX = {
  vlan_strip: RX_OFFLOAD_VLAN_STRIP,
  vlan_filter: RX_OFFLOAD_VLAN_FILTER,
  rss_hash: RX_OFFLOAD_RSS_HASH,
  udp_cksum: RX_OFFLOAD_UDP_CKSUM,
  tcp_cksum: RX_OFFLOAD_TCP_CKSUM,
  tcp_lro: RX_OFFLOAD_TCP_LRO,
} as const;

const TX = {
  vlan_insert: TX_OFFLOAD_VLAN_INSERT,
  udp_cksum: TX_OFFLOAD_UDP_CKSUM,
  tcp_cksum: TX_OFFLOAD_TCP_CKSUM,
  tcp_tso: TX_OFFLOAD_TCP_TSO,
  udp_tso: TX_OFFLOAD_UDP_TSO,
} as const;

/**
 * What may be left undone on received packets: they then say so (`packet.checksum`). Also `vlan_filter` (`port.ethdev.setVlanFilter()`)
 * and `rss_hash` (`packet.hash`), of devices that have them.
 */
export type RxOffload = keyof typeof RX;
/** What is left to the port on packets sent; what it was not given is done in software. */
export type TxOffload = keyof typeof TX;

function bitsOf(what: string, names: readonly string[], table: Readonly<Record<string, number>>, capable: number, port: string): number {
  let bits = 0;
  for (const name of names) {
    const bit = table[name];
    if (bit === undefined) {
      throw new VirtioError(`${port}: ${what}: no offload is called ${name}; there are ${Object.keys(table).join(', ')}`, {
        code: 'EINVAL',
      });
    }
    if ((capable & bit) === 0) throw new VirtioError(`${port}: ${what}: ${name} is not offered by this device`, { code: 'EOPNOTSUPP' });
    bits |= bit;
  }
  return bits;
}

/** Bits for a configuration. Packets of several segments are always wanted. */
export function rxOffloadBits(port: string, names: readonly RxOffload[] = [], capable = 0): number {
  return bitsOf('rxOffloads', names, RX, capable, port) | (capable & RX_OFFLOAD_SCATTER);
}

export function txOffloadBits(port: string, names: readonly TxOffload[] = [], capable = 0): number {
  return bitsOf('txOffloads', names, TX, capable, port) | (capable & TX_OFFLOAD_MULTI_SEGS);
}
