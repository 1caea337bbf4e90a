/**
 * What the csum engine does, port by port: checksums by the port or in software, tunnels, segmentation, gro and gso.
 *
 * A transmit port's checksum and segmentation offloads are those it is configured with (port-offloads.ts); everything else is kept here.
 * @module
 */
import type { CsumSettings, Lcores, Stream } from '../../lcore/forwarding-plan.ts';
import * as bits from '../../port/offloads.ts';
import { csumText, groText, gsoText } from '../display/csum.ts';
import type { Output } from './output.ts';
import type { PortOffloads } from './port-offloads.ts';
import type { ManagedPort, PortTable } from './port-table.ts';

/** Checksums in the words of the command, of the messages, and as the name of the transmit offload. */
export const csumLayers = {
  ip: { text: 'IP', offload: 'ipv4_cksum', bit: bits.TX_OFFLOAD_IPV4_CKSUM },
  udp: { text: 'UDP', offload: 'udp_cksum', bit: bits.TX_OFFLOAD_UDP_CKSUM },
  tcp: { text: 'TCP', offload: 'tcp_cksum', bit: bits.TX_OFFLOAD_TCP_CKSUM },
  sctp: { text: 'SCTP', offload: 'sctp_cksum', bit: bits.TX_OFFLOAD_SCTP_CKSUM },
  'outer-ip': { text: 'Outer IP', offload: 'outer_ipv4_cksum', bit: bits.TX_OFFLOAD_OUTER_IPV4_CKSUM },
  'outer-udp': { text: 'Outer UDP', offload: 'outer_udp_cksum', bit: bits.TX_OFFLOAD_OUTER_UDP_CKSUM },
} as const;

export type CsumLayer = keyof typeof csumLayers;

/** Bursts that gro may gather from. */
const maxFlushCycles = 4;
const defaultFlushCycles = 1;
/** Bytes of Ethernet, IPv4 and TCP headers and one more: the shortest packet that gso may make. */
const minGsoSize = 55;
const defaultGsoSize = 1514;

interface PortState {
  parseTunnels: boolean;
  rewriteAddresses: boolean;
  /** Payload bytes of TCP segments; 0: off. */
  segmentSize: number;
  gro: boolean;
  gso: boolean;
}

export interface CsumContext {
  readonly ports: PortTable;
  readonly offloads: PortOffloads;
  readonly lcores: Lcores;
  readonly output: Output;
  /** Packets are being forwarded. */
  readonly isRunning: () => boolean;
}

export class Csum {
  readonly #context: CsumContext;
  /** A port that comes later under the same id begins anew. */
  readonly #states = new WeakMap<ManagedPort, PortState>();
  #flushCycles = defaultFlushCycles;
  #gsoSize = defaultGsoSize;

  constructor(context: CsumContext) {
    this.#context = context;
  }

