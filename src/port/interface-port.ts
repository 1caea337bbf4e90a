/**
 * What ports over a network interface of the kernel have in common: its address, MTU, flags and link, and sockets that come
 * and go with it.
 *
 * The sockets live while the port is started and the interface is up: one that goes down, or is deleted and made anew, takes
 * them down and brings them up again, and the link says so. What is set for a socket (promiscuous mode) ends with it.
 * @module
 */
import type { MacAddress } from '../net/mac-address.ts';
import type { QueueState } from '../ring/virtqueue.ts';
import { VirtioError } from '../system/error.ts';
import {
  ARPHRD_ETHER,
  ARPHRD_LOOPBACK,
  checkInterfaceName,
  IFF_RUNNING,
  IFF_UP,
  interfaceNames,
  NetworkInterface,
} from '../system/network-interface.ts';
import { PACKET_MR_ALLMULTI, PACKET_MR_PROMISC } from '../system/packet-socket.ts';
import { BasePort, type BasePortOptions } from './base-port.ts';
import type { PortContext } from './context.ts';
import { nearestName, type DevargsReader } from './devargs.ts';
import type { Link, PortConfiguration } from './port.ts';

export const ETHERNET_BYTES = 14;
export const VLAN_BYTES = 4;
/** How often the interface is looked at. */
const LOOK_MILLISECONDS = 100;

export interface InterfacePortOptions extends BasePortOptions {
  readonly networkInterface: NetworkInterface;
}

export abstract class InterfacePort<Queue extends QueueState = QueueState> extends BasePort<Queue> {
  protected override readonly filtersNothing = false;
  protected readonly networkInterface: NetworkInterface;
  /** Starting, stopping and looking, one after the other. */
  #work: Promise<void> = Promise.resolve();
  /** Number of the interface that the sockets are bound to. */
  #bound: number | undefined;
  #up = false;
  #interfaceMtu: number;
  #promiscuous = false;
  #allMulticast = false;
  #look: NodeJS.Timeout | undefined;
  #said = '';

  constructor(context: PortContext, options: InterfacePortOptions) {
    super(context, options);
    this.networkInterface = options.networkInterface;
    this.#interfaceMtu = this.networkInterface.mtu() ?? 1500;
  }

  /** Opens the sockets, and lets the queues find their rings; leaves nothing open when it fails. */
  protected abstract openSockets(interfaceIndex: number): void | Promise<void>;
  /** No queue runs: takes the rings away from the queues, and closes the sockets. */
  protected abstract closeSockets(): void;
  /** Adds or drops PACKET_MR_* of open sockets. */
  protected abstract setMembership(interfaceIndex: number, type: number, on: boolean): void;
  /** A look at open sockets, every now and then. */
  protected abstract lookAtSockets(): void;
  /** The interface's MTU was read; returns whether the sockets have to be opened anew for it. */
  protected abstract mtuRead(mtu: number): boolean;

  link(): Link {
    return { up: this.#up && this.state === 'started', speed: 10_000, fullDuplex: true, autonegotiation: false };
  }

  /** Takes the interface itself up or down. */
  override async setLink(up: boolean): Promise<void> {
    this.networkInterface.setFlags(up ? IFF_UP : 0, up ? 0 : IFF_UP);
    if (this.state === 'started') await this.#enqueue(() => this.#lookAtInterface());
  }

  override get promiscuous(): boolean {
    return this.#promiscuous;
  }

  override get allMulticast(): boolean {
    return this.#allMulticast;
  }

  override setPromiscuous(on: boolean): Promise<void> {
    return this.#enqueue(() => {
      if (on !== this.#promiscuous && this.#bound !== undefined) this.setMembership(this.#bound, PACKET_MR_PROMISC, on);
      this.#promiscuous = on;
    });
  }

