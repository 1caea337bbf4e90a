/**
 * Sums and names of the queues' counters.
 * @module
 */
import {
  Q_BROADCAST,
  Q_BYTES,
  Q_DROPPED,
  Q_ERRORS,
  Q_MULTICAST,
  Q_NO_MBUF,
  Q_NOTIFICATIONS,
  Q_OVERSIZE,
  Q_PACKETS,
  Q_SIZES,
} from '../ring/queue-layout.ts';
import type { QueueState } from '../ring/virtqueue.ts';
import type { ExtendedStatistic, PortStatistics } from './port.ts';

/** Size classes in the order of the counters, as DPDK's xstats name them. */
const SIZE_NAMES = [
  'undersize',
  'size_64',
  'size_65_127',
  'size_128_255',
  'size_256_511',
  'size_512_1023',
  'size_1024_1518',
  'size_1519_max',
] as const;

export const BASIC_COUNTERS = [Q_PACKETS, Q_BYTES, Q_ERRORS, Q_NO_MBUF, Q_DROPPED] as const;
export const ALL_COUNTERS = [
  ...BASIC_COUNTERS,
  Q_MULTICAST,
  Q_BROADCAST,
  Q_OVERSIZE,
  ...SIZE_NAMES.map((_, index) => Q_SIZES + 8 * index),
] as const;

function sum(queues: readonly QueueState[], field: number): number {
  return queues.reduce((total, queue) => total + queue.counter(field), 0);
}

export function sumStatistics(rx: readonly QueueState[], tx: readonly QueueState[]): PortStatistics {
  return {
    rxPackets: sum(rx, Q_PACKETS),
    rxBytes: sum(rx, Q_BYTES),
    rxMissed: 0,
    rxErrors: sum(rx, Q_ERRORS),
    rxNoMbuf: sum(rx, Q_NO_MBUF),
    txPackets: sum(tx, Q_PACKETS),
    txBytes: sum(tx, Q_BYTES),
    txErrors: sum(tx, Q_ERRORS) + sum(tx, Q_DROPPED),
  };
}

/** The statistics that every port has, with ethdev's names. */
export function basicExtended(statistics: PortStatistics): ExtendedStatistic[] {
  return [
    { name: 'rx_good_packets', value: statistics.rxPackets },
    { name: 'tx_good_packets', value: statistics.txPackets },
    { name: 'rx_good_bytes', value: statistics.rxBytes },
    { name: 'tx_good_bytes', value: statistics.txBytes },
    { name: 'rx_missed_errors', value: statistics.rxMissed },
    { name: 'rx_errors', value: statistics.rxErrors },
    { name: 'tx_errors', value: statistics.txErrors },
    { name: 'rx_mbuf_allocation_errors', value: statistics.rxNoMbuf },
  ];
}

/** `rx_q0_packets`, `rx_q0_bytes`, `rx_q0_errors`, then `tx_q0_packets`, `tx_q0_bytes`: ethdev's own per queue. */
export function queueBasics(rx: readonly QueueState[], tx: readonly QueueState[]): ExtendedStatistic[] {
  const rows: ExtendedStatistic[] = [];
  for (const [index, queue] of rx.entries()) {
    rows.push({ name: `rx_q${String(index)}_packets`, value: queue.counter(Q_PACKETS) });
    rows.push({ name: `rx_q${String(index)}_bytes`, value: queue.counter(Q_BYTES) });
    rows.push({ name: `rx_q${String(index)}_errors`, value: queue.counter(Q_ERRORS) });
  }
  for (const [index, queue] of tx.entries()) {
    rows.push({ name: `tx_q${String(index)}_packets`, value: queue.counter(Q_PACKETS) });
    rows.push({ name: `tx_q${String(index)}_bytes`, value: queue.counter(Q_BYTES) });
  }
  return rows;
}

/** Good packets and bytes, group addresses and size classes of one queue; `errors` where the driver counts them. */
export function queueDetails(direction: 'rx' | 'tx', index: number, queue: QueueState, errors: boolean): ExtendedStatistic[] {
  const name = (text: string): string => `${direction}_q${String(index)}_${text}`;
  return [
    { name: name('good_packets'), value: queue.counter(Q_PACKETS) },
    { name: name('good_bytes'), value: queue.counter(Q_BYTES) },
    ...(errors ? [{ name: name('errors'), value: queue.counter(Q_ERRORS) }] : []),
    { name: name('multicast_packets'), value: queue.counter(Q_MULTICAST) },
    { name: name('broadcast_packets'), value: queue.counter(Q_BROADCAST) },
    ...SIZE_NAMES.map((size, place) => ({ name: name(`${size}_packets`), value: queue.counter(Q_SIZES + 8 * place) })),
  ];
}

/** Packets dropped because they were beyond the MTU; a name of ours. */
export function oversize(index: number, queue: QueueState): ExtendedStatistic {
  return { name: `tx_q${String(index)}_oversize_packets`, value: queue.counter(Q_OVERSIZE) };
}

/** Calls or kicks sent for a queue. */
export function notifications(queue: QueueState): number {
  return queue.counter(Q_NOTIFICATIONS);
}
