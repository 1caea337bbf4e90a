/**
 * `show port` and `clear port`: picks the ports, remembers what was shown, leaves the words to ../display.
 * @module
 */
import { RX_OFFLOAD_SCATTER } from '../../port/offloads.ts';
import type { Port } from '../../port/port.ts';
import {
  deviceInfoText,
  macAddressesText,
  multicastAddressesText,
  portInfoText,
  portSummaryHeader,
  portSummaryLine,
} from '../display/port-info.ts';
import { offloadCapabilitiesText, offloadConfigurationText } from '../display/offloads.ts';
import { packetTypesText } from '../display/packet-types.ts';
import { extendedStatisticsText, portStatisticsText, statisticsScreenHeader } from '../display/port-statistics.ts';
import { queueCounts } from '../display/queue-counts.ts';
import { rxQueueInfoText, txQueueInfoText } from '../display/queue-info.ts';
import { errnoText, reason } from './errno-text.ts';
import type { Forwarding } from './forwarding.ts';
import type { Output } from './output.ts';
import type { PortSelection } from './port-control.ts';
import type { ManagedPort, PortTable } from './port-table.ts';
import { missingQueueText } from './port-table.ts';
import type { Settings } from './settings.ts';

export interface PortDisplayContext {
  readonly ports: PortTable;
  readonly settings: Settings;
  readonly forwarding: Forwarding;
  readonly output: Output;
}

export class PortDisplay {
  readonly #context: PortDisplayContext;

  constructor(context: PortDisplayContext) {
    this.#context = context;
  }

