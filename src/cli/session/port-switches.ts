/**
 * Switches of a running port: promiscuous, all-multicast, link, MAC address.
 * @module
 */
import type { MacAddress } from '../../net/mac-address.ts';
import { isUnicast } from '../../net/mac-address.ts';
import type { Port } from '../../port/port.ts';
import { queueCounts } from '../display/queue-counts.ts';
import { errnoText, reason } from './errno-text.ts';
import type { Output } from './output.ts';
import type { PortSelection } from './port-control.ts';
import type { PortTable } from './port-table.ts';

/** The call came back with `error`, a C library's sentence, and perhaps a reason of our own. */
interface Failure {
  readonly error: string;
  readonly reason: string | undefined;
}

export class PortSwitches {
  readonly #ports: PortTable;
  readonly #output: Output;

  constructor(ports: PortTable, output: Output) {
    this.#ports = ports;
    this.#output = output;
  }

  async #attempt(id: number, change: (port: Port) => Promise<void>): Promise<Failure | undefined> {
    const managed = this.#ports.get(id);
    if (managed === undefined) {
      this.#output.warn(`Invalid port_id=${id}`);
      return { error: 'No such device', reason: undefined };
    }
    try {
      await change(managed.port);
      return undefined;
    } catch (error) {
      return { error: errnoText(error), reason: reason(error) };
    }
  }

  #warn(line: string, failure: Failure): void {
    this.#output.warn(line);
    if (failure.reason !== undefined && failure.reason !== failure.error) this.#output.warn(failure.reason);
  }

  async setPromiscuous(selection: PortSelection, on: boolean): Promise<void> {
    for (const id of selection === 'all' ? this.#ports.ids() : [selection]) {
      const failure = await this.#attempt(id, (port) => port.setPromiscuous(on));
      if (failure !== undefined) {
        this.#warn(`Error during ${on ? 'enabling' : 'disabling'} promiscuous mode for port ${id}: ${failure.error}`, failure);
      }
    }
  }

  async setAllMulticast(selection: PortSelection, on: boolean): Promise<void> {
    for (const id of selection === 'all' ? this.#ports.ids() : [selection]) {
      const failure = await this.#attempt(id, (port) => port.setAllMulticast(on));
      if (failure !== undefined) {
        this.#warn(`Error during ${on ? 'enabling' : 'disabling'} all-multicast mode for port ${id}: ${failure.error}`, failure);
      }
    }
  }

  async setLink(id: number, up: boolean): Promise<void> {
    const failure = await this.#attempt(id, (port) => port.setLink(up));
    if (failure !== undefined) this.#warn(`\nSet link ${up ? 'up' : 'down'} fail.`, failure);
  }

  /** `port ID rxq|txq QUEUE start|stop`. */
  async runQueue(direction: 'rx' | 'tx', id: number, queue: number, run: boolean): Promise<void> {
    const managed = this.#ports.get(id);
    if (managed === undefined) {
      this.#output.warn(`Invalid port ${id}`);
      return;
    }
    if (managed.status !== 'started') {
      this.#output.warn(`Please start port ${id} first`);
      return;
    }
    const count = queueCounts(managed.port)[direction];
    if (queue >= count) {
      this.#output.warn(`Invalid ${direction.toUpperCase()} queue ${queue} (must be < nb_${direction}q=${count})`);
      return;
    }
    const failure = await this.#attempt(id, (port) => (run ? port.startQueue(direction, queue) : port.stopQueue(direction, queue)));
    if (failure === undefined) return;
    const unsupported = failure.error === 'Operation not supported';
    // testpmd is silent about other errors
    this.#warn(unsupported ? 'Function not supported in PMD' : `Failed to ${run ? 'start' : 'stop'} the queue: ${failure.error}`, failure);
  }

  async setMac(id: number, mac: MacAddress): Promise<void> {
    if (this.#ports.get(id)?.port.macAddresses.some((known, index) => index > 0 && Buffer.compare(known, mac) === 0) === true) {
      this.#output.warn(`New default address for port ${id} was already in the address list. Please remove it first.`);
      this.#output.warn('mac_addr_cmd error: (File exists)');
      return;
    }
    const failure = await this.#attempt(id, (port) =>
      isUnicast(mac) ? port.setMac(mac) : Promise.reject(new RangeError('Invalid argument')),
    );
    if (failure !== undefined) this.#warn(`mac_addr_cmd error: (${failure.error})`, failure);
  }
}