  #state(managed: ManagedPort): PortState {
    const known = this.#states.get(managed);
    if (known !== undefined) return known;
    const state = { parseTunnels: false, rewriteAddresses: true, segmentSize: 0, gro: false, gso: false };
    this.#states.set(managed, state);
    return state;
  }

  /** The port, or undefined after a line that says that there is none. */
  #known(id: number, answer = `Invalid port ${id}`): ManagedPort | undefined {
    const managed = this.#context.ports.get(id);
    if (managed === undefined) this.#context.output.warn(answer);
    return managed;
  }

  #stopped(id: number, answer?: string): ManagedPort | undefined {
    const managed = this.#known(id, answer);
    if (managed === undefined || managed.status === 'stopped') return managed;
    this.#context.output.warn(`Please stop port ${id} first`);
    return undefined;
  }

  /** True, with a line that says so, while packets are being forwarded. */
  #isBusy(text: string): boolean {
    const busy = this.#context.isRunning();
    if (busy) this.#context.output.warn(text);
    return busy;
  }

  /** What the lcores are to do with the packets of a stream. */
  settingsOf(stream: Stream): CsumSettings {
    const from = this.#context.ports.get(stream.rxPort);
    const to = this.#context.ports.get(stream.txPort);
    const { parseTunnels, rewriteAddresses, segmentSize, gso } = to === undefined ? initialState : this.#state(to);
    const gro = from !== undefined && this.#state(from).gro;
    return {
      txOffloads: to?.port.configuration?.txOffloads ?? 0,
      rewriteAddresses,
      parseTunnels,
      segmentSize,
      groCycles: gro ? this.#flushCycles : 0,
      gsoSize: gso ? this.#gsoSize : 0,
    };
  }

  /** To the streams of the run. */
  #publish(): void {
    this.#context.lcores.setCsum((stream) => this.settingsOf(stream));
  }

  #print(managed: ManagedPort): void {
    this.#context.output.print(csumText(this.#state(managed).parseTunnels, managed.txOffloads));
  }

  /** `csum show`. */
  show(id: number): void {
    const managed = this.#stopped(id, `Invalid port ${id}\ninvalid port ${id}`);
    if (managed !== undefined) this.#print(managed);
  }

  /** `csum set`: in the port's hardware, which its next start asks for, or in software. */
  setLayer(id: number, layer: CsumLayer, hardware: boolean): void {
    const managed = this.#stopped(id, `Invalid port ${id}\ninvalid port ${id}`);
    if (managed === undefined) return;
    const { text, offload, bit } = csumLayers[layer];
    if (!hardware) {
      if ((managed.txOffloads & bit) !== 0) this.#context.offloads.set('tx', id, offload, false);
    } else if ((managed.port.info.txOffloadCapabilities & bit) !== 0) this.#context.offloads.set('tx', id, offload, true);
    else this.#context.output.warn(`${text} checksum offload is not supported by port ${id}`);
    this.#print(managed);
  }

  /** `csum parse-tunnel`. */
  setParseTunnels(id: number, on: boolean): void {
    const managed = this.#known(id);
    if (managed === undefined) return;
    this.#state(managed).parseTunnels = on;
    this.#publish();
    this.#print(managed);
  }

  /** `csum mac-swap`. */
  setRewriteAddresses(id: number, on: boolean): void {
    const managed = this.#known(id);
    if (managed === undefined) return;
    this.#state(managed).rewriteAddresses = on;
    this.#publish();
  }

  #canSegment({ port }: ManagedPort): boolean {
    const able = (port.info.txOffloadCapabilities & bits.TX_OFFLOAD_TCP_TSO) !== 0;
    if (!able) this.#context.output.warn(`Error: TSO is not supported by port ${port.id}`);
    return able;
  }

  #printSegmentSize(managed: ManagedPort): void {
    const { segmentSize } = this.#state(managed);
    this.#context.output.say(
      segmentSize === 0 ? 'TSO for non-tunneled packets is disabled' : `TSO segment size for non-tunneled packets is ${segmentSize}`,
    );
  }

  /** `tso set`: asks for the offload at the port's next start; 0 gives it up. */
  setSegmentSize(id: number, size: number): void {
    const managed = this.#stopped(id);
    if (managed === undefined) return;
    this.#state(managed).segmentSize = size;
    if (size !== 0 && !this.#canSegment(managed)) return;
    const asked = (managed.txOffloads & bits.TX_OFFLOAD_TCP_TSO) !== 0;
    if (asked !== (size !== 0)) this.#context.offloads.set('tx', id, 'tcp_tso', size !== 0);
    this.#printSegmentSize(managed);
  }

  /** `tso show`. */
  showSegmentSize(id: number): void {
    const managed = this.#stopped(id);
    if (managed === undefined) return;
    if (this.#state(managed).segmentSize === 0 || this.#canSegment(managed)) this.#printSegmentSize(managed);
  }

  /** `tunnel_tso`: virtio has no way to ask for it. */
  refuseTunnelSegments(id: number, size: number): void {
    const managed = this.#stopped(id);
    if (managed === undefined) return;
    if (size === 0) this.#context.output.say('TSO for tunneled packets is disabled');
    else this.#context.output.warn(`Error: port=${id} don't support tunnel TSO offloads.`);
  }

  /** `set port ID gro`. */
  setGro(id: number, on: boolean): void {
    if (this.#isBusy('Before enable/disable GRO, please stop forwarding first')) return;
    const managed = this.#known(id, `invalid port id ${id}`);
    if (managed === undefined) return;
    const state = this.#state(managed);
    if (state.gro !== on) state.gro = on;
    else this.#context.output.warn(on ? `Port ${id} has enabled GRO. Please disable GRO first` : `Port ${id} has disabled GRO`);
  }

  /** `show port ID gro`. */
  showGro(id: number): void {
    const managed = this.#known(id, `Invalid port id ${id}.`);
    if (managed === undefined) return;
    this.#context.output.print(groText(id, this.#state(managed).gro, this.#flushCycles));
  }

  /** `set gro flush`. */
  setGroFlush(cycles: number): void {
    if (this.#isBusy('Before change flush interval for GRO, please stop forwarding first.')) return;
    if (cycles >= 1 && cycles <= maxFlushCycles) {
      this.#flushCycles = cycles;
      return;
    }
    this.#context.output.warn(
      `The flushing cycle be in the range of 1 to ${maxFlushCycles}. Revert to the default value ${defaultFlushCycles}.`,
    );
    this.#flushCycles = defaultFlushCycles;
  }

  /** `set port ID gso`. */
  setGso(id: number, on: boolean): void {
    if (this.#isBusy('before enabling GSO, please stop forwarding first')) return;
    const managed = this.#known(id, `invalid port id ${id}`);
    if (managed !== undefined) this.#state(managed).gso = on;
  }

  /** `show port ID gso`. */
  showGso(id: number): void {
    const managed = this.#known(id, `invalid port id ${id}`);
    if (managed === undefined) return;
    this.#context.output.print(gsoText(id, this.#state(managed).gso, this.#gsoSize));
  }

  /** `set gso segsz`. */
  setGsoSize(size: number): void {
    if (this.#isBusy('Before setting GSO segsz, please first stop forwarding')) return;
    if (size >= minGsoSize) this.#gsoSize = size;
    else this.#context.output.warn(`gso_size should be larger than ${minGsoSize}. Please input a legal value`);
  }
}

const initialState: PortState = { parseTunnels: false, rewriteAddresses: true, segmentSize: 0, gro: false, gso: false };
