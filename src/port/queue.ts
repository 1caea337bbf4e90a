/**
 * Queue handles: plain data that says how any thread reaches a queue's state in the arena.
 * @module
 */

/** Which burst functions serve a queue. One name a data path; queue-functions.ts has the table. */
export type QueueKind = 'virtqueue-driver' | 'virtqueue-device' | 'null' | 'ring' | 'pcap' | 'tap' | 'packet-ring' | 'xdp';

export interface QueueHandle {
  readonly kind: QueueKind;
  /** Port that the queue belongs to. */
  readonly port: number;
  readonly queue: number;
  /** Arena offset of the queue's state. */
  readonly state: number;
}
