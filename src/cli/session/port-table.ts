/**
 * The ports of a session by id, with what testpmd remembers about each.
 * @module
 */
import type { Port, PortStatistics } from '../../port/port.ts';
import type { ShownStatistics } from '../display/port-statistics.ts';
import { queueCounts } from '../display/queue-counts.ts';

/** As testpmd's port_status: `handling` while a control call is under way. */
export type PortStatus = 'stopped' | 'started' | 'handling';

export interface ManagedPort {
  readonly port: Port;
  status: PortStatus;
  /** The device is to be configured, the queues to be set up, before the next start. */
  reconfigure: boolean;
  reconfigureQueues: boolean;
  /** Offloads that the port is to be configured with. */
  rxOffloads: number;
  txOffloads: number;
  /** Those of each queue that the device can have; what the port has not is refused at its next start. */
  readonly rxQueueOffloads: number[];
  readonly txQueueOffloads: number[];
  /** Bytes; 0: the port's own limit. */
  maxLroPacketSize: number;
  /** Tag that TX_OFFLOAD_VLAN_INSERT puts into packets. */
  txVlan: number;
  /** How many queues have been set up, and not given up since. */
  readonly queuesSetUp: { rx: number; tx: number };
  /** MTU to configure; undefined: 1500. */
  mtu: number | undefined;
  /** Counters where the forward statistics begin: the port's, and what its streams had received. */
  baseline: PortStatistics;
  rxBaseline: number;
  shown: ShownStatistics | undefined;
  stopEvents: () => void;
}

export const noStatistics: PortStatistics = {
  rxPackets: 0,
  rxBytes: 0,
  rxMissed: 0,
  rxErrors: 0,
  rxNoMbuf: 0,
  txPackets: 0,
  txBytes: 0,
  txErrors: 0,
};

/** What ethdev says of a queue that a port has not, or whose ring has not been made yet; undefined when it is there. */
export function missingQueueText({ port, queuesSetUp }: ManagedPort, direction: 'rx' | 'tx', queue: number): string | undefined {
  const name = direction === 'rx' ? 'Rx' : 'Tx';
  if (queue >= queueCounts(port)[direction]) return `Invalid ${name} queue_id=${queue}`;
  return queue < queuesSetUp[direction] ? undefined : `${name} queue ${queue} of device with port_id=${port.id} has not been setup`;
}

/** Ids count from 0; a port that goes leaves a hole, and the next one attached fills the lowest. */
export class PortTable {
  readonly #ports = new Map<number, ManagedPort>();

  get size(): number {
    return this.#ports.size;
  }

  /** In the order of the ids. */
  list(): readonly ManagedPort[] {
    return [...this.#ports.values()].sort((one, other) => one.port.id - other.port.id);
  }

  ids(): readonly number[] {
    return this.list().map(({ port }) => port.id);
  }

  get(id: number): ManagedPort | undefined {
    return this.#ports.get(id);
  }

  byName(name: string): ManagedPort | undefined {
    return this.list().find(({ port }) => port.name === name);
  }

  nextId(): number {
    let id = 0;
    while (this.#ports.has(id)) id += 1;
    return id;
  }

  add(managed: ManagedPort): void {
    this.#ports.set(managed.port.id, managed);
  }

  remove(id: number): void {
    this.#ports.delete(id);
  }
}
