/**
 * What one descriptor of a driver's queue is doing (rte_eth_rx_descriptor_status() and rte_eth_tx_descriptor_status() of DPDK).
 * @module
 */
import type { ArenaViews } from '../memory/arena.ts';
import { Q_FREE, Q_STATE, QUEUE_RUNNING } from '../ring/queue-layout.ts';
import { usedBuffers } from '../ring/ring-fill.ts';
import type { DriverQueue } from '../ring/virtqueue.ts';
import type { DescriptorStatus } from './port.ts';

/**
 * When transmitting, a packet that the device is done with counts for one descriptor, however many it has.
 * @param offset 0..size-1, from the descriptor that the driver looks at next
 */
export function descriptorStatus(views: ArenaViews, direction: 'rx' | 'tx', queue: DriverQueue, offset: number): DescriptorStatus {
  if (queue.get(Q_STATE) !== QUEUE_RUNNING) return 'unavailable';
  const used = usedBuffers(views, queue);
  const free = queue.get(Q_FREE);
  if (direction === 'tx') return offset < free + used ? 'done' : 'full';
  if (offset < used) return 'done';
  return offset < queue.size - free ? 'available' : 'unavailable';
}
