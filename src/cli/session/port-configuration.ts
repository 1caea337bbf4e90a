/**
 * `port config`: queue counts, ring sizes, burst, MTU and offloads, in force at the ports' next start.
 * @module
 */
import { frameOverhead } from '../../port/frame-size.ts';
import { diagnostic, reason } from './errno-text.ts';
import type { Forwarding } from './forwarding.ts';
import type { Output } from './output.ts';
import type { PortControl } from './port-control.ts';
import type { PortTable } from './port-table.ts';
import type { Settings } from './settings.ts';
import { maxBurst } from './settings.ts';

/** Queues a port can have at most. */
const maxQueues = 1024;
const minPacketLength = 64;

export type QueueSetting = 'rxq' | 'txq' | 'rxd' | 'txd';

interface Limit {
  readonly value: number;
  readonly port: number;
}

export interface PortConfigurationContext {
  readonly ports: PortTable;
  readonly settings: Settings;
  readonly forwarding: Forwarding;
  readonly control: PortControl;
  readonly output: Output;
}

export class PortConfigurator {
  readonly #context: PortConfigurationContext;

  constructor(context: PortConfigurationContext) {
    this.#context = context;
  }

  #allStopped(): boolean {
    const { ports, output } = this.#context;
    const stopped = ports.list().every(({ status }) => status === 'stopped');
    if (!stopped) output.warn('Please stop all ports first');
    return stopped;
  }

  #queueLimit(direction: 'rx' | 'tx'): Limit {
    let limit: Limit | undefined;
    for (const { port } of this.#context.ports.list()) {
      const most = direction === 'rx' ? port.info.maxRxQueues : port.info.maxTxQueues;
      if (most < (limit?.value ?? maxQueues)) limit = { value: most, port: port.id };
      limit ??= { value: maxQueues, port: 0 };
    }
    return limit ?? { value: 0, port: 0 };
  }

  /** True when every port can have so many queues; otherwise a line names the port that cannot. */
  checkQueues(direction: 'rx' | 'tx', count: number): { readonly fits: boolean; readonly most: number } {
    const { value: most, port } = this.#queueLimit(direction);
    if (count <= most) return { fits: true, most };
    this.#context.output.warn(
      `Fail: input ${direction}q (${count}) can't be greater than max_${direction}_queues (${most}) of port ${port}`,
    );
    return { fits: false, most };
  }

  #checkDescriptors(direction: 'rx' | 'tx', count: number): boolean {
    const { ports, output } = this.#context;
    let max: Limit = { value: 0xffff, port: 0 };
    let min: Limit = { value: 0, port: 0 };
    for (const { port } of ports.list()) {
      const limits = direction === 'rx' ? port.info.rxDescriptors : port.info.txDescriptors;
      if (limits.max < max.value) max = { value: limits.max, port: port.id };
      if (limits.min > min.value) min = { value: limits.min, port: port.id };
    }
    if (count > max.value) {
      output.warn(`Fail: input ${direction}d (${count}) can't be greater than max_${direction}ds (${max.value}) of port ${max.port}`);
      return false;
    }
    if (count < min.value) {
      output.warn(`Fail: input ${direction}d (${count}) can't be less than min_${direction}ds (${min.value}) of port ${min.port}`);
      return false;
    }
    return true;
  }

  setQueues(setting: QueueSetting, value: number): void {
    const { settings, forwarding, output } = this.#context;
    if (!this.#allStopped()) return;
    const direction = setting.startsWith('rx') ? 'rx' : 'tx';
    if (setting === 'rxq' || setting === 'txq') {
      const others = setting === 'rxq' ? settings.txQueues : settings.rxQueues;
      if (value === 0 && others === 0) {
        output.warn('Warning: Either rx or tx queues should be non zero');
        return;
      }
      if (!this.checkQueues(direction, value).fits) return;
    } else if (!this.#checkDescriptors(direction, value)) {
      return;
    }
    const names = { rxq: 'rxQueues', txq: 'txQueues', rxd: 'rxDescriptors', txd: 'txDescriptors' } as const;
    settings[names[setting]] = value;
    forwarding.setUp();
    this.#context.control.reconfigureAll();
  }

  setBurst(value: number): void {
    const { settings, output } = this.#context;
    if (!this.#allStopped()) return;
    if (value === 0) {
      output.say(`PMD does not recommend a burst size.\nUser provided value must be between 1 and ${maxBurst}`);
      return;
    }
    if (value > maxBurst) {
      output.warn(`burst must be >= 1 && <= ${maxBurst}`);
      return;
    }
    settings.burst = value;
    this.#context.control.reconfigureAll();
  }

  async setMaxPacketLength(value: number): Promise<void> {
    const { ports, output } = this.#context;
    if (!this.#allStopped()) return;
    for (const managed of ports.list()) {
      if (value < minPacketLength) {
        output.warn(`max-pkt-len can not be less than ${minPacketLength}`);
        return;
      }
      const { port } = managed;
      const mtu = (value - frameOverhead(port.info)) & 0xffff;
      if (mtu === port.mtu) continue;
      try {
        if (port.configuration === undefined) throw new RangeError(`Port ${port.id} must be configured before MTU set`);
        await port.setMtu(mtu);
        managed.mtu = mtu;
      } catch (error) {
        output.warn(reason(error));
        output.warn(`Failed to set MTU to ${mtu} for port ${port.id}`);
      }
    }
    this.#context.control.reconfigureAll();
  }

  async setMtu(id: number, mtu: number): Promise<void> {
    const { ports, output } = this.#context;
    const managed = ports.get(id);
    if (managed === undefined) {
      output.warn(`Invalid port ${id}`);
      return;
    }
    const { info } = managed.port;
    const frame = mtu + frameOverhead(info);
    if (mtu < info.minMtu) {
      output.warn(`MTU (${mtu}) < device min MTU (${info.minMtu}) for port_id ${id}`);
    } else if (mtu > info.maxMtu) {
      output.warn(`MTU (${mtu}) > device max MTU (${info.maxMtu}) for port_id ${id}`);
    } else if (frame > info.maxRxPacketLength) {
      output.warn(`Frame size (${frame}) > device max frame size (${info.maxRxPacketLength}) for port_id ${id}`);
    } else {
      try {
        if (!managed.reconfigure) await managed.port.setMtu(mtu);
        managed.mtu = mtu;
      } catch (error) {
        output.warn(reason(error));
        output.warn(`Set MTU failed. diag=${diagnostic(error)}`);
      }
    }
  }

  /** Bytes of the largest packet that LRO may make, at the ports' next start. */
  setMaxLroPacketSize(value: number): void {
    if (!this.#allStopped()) return;
    for (const managed of this.#context.ports.list()) {
      if (managed.maxLroPacketSize === value) return;
      managed.maxLroPacketSize = value;
    }
    this.#context.control.reconfigureAll();
  }

  setDropEnable(on: boolean): void {
    if (!this.#allStopped()) return;
    this.#context.settings.dropEnable = on;
    this.#context.control.reconfigureAll();
  }
}
