/**
 * Offloads and VLAN tags at the prompt. What a stopped port is told here is in force at its next start; VLAN offloads of received
 * packets are switched at once.
 * @module
 */
import * as bits from '../../port/offloads.ts';
import { offloadBit, rxOffloadNames, txOffloadNames } from '../display/offloads.ts';
import { queueCounts } from '../display/queue-counts.ts';
import { diagnostic, reason } from './errno-text.ts';
import { vlanRefusal } from './offload-checks.ts';
import type { Output } from './output.ts';
import type { ManagedPort, PortTable } from './port-table.ts';

export type Direction = 'rx' | 'tx';

/** VLAN offloads of received packets: the bit, and what testpmd calls the function that switches it. */
const vlanOffloads = {
  strip: { bit: bits.RX_OFFLOAD_VLAN_STRIP, call: 'rx_vlan_strip_set' },
  filter: { bit: bits.RX_OFFLOAD_VLAN_FILTER, call: 'rx_vlan_filter_set' },
  qinq_strip: { bit: bits.RX_OFFLOAD_QINQ_STRIP, call: 'rx_vlan_qinq_strip_set' },
  extend: { bit: bits.RX_OFFLOAD_VLAN_EXTEND, call: 'rx_vlan_extend_set' },
} as const;

export type VlanOffload = keyof typeof vlanOffloads;

/** Tags are of 12 bits. */
const vlanIds = 4096;
/** -EINVAL and -EOPNOTSUPP, as ethdev returns them. */
const invalid = -22;
const notSupported = -95;

function reconfigure(managed: ManagedPort): void {
  managed.reconfigure = true;
  managed.reconfigureQueues = true;
}

export class PortOffloads {
  readonly #ports: PortTable;
  readonly #output: Output;

  constructor(ports: PortTable, output: Output) {
    this.#ports = ports;
    this.#output = output;
  }

