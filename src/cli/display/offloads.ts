/**
 * Names of the offload bits, as `show port N rx_offload` prints them (upper case) and `port config` takes them (lower case).
 * @module
 */

/** A name at its bit's number. */
type OffloadNames = readonly (readonly [name: string, bit: number])[];

export const rxOffloadNames: OffloadNames = [
  ['VLAN_STRIP', 0],
  ['IPV4_CKSUM', 1],
  ['UDP_CKSUM', 2],
  ['TCP_CKSUM', 3],
  ['TCP_LRO', 4],
  ['QINQ_STRIP', 5],
  ['OUTER_IPV4_CKSUM', 6],
  ['MACSEC_STRIP', 7],
  ['VLAN_FILTER', 9],
  ['VLAN_EXTEND', 10],
  ['SCATTER', 13],
  ['TIMESTAMP', 14],
  ['SECURITY', 15],
  ['KEEP_CRC', 16],
  ['SCTP_CKSUM', 17],
  ['OUTER_UDP_CKSUM', 18],
  ['RSS_HASH', 19],
  ['BUFFER_SPLIT', 20],
];

export const txOffloadNames: OffloadNames = [
  ['VLAN_INSERT', 0],
  ['IPV4_CKSUM', 1],
  ['UDP_CKSUM', 2],
  ['TCP_CKSUM', 3],
  ['SCTP_CKSUM', 4],
  ['TCP_TSO', 5],
  ['UDP_TSO', 6],
  ['OUTER_IPV4_CKSUM', 7],
  ['QINQ_INSERT', 8],
  ['VXLAN_TNL_TSO', 9],
  ['GRE_TNL_TSO', 10],
  ['IPIP_TNL_TSO', 11],
  ['GENEVE_TNL_TSO', 12],
  ['MACSEC_INSERT', 13],
  ['MT_LOCKFREE', 14],
  ['MULTI_SEGS', 15],
  ['MBUF_FAST_FREE', 16],
  ['SECURITY', 17],
  ['UDP_TNL_TSO', 18],
  ['IP_TNL_TSO', 19],
  ['OUTER_UDP_CKSUM', 20],
  ['SEND_ON_TIMESTAMP', 21],
];

const vlanStrip = 1 << 0;
const qinqStrip = 1 << 5;
const vlanFilter = 1 << 9;
const vlanExtend = 1 << 10;

/** The bit that `name` stands for, in either case; undefined for a name that is none. */
export function offloadBit(names: OffloadNames, name: string): number | undefined {
  const found = names.find(([known]) => known === name.toUpperCase());
  return found === undefined ? undefined : 2 ** found[1];
}

/** ` VLAN_STRIP UDP_CKSUM`: a space before every name. */
export function offloadText(names: OffloadNames, offloads: number): string {
  return names
    .filter(([, bit]) => (offloads & (1 << bit)) !== 0)
    .map(([name]) => ` ${name}`)
    .join('');
}

/** The line of `show port info` under `VLAN offload:`. */
export function vlanOffloadText(rxOffloads: number): string {
  const state = (bit: number): string => ((rxOffloads & bit) === 0 ? 'off' : 'on');
  return `  strip ${state(vlanStrip)}, filter ${state(vlanFilter)}, extend ${state(vlanExtend)}, qinq strip ${state(qinqStrip)}`;
}

/** `show port N rx_offload|tx_offload capabilities`. No driver here has offloads of single queues. */
export function offloadCapabilitiesText(direction: 'Rx' | 'Tx', port: number, capabilities: number): string {
  const names = direction === 'Rx' ? rxOffloadNames : txOffloadNames;
  return `${direction} Offloading Capabilities of port ${port} :\n  Per Queue :\n  Per Port  :${offloadText(names, capabilities)}\n\n`;
}

/** `show port N rx_offload|tx_offload configuration`: what is in force on the port, and what every queue is to have. */
export function offloadConfigurationText(
  direction: 'Rx' | 'Tx',
  port: number,
  active: number,
  queueOffloads: number,
  queues: number,
): string {
  const names = direction === 'Rx' ? rxOffloadNames : txOffloadNames;
  const lines = [`${direction} Offloading Configuration of port ${port} :`, `  Port :${offloadText(names, active)}`];
  for (let queue = 0; queue < queues; queue += 1) lines.push(`  Queue[${String(queue).padStart(2)}] :${offloadText(names, queueOffloads)}`);
  return `${lines.join('\n')}\n\n`;
}
