/**
 * The ports of a session by id, with what testpmd remembers about each.
 * @module
 */
import type { Port, PortInfo, PortStatistics } from '../../port/port.ts';
import type { ShownStatistics } from '../display/port-statistics.ts';

/** As testpmd's port_status: `handling` while a control call is under way. */
export type PortStatus = 'stopped' | 'started' | 'handling';

export interface ManagedPort {
  readonly port: Port;
  status: PortStatus;
  /** The device is to be configured, the queues to be set up, before the next start. */
  reconfigure: boolean;
  reconfigureQueues: boolean;
  rxOffloads: number;
  txOffloads: number;
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

/** Bytes around the payload that the MTU counts: what the device adds, or an Ethernet header and its CRC. */
export function frameOverhead({ maxMtu, maxRxPacketLength }: PortInfo): number {
  return maxMtu !== 0xffff && maxRxPacketLength > maxMtu ? maxRxPacketLength - maxMtu : 18;
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
