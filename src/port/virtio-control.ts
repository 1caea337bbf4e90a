/**
 * What a virtio port asks of its device on the control queue: kept here, so that a device that was started anew, or came back, is
 * asked again.
 * @module
 */
import {
  encodeCoalescing,
  encodeFlag,
  encodeGuestOffloads,
  encodeHashConfig,
  encodeMacTable,
  encodeRingCoalescing,
  encodeU16,
  encodeRss,
  GUEST_OFFLOADS_SET,
  MAC_TABLE_SET,
  MQ_HASH_CONFIG,
  MQ_RSS_CONFIG,
  NOTF_COAL_RX_SET,
  NOTF_COAL_TX_SET,
  NOTF_COAL_VQ_SET,
  RX_ALLMULTI,
  RX_PROMISC,
  VLAN_ADD,
  VLAN_DEL,
  type Coalescing,
  type ControlCommand,
  type RssSettings,
} from '../backend/control-commands.ts';
import {
  VIRTIO_NET_F_CTRL_GUEST_OFFLOADS,
  VIRTIO_NET_F_CTRL_MAC_ADDR,
  VIRTIO_NET_F_CTRL_RX,
  VIRTIO_NET_F_CTRL_VLAN,
  VIRTIO_NET_F_HASH_REPORT,
  VIRTIO_NET_F_NOTF_COAL,
  VIRTIO_NET_F_RSS,
  VIRTIO_NET_F_VQ_NOTF_COAL,
} from '../backend/virtio-features.ts';
import type { MacAddress } from '../net/mac-address.ts';

export type SendCommand = (command: ControlCommand, data: Uint8Array) => Promise<void>;

interface AddressFilter {
  readonly unicast: readonly MacAddress[];
  readonly multicast: readonly MacAddress[];
}

/** Every change is sent to a device that is there, and in force when it has taken it. One that is not there hears of it at its start. */
export class VirtioControl {
  readonly #send: SendCommand;
  /** Agreed on with the device; 0n while there is none. */
  #features = 0n;
  #promiscuous = false;
  #allMulticast = false;
  #filter: AddressFilter | undefined;
  readonly #vlans = new Set<number>();
  /** By what they were asked for: a direction, or a ring's number. */
  readonly #coalescing = new Map<'rx' | 'tx' | number, Coalescing>();

  constructor(send: SendCommand) {
    this.#send = send;
  }

  get promiscuous(): boolean {
    return this.#promiscuous;
  }

  get allMulticast(): boolean {
    return this.#allMulticast;
  }

  /** Agreed on with the device that is there; 0n: none is. */
  get features(): bigint {
    return this.#features;
  }

  /**
   * A device was started.
   * @param rss with VIRTIO_NET_F_HASH_REPORT, what to hash
   * @param log hears of what the device refuses; the port goes on
   */
  async begin(features: bigint, rss: RssSettings, log: (text: string) => void): Promise<void> {
    this.#features = features;
    const steps = [
      () => this.#sendFlag(RX_PROMISC, this.#promiscuous),
      () => this.#sendFlag(RX_ALLMULTI, this.#allMulticast),
      () => this.#sendFilter(this.#filter),
      ...[...this.#vlans].map((vlan) => () => this.#sendVlan(vlan, true)),
      ...[...this.#coalescing].map(
        ([whose, coalescing]) =>
          () =>
            this.#sendCoalescing(whose, coalescing),
      ),
      // with RSS the device has been told already
      () => ((features & VIRTIO_NET_F_RSS) === 0n ? this.setRss(rss) : Promise.resolve()),
    ];
    for (const step of steps) {
      try {
        await step();
      } catch (error) {
        log(error instanceof Error ? error.message : String(error));
      }
    }
  }

  /** The device is there no more. */
  end(): void {
    this.#features = 0n;
  }

  async setPromiscuous(on: boolean): Promise<void> {
    await this.#sendFlag(RX_PROMISC, on);
    this.#promiscuous = on;
  }

  async setAllMulticast(on: boolean): Promise<void> {
    await this.#sendFlag(RX_ALLMULTI, on);
    this.#allMulticast = on;
  }

  async setFilter(filter: AddressFilter): Promise<void> {
    await this.#sendFilter(filter);
    this.#filter = filter;
  }

  async setVlan(vlan: number, on: boolean): Promise<void> {
    await this.#sendVlan(vlan, on);
    if (on) this.#vlans.add(vlan);
    else this.#vlans.delete(vlan);
  }

  async setRss(rss: RssSettings): Promise<void> {
    if (this.#has(VIRTIO_NET_F_RSS)) await this.#send(MQ_RSS_CONFIG, encodeRss(rss));
    else if (this.#has(VIRTIO_NET_F_HASH_REPORT)) await this.#send(MQ_HASH_CONFIG, encodeHashConfig(rss.hashTypes, rss.key));
  }

  /** @param whose all queues of a direction, or the ring of a number */
  async setCoalescing(whose: 'rx' | 'tx' | number, coalescing: Coalescing): Promise<void> {
    await this.#sendCoalescing(whose, coalescing);
    this.#coalescing.set(whose, coalescing);
  }

  /** Which of the GUEST_* offloads that were agreed on are in force, until the next start. */
  async setGuestOffloads(features: bigint): Promise<void> {
    if (this.#has(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS)) await this.#send(GUEST_OFFLOADS_SET, encodeGuestOffloads(features));
  }

  #has(feature: bigint): boolean {
    return (this.#features & feature) !== 0n;
  }

  async #sendFlag(command: ControlCommand, on: boolean): Promise<void> {
    if (this.#has(VIRTIO_NET_F_CTRL_RX)) await this.#send(command, encodeFlag(on));
  }

  async #sendFilter(filter: AddressFilter | undefined): Promise<void> {
    if (filter === undefined || !this.#has(VIRTIO_NET_F_CTRL_MAC_ADDR)) return;
    await this.#send(MAC_TABLE_SET, encodeMacTable(filter.unicast, filter.multicast));
  }

  async #sendVlan(vlan: number, on: boolean): Promise<void> {
    if (this.#has(VIRTIO_NET_F_CTRL_VLAN)) await this.#send(on ? VLAN_ADD : VLAN_DEL, encodeU16(vlan));
  }

  async #sendCoalescing(whose: 'rx' | 'tx' | number, coalescing: Coalescing): Promise<void> {
    if (typeof whose === 'number') {
      if (this.#has(VIRTIO_NET_F_VQ_NOTF_COAL)) await this.#send(NOTF_COAL_VQ_SET, encodeRingCoalescing(whose, coalescing));
      return;
    }
    const command = whose === 'rx' ? NOTF_COAL_RX_SET : NOTF_COAL_TX_SET;
    if (this.#has(VIRTIO_NET_F_NOTF_COAL)) await this.#send(command, encodeCoalescing(coalescing));
  }
}
