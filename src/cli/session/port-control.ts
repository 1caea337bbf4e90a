/**
 * What happens to ports as a whole: start, stop, close, reset, attach, detach; with testpmd's words for every outcome.
 * @module
 */
import { setTimeout as delay } from 'node:timers/promises';

import type { Mempool } from '../../memory/mempool.ts';
import { formatMac } from '../../net/mac-address.ts';
import { parsePciAddress } from '../../pci/address.ts';
import { frameOverhead } from '../../port/frame-size.ts';
import { RX_OFFLOAD_RSS_HASH, TX_OFFLOAD_MBUF_FAST_FREE } from '../../port/offloads.ts';
import type { Port, PortConfiguration, PortEvent } from '../../port/port.ts';
import { queueCounts } from '../display/queue-counts.ts';
import { linkText } from '../display/link.ts';
import { diagnostic, errnoText, reason } from './errno-text.ts';
import { eventText } from './events.ts';
import type { Forwarding } from './forwarding.ts';
import { configurationRefusal, queueRefusal } from './offload-checks.ts';
import type { SessionOptions } from './options.ts';
import type { Output } from './output.ts';
import type { ManagedPort, PortTable } from './port-table.ts';
import { noStatistics } from './port-table.ts';
import type { Settings } from './settings.ts';

/** A port's id, or every port. */
export type PortSelection = number | 'all';

/** What an MTU is when nobody says otherwise. */
const usualMtu = 1500;
const linkCheckInterval = 100;
const linkCheckRounds = 90;

export interface PortControlContext {
  readonly ports: PortTable;
  readonly settings: Settings;
  readonly forwarding: Forwarding;
  readonly mempool: Mempool;
  readonly output: Output;
  /** Ends waits. */
  readonly signal: AbortSignal;
  readonly attachPort: (devargs: string, id: number) => Promise<Port>;
  /** A device went away by itself. */
  readonly onRemoval: (port: number) => void;
}

export class PortControl {
  readonly #context: PortControlContext;
  readonly #options: SessionOptions;

  constructor(context: PortControlContext, options: SessionOptions) {
    this.#context = context;
    this.#options = options;
  }

  /** Takes a port over: configured at its next start. */
  add(port: Port): void {
    const { info } = port;
    const { rxOffloads, maxPacketLength, maxLroPacketSize } = this.#options;
    const canFreeFast = (info.txOffloadCapabilities & TX_OFFLOAD_MBUF_FAST_FREE) !== 0;
    const txOffloads = canFreeFast ? this.#options.txOffloads : this.#options.txOffloads & ~TX_OFFLOAD_MBUF_FAST_FREE;
    const managed: ManagedPort = {
      port,
      status: 'stopped',
      reconfigure: true,
      reconfigureQueues: true,
      rxOffloads,
      txOffloads,
      rxQueueOffloads: Array.from({ length: info.maxRxQueues }, () => rxOffloads),
      txQueueOffloads: Array.from({ length: info.maxTxQueues }, () => txOffloads),
      maxLroPacketSize,
      txVlan: 0,
      queuesSetUp: { rx: 0, tx: 0 },
      mtu: maxPacketLength === undefined ? undefined : maxPacketLength - frameOverhead(info),
      baseline: noStatistics,
      rxBaseline: 0,
      shown: undefined,
      stopEvents: port.onEvent((event) => this.#onEvent(port.id, event)),
    };
    this.#context.ports.add(managed);
    this.#withoutIdleHash(managed);
  }

  /** The hash of received packets is asked for only where several queues are chosen by it. */
  #withoutIdleHash(managed: ManagedPort): void {
    const { port, rxQueueOffloads } = managed;
    if (this.#context.settings.rxQueues > 1 && port.info.rssFlowTypes.length > 0) return;
    managed.rxOffloads &= ~RX_OFFLOAD_RSS_HASH;
    const { rx } = queueCounts(port);
    for (const [queue, offloads] of rxQueueOffloads.entries()) if (queue < rx) rxQueueOffloads[queue] = offloads & ~RX_OFFLOAD_RSS_HASH;
  }

  /** Every port is to be configured anew at its next start. */
  reconfigureAll(): void {
    for (const managed of this.#context.ports.list()) {
      this.#withoutIdleHash(managed);
      managed.reconfigure = true;
      managed.reconfigureQueues = true;
    }
  }

  #onEvent(port: number, event: PortEvent): void {
    if (this.#options.printEvents.has(event.type)) this.#context.output.print(eventText(port, event.type));
    if (event.type === 'intr_rmv') this.#context.onRemoval(port);
  }

  /** The ports chosen, or undefined after a line that names a port that is not there. */
  #selected(selection: PortSelection): readonly ManagedPort[] | undefined {
    const { ports, output } = this.#context;
    if (selection === 'all') return ports.list();
    const managed = ports.get(selection);
    if (managed !== undefined) return [managed];
    output.warn(`Invalid port ${selection}`);
    return undefined;
  }