  /** A stopped port, or undefined after a line that says why there is none. */
  #configurable(id: number): ManagedPort | undefined {
    const managed = this.#ports.get(id);
    if (managed === undefined) {
      this.#output.warn(`Invalid port_id=${id}`);
      this.#output.warn(`Error during getting device (port ${id}) info: No such device`);
      return undefined;
    }
    if (managed.status === 'stopped') return managed;
    this.#output.warn(`Error: Can't config offload when Port ${id} is not stopped`);
    return undefined;
  }

  /** `port config ID rx_offload|tx_offload NAME on|off`: the port, and the queues that it has. */
  set(direction: Direction, id: number, name: string, on: boolean): void {
    const managed = this.#configurable(id);
    if (managed === undefined) return;
    const bit = offloadBit(direction === 'rx' ? rxOffloadNames : txOffloadNames, name) ?? 0;
    const changed = (offloads: number): number => (on ? offloads | bit : offloads & ~bit);
    if (direction === 'rx') managed.rxOffloads = changed(managed.rxOffloads);
    else managed.txOffloads = changed(managed.txOffloads);
    const queues = direction === 'rx' ? managed.rxQueueOffloads : managed.txQueueOffloads;
    const count = queueCounts(managed.port)[direction];
    for (const [queue, offloads] of queues.entries()) if (queue < count) queues[queue] = changed(offloads);
    reconfigure(managed);
  }

  /** `port ID rxq|txq QUEUE rx_offload|tx_offload NAME on|off`. */
  setOfQueue(direction: Direction, id: number, queue: number, name: string, on: boolean): void {
    const managed = this.#configurable(id);
    if (managed === undefined) return;
    const queues = direction === 'rx' ? managed.rxQueueOffloads : managed.txQueueOffloads;
    const count = queueCounts(managed.port)[direction];
    const before = queues[queue];
    if (queue >= count || before === undefined) {
      this.#output.warn(`Error: input queue_id should be 0 ... ${count - 1}`);
      return;
    }
    const bit = offloadBit(direction === 'rx' ? rxOffloadNames : txOffloadNames, name) ?? 0;
    queues[queue] = on ? before | bit : before & ~bit;
    reconfigure(managed);
  }

  #known(id: number): ManagedPort | undefined {
    const managed = this.#ports.get(id);
    if (managed === undefined) this.#output.warn(`Invalid port ${id}`);
    return managed;
  }

  #isTag(vlan: number): boolean {
    if (vlan < vlanIds) return true;
    this.#output.warn(`Invalid vlan_id ${vlan} (must be < ${vlanIds})`);
    return false;
  }

  /** `vlan set strip|filter|qinq_strip|extend on|off ID`, on a running port too. */
  async setVlan(what: VlanOffload, id: number, on: boolean): Promise<void> {
    const managed = this.#known(id);
    if (managed === undefined) return;
    const { port } = managed;
    const { bit, call } = vlanOffloads[what];
    const before = port.configuration?.rxOffloads ?? 0;
    const after = on ? before | bit : before & ~bit;
    const fail = (line: string | undefined, code: number): void => {
      if (line !== undefined) this.#output.warn(line);
      this.#output.warn(`${call}(port_pi=${id}, on=${on ? 1 : 0}) failed diag=${code}`);
    };
    const refusal = vlanRefusal(id, port.info, before, after);
    if (refusal !== undefined) {
      fail(refusal, invalid);
      return;
    }
    try {
      await port.setVlanOffloads(after);
    } catch (error) {
      fail(reason(error), diagnostic(error));
      return;
    }
    managed.rxOffloads = on ? managed.rxOffloads | bit : managed.rxOffloads & ~bit;
  }

  /** `vlan set stripq`: no driver here strips the tags of some queues only. */
  refuseVlanOfQueue(id: number, queue: number, on: boolean): void {
    const managed = this.#known(id);
    if (managed === undefined) return;
    const known = queue < queueCounts(managed.port).rx;
    if (!known) this.#output.warn(`Invalid rx_queue_id=${queue}`);
    const code = known ? notSupported : invalid;
    this.#output.warn(`rx_vlan_strip_set_on_queue(port_pi=${id}, queue_id=${queue}, on=${on ? 1 : 0}) failed diag=${code}`);
  }

  /** `vlan set inner|outer tpid`: tags are told by 0x8100 alone. */
  refuseTagType(id: number, which: 'inner' | 'outer', type: number): void {
    if (this.#known(id) === undefined) return;
    this.#output.warn(`tx_vlan_tpid_set(port_pi=${id}, vlan_type=${which === 'inner' ? 1 : 2}, tpid=${type}) failed diag=${notSupported}`);
  }

  /** For `tx_vlan`: a stopped port. */
  #taggable(id: number): ManagedPort | undefined {
    const managed = this.#known(id);
    if (managed === undefined || managed.status === 'stopped') return managed;
    this.#output.warn(`Please stop port ${id} first`);
    return undefined;
  }

  #resetTag(managed: ManagedPort): void {
    managed.txOffloads &= ~(bits.TX_OFFLOAD_VLAN_INSERT | bits.TX_OFFLOAD_QINQ_INSERT);
    managed.txVlan = 0;
  }

  /** `tx_vlan set ID VLAN`: the tag of what the engines that write headers send. */
  setTag(id: number, vlan: number): void {
    const managed = this.#taggable(id);
    if (managed === undefined) return;
    reconfigure(managed);
    if (!this.#isTag(vlan)) return;
    if ((managed.txOffloads & bits.TX_OFFLOAD_QINQ_INSERT) !== 0) {
      this.#output.warn('Error, as QinQ has been enabled.');
      return;
    }
    if ((managed.port.info.txOffloadCapabilities & bits.TX_OFFLOAD_VLAN_INSERT) === 0) {
      this.#output.warn(`Error: vlan insert is not supported by port ${id}`);
      return;
    }
    this.#resetTag(managed);
    managed.txOffloads |= bits.TX_OFFLOAD_VLAN_INSERT;
    managed.txVlan = vlan;
  }

  /** `tx_vlan set ID VLAN OUTER`: no driver here inserts two tags. */
  refuseTwoTags(id: number, vlan: number, outer: number): void {
    const managed = this.#taggable(id);
    if (managed === undefined) return;
    reconfigure(managed);
    if (this.#isTag(vlan) && this.#isTag(outer)) this.#output.warn(`Error: qinq insert not supported by port ${id}`);
  }

  /** `tx_vlan reset ID`. */
  resetTag(id: number): void {
    const managed = this.#taggable(id);
    if (managed === undefined) return;
    this.#resetTag(managed);
    reconfigure(managed);
  }

  /** `tx_vlan set pvid`: no driver here has a tag of its own; as in testpmd nothing is said of that. */
  setPortTag(id: number): void {
    this.#known(id);
  }
}
