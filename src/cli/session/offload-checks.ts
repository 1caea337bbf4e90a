/**
 * What a configuration is refused for, in the words of DPDK's ethdev: each function returns the line, or undefined when all is well.
 * @module
 */
import { lroPacketSizes } from '../../port/frame-size.ts';
import * as bits from '../../port/offloads.ts';
import type { PortConfiguration, PortInfo } from '../../port/port.ts';

const hex = (offloads: number): string => `0x${offloads.toString(16)}`;

/** rte_eth_dev_configure(); `mtu` is that which the port will have. */
export function configurationRefusal(id: number, info: PortInfo, wanted: PortConfiguration, mtu: number): string | undefined {
  const { rxOffloads, txOffloads, maxLroPacketSize = 0 } = wanted;
  if ((rxOffloads & bits.RX_OFFLOAD_TCP_LRO) !== 0 && maxLroPacketSize !== 0) {
    const { min, max } = lroPacketSizes(info, mtu);
    const size = `Ethdev port_id=${id} max_lro_pkt_size ${maxLroPacketSize}`;
    if (min === max && maxLroPacketSize !== max) return `${size} != ${max} is not allowed`;
    if (maxLroPacketSize > max) return `${size} > max allowed value ${max}`;
    if (maxLroPacketSize < min) return `${size} < min allowed value ${min}`;
  }
  for (const [direction, asked, able] of [
    ['Rx', rxOffloads, info.rxOffloadCapabilities],
    ['Tx', txOffloads, info.txOffloadCapabilities],
  ] as const) {
    if ((asked & ~able) === 0) continue;
    return `Ethdev port_id=${id} requested ${direction} offloads ${hex(asked)} doesn't match ${direction} offloads capabilities ${hex(able)} in rte_eth_dev_configure()`;
  }
  return undefined;
}

/** rte_eth_rx_queue_setup() and its twin: no driver here has offloads that one queue has and another has not. */
export function queueRefusal(direction: 'rx' | 'tx', id: number, queue: number, wanted: number, ofPort: number): string | undefined {
  const added = wanted & ~ofPort;
  if (added === 0) return undefined;
  return `Ethdev port_id=${id} ${direction}_queue_id=${queue}, new added offloads ${hex(added)} must be within per-queue offload capabilities 0x0 in rte_eth_${direction}_queue_setup()`;
}

/** rte_eth_dev_set_vlan_offload(); `before` and `after` are all receive offloads of the port. */
export function vlanRefusal(id: number, info: PortInfo, before: number, after: number): string | undefined {
  if (after === before || (after & ~info.rxOffloadCapabilities) === 0) return undefined;
  return `Ethdev port_id=${id} requested new added VLAN offloads ${hex(after & ~before)} must be within Rx offloads capabilities ${hex(info.rxOffloadCapabilities)} in rte_eth_dev_set_vlan_offload()`;
}