  /** True, with a line that says so, for a port that packets are being forwarded on. */
  #isBusy({ port }: ManagedPort): boolean {
    const { forwarding, output } = this.#context;
    const busy = forwarding.isForwarding(port.id);
    if (busy) output.warn(`Please remove port ${port.id} from forwarding configuration.`);
    return busy;
  }

  async #configure(managed: ManagedPort): Promise<boolean> {
    const { settings, output } = this.#context;
    const { port, rxOffloads, txOffloads, mtu, maxLroPacketSize } = managed;
    const { rxQueues, txQueues } = settings;
    managed.reconfigure = false;
    output.say(`Configuring Port ${port.id} (socket 0)`);
    try {
      const wanted: PortConfiguration = { rxQueues, txQueues, rxOffloads, txOffloads, mtu, maxLroPacketSize, rssTypes: settings.rssTypes };
      const refusal = configurationRefusal(port.id, port.info, wanted, mtu ?? Math.min(port.info.maxMtu, usualMtu));
      if (refusal !== undefined) throw new RangeError(refusal);
      await port.configure(wanted);
      // as in ethdev, queues that there were before count until they are set up anew
      managed.queuesSetUp.rx = Math.min(managed.queuesSetUp.rx, rxQueues);
      managed.queuesSetUp.tx = Math.min(managed.queuesSetUp.tx, txQueues);
      this.#adoptOffloads(managed);
      return true;
    } catch (error) {
      managed.reconfigure = true;
      output.warn(reason(error));
      output.warn(`Fail to configure port ${port.id}`);
      return false;
    }
  }

  /** What a driver switched on of its own accord is what the port is to have. */
  #adoptOffloads(managed: ManagedPort): void {
    const { rxOffloads, txOffloads } = managed.port.configuration ?? managed;
    const adopt = (queues: number[], offloads: number): void => {
      for (const [queue, before] of queues.entries()) queues[queue] = before | offloads;
    };
    if (rxOffloads !== managed.rxOffloads) adopt(managed.rxQueueOffloads, rxOffloads);
    if (txOffloads !== managed.txOffloads) adopt(managed.txQueueOffloads, txOffloads);
    managed.rxOffloads |= rxOffloads;
    managed.txOffloads |= txOffloads;
  }

  async #setUpQueues(managed: ManagedPort): Promise<boolean> {
    const { settings, mempool, output } = this.#context;
    const { port, rxQueueOffloads, txQueueOffloads, queuesSetUp } = managed;
    managed.reconfigureQueues = false;
    let direction: 'rx' | 'tx' = 'tx';
    const check = (queue: number, wanted = 0, ofPort = 0): void => {
      queuesSetUp[direction] = queue;
      const refusal = queueRefusal(direction, port.id, queue, wanted, ofPort);
      if (refusal !== undefined) throw new RangeError(refusal);
    };
    try {
      for (let queue = 0; queue < settings.txQueues; queue += 1) {
        check(queue, txQueueOffloads[queue], port.configuration?.txOffloads);
        await port.setupTxQueue(queue, { descriptors: settings.txDescriptors });
        queuesSetUp.tx = queue + 1;
      }
      direction = 'rx';
      for (let queue = 0; queue < settings.rxQueues; queue += 1) {
        check(queue, rxQueueOffloads[queue], port.configuration?.rxOffloads);
        await port.setupRxQueue(queue, { descriptors: settings.rxDescriptors, pool: mempool });
        queuesSetUp.rx = queue + 1;
      }
      return true;
    } catch (error) {
      managed.reconfigureQueues = true;
      output.warn(reason(error));
      output.warn(`Fail to configure port ${port.id} ${direction} queues`);
      return false;
    }
  }

  /** Returns false when a port could not be configured; those after it are left alone then. */
  async start(selection: PortSelection): Promise<boolean> {
    const { settings, output } = this.#context;
    const selected = this.#selected(selection);
    if (selected === undefined) return true;
    let started = false;
    let allStarted = true;
    for (const managed of selected) {
      const { port } = managed;
      if (managed.status !== 'stopped') {
        output.warn(`Port ${port.id} is now not stopped`);
        continue;
      }
      allStarted = false;
      managed.status = 'handling';
      const ready =
        (!managed.reconfigure || (await this.#configure(managed))) && (!managed.reconfigureQueues || (await this.#setUpQueues(managed)));
      if (!ready) {
        managed.status = 'stopped';
        return false;
      }
      try {
        await port.start();
      } catch (error) {
        managed.status = 'stopped';
        output.warn(reason(error));
        output.warn(`Fail to start port ${port.id}: ${errnoText(error)}`);
        continue;
      }
      managed.status = 'started';
      started = true;
      output.say(`Port ${port.id}: ${formatMac(port.mac)}`);
    }
    if (started && settings.linkCheck) await this.#checkLinks();
    else if (selected.length > 0 && allStarted) output.warn('Please stop the ports first');
    output.say('Done');
    return true;
  }

  /** With link interrupts a look suffices; without, waits up to nine seconds for every link and prints them. */
  async #checkLinks(): Promise<void> {
    const { ports, settings, output, signal } = this.#context;
    output.say('Checking link statuses...');
    if (settings.linkInterrupt) return;
    for (let round = 0; round < linkCheckRounds && !signal.aborted; round += 1) {
      if (ports.list().every(({ port }) => port.link().up)) break;
      await delay(linkCheckInterval, undefined, { signal }).catch(() => undefined);
    }
    for (const { port } of ports.list()) output.say(`Port ${port.id} ${linkText(port.link())}`);
  }

  async stop(selection: PortSelection): Promise<void> {
    const { settings, output } = this.#context;
    const selected = this.#selected(selection);
    if (selected === undefined) return;
    output.say('Stopping ports...');
    let stopped = false;
    for (const managed of selected) {
      if (this.#isBusy(managed) || managed.status !== 'started') continue;
      managed.status = 'handling';
      try {
        await managed.port.stop();
      } catch (error) {
        managed.status = 'started';
        output.warn(`EAL: rte_eth_dev_stop failed for port ${managed.port.id}: ${reason(error)}`);
        continue;
      }
      managed.status = 'stopped';
      stopped = true;
    }
    if (stopped && settings.linkCheck) await this.#checkLinks();
    output.say('Done');
  }

  async #release(managed: ManagedPort): Promise<void> {
    const { ports, output } = this.#context;
    try {
      await managed.port.close();
    } catch (error) {
      output.warn(reason(error));
    }
    managed.stopEvents();
    ports.remove(managed.port.id);
    output.say(`Port ${managed.port.id} is closed`);
  }

  /** A started port is closed only by `force`: its device is gone, or the session ends. */
  async close(selection: PortSelection, force = false): Promise<void> {
    const { forwarding, output } = this.#context;
    const selected = this.#selected(selection);
    if (selected === undefined) return;
    output.say('Closing ports...');
    for (const managed of selected) {
      if (this.#isBusy(managed)) continue;
      if (managed.status === 'started' && !force) output.warn(`Cannot close started device (port ${managed.port.id})`);
      else await this.#release(managed);
    }
    forwarding.removeClosedPorts();
    output.say('Done');
  }

  async reset(selection: PortSelection): Promise<void> {
    const { output } = this.#context;
    const selected = this.#selected(selection);
    if (selected === undefined) return;
    if (selected.some(({ status }) => status !== 'stopped')) {
      output.warn('Can not reset port(s), please stop port(s) first.');
      return;
    }
    output.say('Resetting ports...');
    for (const managed of selected) {
      try {
        await managed.port.reset();
        managed.reconfigure = true;
        managed.reconfigureQueues = true;
      } catch (error) {
        output.warn(`Failed to reset port ${managed.port.id}. diag=${diagnostic(error)}`);
        output.warn(reason(error));
      }
    }
    output.say('Done');
  }

  /** `identifier` is what --vdev or -a takes: `net_vhost1,iface=/tmp/s.sock`, `0000:00:10.0`. */
  async attach(identifier: string): Promise<void> {
    const { ports, forwarding, output, attachPort } = this.#context;
    output.say('Attaching a new port...');
    const [text = identifier] = identifier.split(',', 1);
    const name = parsePciAddress(text) ?? text;
    const existing = ports.byName(name);
    if (existing !== undefined) {
      output.warn('EAL: Failed to attach device on primary process');
      output.warn(`${name} is attached already, as port ${existing.port.id}`);
      return;
    }
    let port: Port;
    try {
      port = await attachPort(identifier, ports.nextId());
    } catch (error) {
      output.warn(reason(error));
      output.warn('EAL: Failed to attach device on primary process');
      output.warn(`testpmd: Failed to attach port ${identifier}`);
      return;
    }
    this.add(port);
    await this.enablePromiscuous(port);
    forwarding.addPort(port.id);
    output.say(`Port ${port.id} is attached. Now total ports is ${ports.size}`);
    output.say('Done');
  }

  /** As every port is made at start: not an error where the driver cannot. */
  async enablePromiscuous(port: Port): Promise<void> {
    try {
      await port.setPromiscuous(true);
    } catch (error) {
      this.#context.output.warn(`Error during enabling promiscuous mode for port ${port.id}: ${errnoText(error)} - ignore`);
    }
  }

  async detach(id: number): Promise<void> {
    const { ports, output } = this.#context;
    const managed = ports.get(id);
    if (managed === undefined) {
      output.warn(`Invalid port_id=${id}`);
      return;
    }
    if (managed.status !== 'stopped') {
      output.warn('Port not stopped');
      return;
    }
    output.warn('Port was not closed');
    await this.#detachDevice(managed);
  }

  async #detachDevice(managed: ManagedPort | undefined): Promise<void> {
    const { ports, forwarding, output } = this.#context;
    output.say('Removing a device...');
    if (managed !== undefined) await this.#release(managed);
    forwarding.removeClosedPorts();
    output.say('Device is detached');
    output.say(`Now total ports is ${ports.size}`);
    output.say('Done');
  }

  /** A device that went away by itself: forwarding goes on without it. */
  async remove(id: number): Promise<void> {
    const { ports, forwarding, settings } = this.#context;
    if (ports.get(id) === undefined) return;
    const forwarded = forwarding.isForwarding(id);
    if (forwarded) await forwarding.stop();
    const { linkCheck } = settings;
    settings.linkCheck = false;
    await this.stop(id);
    settings.linkCheck = linkCheck;
    await this.close(id, true);
    await this.#detachDevice(undefined);
    if (forwarded) await forwarding.start(0);
  }
}