  /** Calls `show` for the ports chosen; a port that is not there is answered with the list of those that are. */
  #each(selection: PortSelection, show: (managed: ManagedPort) => void): void {
    const { ports, output } = this.#context;
    const single = selection === 'all' ? undefined : ports.get(selection);
    if (selection !== 'all' && single === undefined) {
      output.warn(`Invalid port ${selection}`);
      output.say(
        `The valid ports array is [${ports
          .ids()
          .map((id) => ` ${id}`)
          .join('')} ]`,
      );
      return;
    }
    for (const managed of single === undefined ? ports.list() : [single]) {
      try {
        show(managed);
      } catch (error) {
        output.warn(`Port ${managed.port.id}: ${errnoText(error)}`);
        output.warn(reason(error));
      }
    }
  }

  info(selection: PortSelection): void {
    this.#each(selection, ({ port }) => this.#context.output.print(portInfoText(port)));
  }

  summary(selection: PortSelection): void {
    const { ports, output } = this.#context;
    output.print(portSummaryHeader(ports.size));
    this.#each(selection, ({ port }) => output.print(portSummaryLine(port)));
  }

  statistics(selection: PortSelection): void {
    this.#each(selection, (managed) => {
      const now = { statistics: managed.port.statistics(), nanoseconds: process.hrtime.bigint() };
      this.#context.output.print(portStatisticsText(managed.port.id, now, managed.shown));
      managed.shown = now;
    });
  }

  /** The screen of --stats-period: the forwarded ports' blocks. */
  statisticsScreen(): void {
    const { forwarding, ports, output } = this.#context;
    output.print(statisticsScreenHeader);
    for (const id of forwarding.plannedPorts) {
      if (ports.get(id) !== undefined) this.statistics(id);
    }
  }

  extendedStatistics(selection: PortSelection): void {
    const { settings, output } = this.#context;
    this.#each(selection, ({ port }) =>
      output.print(extendedStatisticsText(port.id, port.extendedStatistics(), settings.hideZeroStatistics)),
    );
  }

  #rebase(managed: ManagedPort): void {
    managed.baseline = managed.port.statistics();
    managed.rxBaseline = this.#context.forwarding.received(managed.port.id);
  }

  clearStatistics(selection: PortSelection): void {
    this.#each(selection, (managed) => {
      managed.port.resetStatistics();
      this.#rebase(managed);
      this.#context.output.print(`\n  NIC statistics for port ${managed.port.id} cleared\n`);
    });
  }

  clearExtendedStatistics(selection: PortSelection): void {
    this.#each(selection, (managed) => {
      managed.port.resetExtendedStatistics();
      this.#rebase(managed);
    });
  }

  /** For the commands that need a device behind the id: the ethdev layer's words for one that is not there. */
  #device(id: number, what: string): ManagedPort | undefined {
    const { ports, output } = this.#context;
    const managed = ports.get(id);
    if (managed !== undefined) return managed;
    output.warn(`Invalid port_id=${id}`);
    output.warn(`Error during getting device ${what}: No such device`);
    return undefined;
  }

  offloadCapabilities(direction: 'Rx' | 'Tx', id: number): void {
    const port = this.#device(id, `(port ${id}) info`)?.port;
    if (port === undefined) return;
    const capabilities = direction === 'Rx' ? port.info.rxOffloadCapabilities : port.info.txOffloadCapabilities;
    this.#context.output.print(offloadCapabilitiesText(direction, id, capabilities));
  }

  offloadConfiguration(direction: 'Rx' | 'Tx', id: number): void {
    const managed = this.#device(id, `configuration (port ${id})`);
    if (managed === undefined) return;
    const { configuration } = managed.port;
    const { rx, tx } = queueCounts(managed.port);
    const text =
      direction === 'Rx'
        ? offloadConfigurationText('Rx', id, configuration?.rxOffloads ?? 0, managed.rxQueueOffloads.slice(0, rx))
        : offloadConfigurationText('Tx', id, configuration?.txOffloads ?? 0, managed.txQueueOffloads.slice(0, tx));
    this.#context.output.print(text);
  }

  packetTypes(id: number): void {
    const { ports, output } = this.#context;
    if (ports.get(id) === undefined) output.warn(`Invalid port_id=${id}`);
    else output.print(packetTypesText());
  }

  /** `set port ID ptype_mask`. */
  refusePacketTypes(id: number): void {
    const { ports, output } = this.#context;
    if (ports.get(id) === undefined) output.warn(`Invalid port_id=${id}`);
    output.warn(`Port ${id} doesn't support any ptypes.`);
  }

  macAddresses(id: number): void {
    const { ports, output } = this.#context;
    const managed = ports.get(id);
    if (managed === undefined) output.warn(`Invalid port ${id}`);
    else output.print(macAddressesText(managed.port));
  }

  multicastAddresses(id: number): void {
    const { ports, output } = this.#context;
    const managed = ports.get(id);
    if (managed === undefined) output.warn(`Invalid port ${id}`);
    else output.print(multicastAddressesText(managed.port));
  }

  queue(direction: 'rx' | 'tx', id: number, queue: number): void {
    const { ports, output } = this.#context;
    const fail = (what: string): void =>
      output.warn(`Failed to retrieve information for port: ${id}, ${direction.toUpperCase()} queue: ${queue}\nerror desc: ${what}`);
    const managed = ports.get(id);
    if (managed === undefined) {
      output.warn(`Invalid port_id=${id}`);
      fail('No such device(-19)');
      return;
    }
    const { configuration } = managed.port;
    const missing = missingQueueText(managed, direction, queue);
    if (missing !== undefined) {
      output.warn(missing);
      fail('Invalid argument(-22)');
      return;
    }
    const info = direction === 'rx' ? managed.port.rxQueueInfo(queue) : managed.port.txQueueInfo(queue);
    if (info === undefined) {
      fail('Operation not supported(-95)');
      return;
    }
    const shown = {
      port: id,
      queue,
      info,
      scattered: ((configuration?.rxOffloads ?? 0) & RX_OFFLOAD_SCATTER) !== 0,
      drops: this.#context.settings.dropEnable,
      started: managed.status === 'started',
    };
    output.print(direction === 'rx' ? rxQueueInfoText(shown) : txQueueInfoText(shown));
  }

  /** `show port ID rxq|txq QUEUE desc DESCRIPTOR status`. */
  descriptorStatus(direction: 'rx' | 'tx', id: number, queue: number, descriptor: number): void {
    this.#ofQueue(id, `Invalid input: queue id = ${queue}, desc id = ${descriptor}`, (port) => {
      return `Desc status = ${port.descriptorStatus(direction, queue, descriptor).toUpperCase()}`;
    });
  }

  /** `show port ID rxq QUEUE desc used count`. */
  usedCount(id: number, queue: number): void {
    this.#ofQueue(id, `Invalid queueid = ${queue}`, (port) => `Used desc count = ${port.rxQueueCount(queue)}`);
  }

  /** Says what `tell` does, or `refusal` and why. */
  #ofQueue(id: number, refusal: string, tell: (port: Port) => string): void {
    const { ports, output } = this.#context;
    const managed = ports.get(id);
    if (managed === undefined) {
      output.warn(`invalid port id ${id}`);
      return;
    }
    try {
      output.say(tell(managed.port));
    } catch (error) {
      output.warn(refusal);
      output.warn(reason(error));
    }
  }

  device(identifier: string): void {
    const { ports, output } = this.#context;
    if (identifier === 'all') {
      for (const { port } of ports.list()) output.print(deviceInfoText(port));
      return;
    }
    const managed = ports.byName(identifier);
    if (managed !== undefined) {
      output.print(deviceInfoText(managed.port));
      return;
    }
    output.warn(`EAL: failed to parse device "${identifier}"`);
    output.warn('cannot parse identifier');
  }
}
