/**
 * How many queues a port has.
 * @module
 */
import type { Port } from '../../port/port.ts';

/** Before it is configured a port has the queues that DPDK's driver makes with the device: virtio none, net_null one, the others all. */
export function queueCounts(port: Port): { readonly rx: number; readonly tx: number } {
  const { configuration, info } = port;
  if (configuration !== undefined) return { rx: configuration.rxQueues, tx: configuration.txQueues };
  if (info.driverName.startsWith('net_virtio')) return { rx: 0, tx: 0 };
  if (info.driverName === 'net_null') return { rx: 1, tx: 1 };
  return { rx: info.maxRxQueues, tx: info.maxTxQueues };
}
