/**
 * Names of the offload bits, as `show port N rx_offload` prints them (upper case) and `port config` takes them (lower case).
 * @module
 */
import * as bits from '../../port/offloads.ts';

/** A name with its bit, lowest bit first. */
export type OffloadNames = readonly (readonly [name: string, bit: number])[];

export const rxOffloadNames: OffloadNames = [
  ['VLAN_STRIP', bits.RX_OFFLOAD_VLAN_STRIP],
  ['IPV4_CKSUM', bits.RX_OFFLOAD_IPV4_CKSUM],
  ['UDP_CKSUM', bits.RX_OFFLOAD_UDP_CKSUM],
  ['TCP_CKSUM', bits.RX_OFFLOAD_TCP_CKSUM],
  ['TCP_LRO', bits.RX_OFFLOAD_TCP_LRO],
  ['QINQ_STRIP', bits.RX_OFFLOAD_QINQ_STRIP],
  ['OUTER_IPV4_CKSUM', bits.RX_OFFLOAD_OUTER_IPV4_CKSUM],
  ['MACSEC_STRIP', bits.RX_OFFLOAD_MACSEC_STRIP],
  ['VLAN_FILTER', bits.RX_OFFLOAD_VLAN_FILTER],
  ['VLAN_EXTEND', bits.RX_OFFLOAD_VLAN_EXTEND],
  ['SCATTER', bits.RX_OFFLOAD_SCATTER],
  ['TIMESTAMP', bits.RX_OFFLOAD_TIMESTAMP],
  ['SECURITY', bits.RX_OFFLOAD_SECURITY],
  ['KEEP_CRC', bits.RX_OFFLOAD_KEEP_CRC],
  ['SCTP_CKSUM', bits.RX_OFFLOAD_SCTP_CKSUM],
  ['OUTER_UDP_CKSUM', bits.RX_OFFLOAD_OUTER_UDP_CKSUM],
  ['RSS_HASH', bits.RX_OFFLOAD_RSS_HASH],
  ['BUFFER_SPLIT', bits.RX_OFFLOAD_BUFFER_SPLIT],
];

export const txOffloadNames: OffloadNames = [
  ['VLAN_INSERT', bits.TX_OFFLOAD_VLAN_INSERT],
  ['IPV4_CKSUM', bits.TX_OFFLOAD_IPV4_CKSUM],
  ['UDP_CKSUM', bits.TX_OFFLOAD_UDP_CKSUM],
  ['TCP_CKSUM', bits.TX_OFFLOAD_TCP_CKSUM],
  ['SCTP_CKSUM', bits.TX_OFFLOAD_SCTP_CKSUM],
  ['TCP_TSO', bits.TX_OFFLOAD_TCP_TSO],
  ['UDP_TSO', bits.TX_OFFLOAD_UDP_TSO],
  ['OUTER_IPV4_CKSUM', bits.TX_OFFLOAD_OUTER_IPV4_CKSUM],
  ['QINQ_INSERT', bits.TX_OFFLOAD_QINQ_INSERT],
  ['VXLAN_TNL_TSO', bits.TX_OFFLOAD_VXLAN_TNL_TSO],
  ['GRE_TNL_TSO', bits.TX_OFFLOAD_GRE_TNL_TSO],
  ['IPIP_TNL_TSO', bits.TX_OFFLOAD_IPIP_TNL_TSO],
  ['GENEVE_TNL_TSO', bits.TX_OFFLOAD_GENEVE_TNL_TSO],
  ['MACSEC_INSERT', bits.TX_OFFLOAD_MACSEC_INSERT],
  ['MT_LOCKFREE', bits.TX_OFFLOAD_MT_LOCKFREE],
  ['MULTI_SEGS', bits.TX_OFFLOAD_MULTI_SEGS],
  ['MBUF_FAST_FREE', bits.TX_OFFLOAD_MBUF_FAST_FREE],
  ['SECURITY', bits.TX_OFFLOAD_SECURITY],
  ['UDP_TNL_TSO', bits.TX_OFFLOAD_UDP_TNL_TSO],
  ['IP_TNL_TSO', bits.TX_OFFLOAD_IP_TNL_TSO],
  ['OUTER_UDP_CKSUM', bits.TX_OFFLOAD_OUTER_UDP_CKSUM],
  ['SEND_ON_TIMESTAMP', bits.TX_OFFLOAD_SEND_ON_TIMESTAMP],
];

/** The bit that `name` stands for, in either case; undefined for a name that is none. */
export function offloadBit(names: OffloadNames, name: string): number | undefined {
  return names.find(([known]) => known === name.toUpperCase())?.[1];
}

/** ` VLAN_STRIP UDP_CKSUM`: a space before every name; `UNKNOWN` for a bit without one. */
export function offloadText(names: OffloadNames, offloads: number): string {
  return Array.from({ length: 32 }, (_, bit) => 1 << bit)
    .filter((bit) => (offloads & bit) !== 0)
    .map((bit) => ` ${names.find(([, known]) => known === bit)?.[0] ?? 'UNKNOWN'}`)
    .join('');
}

/** The line of `show port info` under `VLAN offload:`. */
export function vlanOffloadText(rxOffloads: number): string {
  const state = (bit: number): string => ((rxOffloads & bit) === 0 ? 'off' : 'on');
  const strip = state(bits.RX_OFFLOAD_VLAN_STRIP);
  const filter = state(bits.RX_OFFLOAD_VLAN_FILTER);
  const extend = state(bits.RX_OFFLOAD_VLAN_EXTEND);
  return `  strip ${strip}, filter ${filter}, extend ${extend}, qinq strip ${state(bits.RX_OFFLOAD_QINQ_STRIP)}`;
}

/** `show port N rx_offload|tx_offload capabilities`. No driver here has offloads of single queues. */
export function offloadCapabilitiesText(direction: 'Rx' | 'Tx', port: number, capabilities: number): string {
  const names = direction === 'Rx' ? rxOffloadNames : txOffloadNames;
  return `${direction} Offloading Capabilities of port ${port} :\n  Per Queue :\n  Per Port  :${offloadText(names, capabilities)}\n\n`;
}

/** `show port N rx_offload|tx_offload configuration`: what is in force on the port, and what each of its queues is to have. */
export function offloadConfigurationText(direction: 'Rx' | 'Tx', port: number, active: number, queues: readonly number[]): string {
  const names = direction === 'Rx' ? rxOffloadNames : txOffloadNames;
  const lines = [`${direction} Offloading Configuration of port ${port} :`, `  Port :${offloadText(names, active)}`];
  for (const [queue, offloads] of queues.entries()) lines.push(`  Queue[${String(queue).padStart(2)}] :${offloadText(names, offloads)}`);
  return `${lines.join('\n')}\n\n`;
}