  override setAllMulticast(on: boolean): Promise<void> {
    return this.#enqueue(() => {
      if (on !== this.#allMulticast && this.#bound !== undefined) this.setMembership(this.#bound, PACKET_MR_ALLMULTI, on);
      this.#allMulticast = on;
    });
  }

  /** The interface's own. */
  override get mtu(): number {
    return this.#interfaceMtu;
  }

  override async setMtu(mtu: number): Promise<void> {
    await super.setMtu(mtu);
    this.networkInterface.setMtu(mtu);
    await this.#enqueue(() => this.#readMtu());
  }

  override async setMac(mac: MacAddress): Promise<void> {
    const before = this.mac;
    await super.setMac(mac);
    try {
      this.networkInterface.setAddress(mac);
    } catch (error) {
      await super.setMac(before);
      throw error;
    }
  }

  override async configure(configuration: PortConfiguration): Promise<void> {
    await super.configure(configuration);
    const { mtu } = configuration;
    if (mtu !== undefined && mtu !== this.networkInterface.mtu()) await this.setMtu(mtu);
  }

  protected startDevice(): Promise<void> {
    return this.#enqueue(async () => {
      const { name } = this.networkInterface;
      if (this.networkInterface.index() === undefined) throw this.error('ENODEV', `iface=${name}: the interface is gone`);
      await this.#readMtu();
      if (this.#interfaceIsUp()) await this.#bringUp();
      else this.say(`interface ${name} is down: ip link set ${name} up`);
      await this.#lookAtInterface();
      this.#look = setInterval(() => {
        void this.#enqueue(() => this.#lookAtInterface());
      }, LOOK_MILLISECONDS).unref();
    });
  }

  protected stopDevice(): Promise<void> {
    return this.#enqueue(async () => {
      clearInterval(this.#look);
      await this.#takeDown();
      this.#up = false;
    });
  }

  protected async closeDevice(): Promise<void> {
    await this.#work;
    this.networkInterface.close();
  }

  /** One line for the user, but not the same one again. */
  protected say(text: string): void {
    if (text === this.#said) return;
    this.#said = text;
    this.context.log(`${this.name}: ${text}`);
  }

  #enqueue(task: () => void | Promise<void>): Promise<void> {
    const result = this.#work.then(task);
    this.#work = result.catch(() => undefined);
    return result;
  }

  #interfaceIsUp(): boolean {
    return ((this.networkInterface.flags() ?? 0) & IFF_UP) !== 0;
  }

  async #readMtu(): Promise<void> {
    const mtu = this.networkInterface.mtu();
    if (mtu === undefined) return;
    this.#interfaceMtu = mtu;
    if (this.mtuRead(mtu) && this.#bound !== undefined) {
      await this.#takeDown();
      await this.#bringUp();
    }
  }

  /** What has become of the interface since the last look. */
  async #lookAtInterface(): Promise<void> {
    if (this.state !== 'started') return;
    const { name } = this.networkInterface;
    const before = this.#up;
    try {
      const index = this.networkInterface.index();
      const flags = this.networkInterface.flags() ?? 0;
      if (this.#bound !== undefined && (this.#bound !== index || (flags & IFF_UP) === 0)) {
        this.say(
          index === undefined
            ? `interface ${name} is gone; the link is down until there is one of this name`
            : `interface ${name} went down`,
        );
        await this.#takeDown();
      }
      if (this.#bound === undefined && (flags & IFF_UP) !== 0) await this.#bringUp();
      this.#up = this.#bound !== undefined && (flags & IFF_RUNNING) !== 0;
      if (this.#up) this.#said = '';
      await this.#readMtu();
      if (this.#bound !== undefined) this.lookAtSockets();
    } catch (error) {
      // it may vanish between two calls
      this.#up = false;
      this.say(error instanceof Error ? error.message : String(error));
    }
    if (this.#up !== before) this.emit({ type: 'intr_lsc' });
  }

  /** Opens the sockets and lets the queues run on their rings. */
  async #bringUp(): Promise<void> {
    const { name } = this.networkInterface;
    const index = this.networkInterface.index();
    if (index === undefined) throw this.error('ENODEV', `iface=${name}: the interface is gone`);
    await this.openSockets(index);
    try {
      if (this.#promiscuous) this.setMembership(index, PACKET_MR_PROMISC, true);
      if (this.#allMulticast) this.setMembership(index, PACKET_MR_ALLMULTI, true);
    } catch (error) {
      this.closeSockets();
      throw error;
    }
    this.#bound = index;
    this.mtuRead(this.#interfaceMtu);
    void this.runQueues(true);
  }

  async #takeDown(): Promise<void> {
    await this.runQueues(false);
    this.#bound = undefined;
    this.closeSockets();
  }
}

/**
 * The interface that `iface=` of a device names.
 * @throws VirtioError EINVAL without `iface`, or where the interface is not one with Ethernet headers, ENODEV where there is none
 */
export function openInterface(args: DevargsReader): { readonly networkInterface: NetworkInterface; readonly mac: MacAddress } {
  const { name } = args;
  if (!args.has('iface')) {
    throw new VirtioError(`${name}: iface is mandatory: ${name},iface=NAME; there are: ${interfaceNames().join(', ')}`, { code: 'EINVAL' });
  }
  const iface = args.required('iface');
  checkInterfaceName(`${name}: iface`, iface);
  const networkInterface = new NetworkInterface(iface);
  try {
    const hardware = networkInterface.hardware();
    if (hardware === undefined) throw noSuchInterface(name, iface);
    if (hardware.type !== ARPHRD_ETHER && hardware.type !== ARPHRD_LOOPBACK) {
      throw new VirtioError(`${name}: iface=${iface}: not an Ethernet interface (its hardware type is ${String(hardware.type)})`, {
        code: 'EINVAL',
      });
    }
    return { networkInterface, mac: hardware.address };
  } catch (error) {
    networkInterface.close();
    throw error;
  }
}

function noSuchInterface(device: string, name: string): VirtioError {
  const names = interfaceNames();
  const near = nearestName(name, names);
  return new VirtioError(
    `${device}: iface=${name}: no such interface in this network namespace; ${near === undefined ? '' : `did you mean ${near}? `}there are: ${names.join(', ')}`,
    { code: 'ENODEV' },
  );
}
