/**
 * Which packets a port receives, at the prompt: further addresses, group addresses, VLANs.
 * @module
 */
import { formatMac, type MacAddress } from '../../net/mac-address.ts';
import { RX_OFFLOAD_VLAN_FILTER } from '../../port/offloads.ts';
import type { Port } from '../../port/port.ts';
import { diagnostic, errnoText, reason } from './errno-text.ts';
import type { Output } from './output.ts';
import type { PortTable } from './port-table.ts';

/** Tags are of 12 bits. */
const vlanIds = 4096;
/** -ENOSYS, as ethdev returns it. */
const noSystemCall = -38;

const isSame = (one: MacAddress, other: MacAddress): boolean => Buffer.compare(one, other) === 0;

/** A refusal in ethdev's words: what it logs, and the error that testpmd reports. */
interface Refusal {
  readonly line: string | undefined;
  readonly error: string;
}

export class PortFilters {
  readonly #ports: PortTable;
  readonly #output: Output;

  constructor(ports: PortTable, output: Output) {
    this.#ports = ports;
    this.#output = output;
  }

  #known(id: number): Port | undefined {
    const managed = this.#ports.get(id);
    if (managed === undefined) this.#output.warn(`Invalid port ${id}`);
    return managed?.port;
  }

  async #changeAddresses(id: number, refusal: (port: Port) => Refusal | undefined, change: (port: Port) => Promise<void>): Promise<void> {
    const port = this.#ports.get(id)?.port;
    const refused =
      port === undefined
        ? { line: `Invalid port_id=${id}`, error: 'No such device' }
        : port.info.maxMacAddresses < 2
          ? { line: undefined, error: 'Operation not supported' }
          : refusal(port);
    if (refused?.line !== undefined) this.#output.warn(refused.line);
    if (refused !== undefined) this.#output.warn(`mac_addr_cmd error: (${refused.error})`);
    if (refused !== undefined || port === undefined) return;
    try {
      await change(port);
    } catch (error) {
      this.#output.warn(`mac_addr_cmd error: (${errnoText(error)})`);
      this.#output.warn(reason(error));
    }
  }

  /** `mac_addr add ID MAC`. */
  addAddress(id: number, mac: MacAddress): Promise<void> {
    return this.#changeAddresses(
      id,
      ({ info, macAddresses }) => {
        if (mac.every((byte) => byte === 0)) return { line: `Port ${id}: Cannot add NULL MAC address`, error: 'Invalid argument' };
        if (macAddresses.length < info.maxMacAddresses || macAddresses.some((known) => isSame(known, mac))) return undefined;
        return { line: `Port ${id}: MAC address array full`, error: 'No space left on device' };
      },
      (port) => port.addMac(mac),
    );
  }

  /** `mac_addr remove ID MAC`; one that is not there is not missed. */
  removeAddress(id: number, mac: MacAddress): Promise<void> {
    return this.#changeAddresses(
      id,
      (port) =>
        isSame(mac, port.mac) ? { line: `Port ${id}: Cannot remove default MAC address`, error: 'Address already in use' } : undefined,
      (port) => port.removeMac(mac),
    );
  }

  async #setMulticast(port: Port, addresses: readonly MacAddress[]): Promise<void> {
    try {
      await port.setMulticastAddresses(addresses);
    } catch (error) {
      this.#output.warn(`rte_eth_dev_set_mc_addr_list(port=${port.id}, nb=${addresses.length}) failed. diag=${diagnostic(error)}`);
    }
  }

  /** `mcast_addr add|remove ID MAC`. */
  async changeMulticast(what: 'add' | 'remove', id: number, mac: MacAddress): Promise<void> {
    if (((mac[0] ?? 0) & 1) === 0) {
      this.#output.warn(`Invalid multicast addr ${formatMac(mac)}`);
      return;
    }
    const port = this.#known(id);
    if (port === undefined) return;
    const { multicastAddresses } = port;
    const others = multicastAddresses.filter((known) => !isSame(known, mac));
    const found = others.length < multicastAddresses.length;
    if (what === 'add' && found) this.#output.warn('multicast address already filtered by port');
    else if (what === 'remove' && !found) this.#output.warn(`multicast address not filtered by port ${id}`);
    else await this.#setMulticast(port, what === 'add' ? [...multicastAddresses, mac] : others);
  }

  /** @returns whether it went well */
  async #setVlan(port: Port, vlan: number, on: boolean): Promise<boolean> {
    let code = noSystemCall;
    if (((port.configuration?.rxOffloads ?? 0) & RX_OFFLOAD_VLAN_FILTER) === 0) {
      this.#output.warn(`Port ${port.id}: VLAN-filtering disabled`);
    } else {
      try {
        await port.setVlanFilter(vlan, on);
        return true;
      } catch (error) {
        this.#output.warn(reason(error));
        code = diagnostic(error);
      }
    }
    this.#output.warn(`rte_eth_dev_vlan_filter(port_pi=${port.id}, vlan_id=${vlan}, on=${on ? 1 : 0}) failed diag=${code}`);
    return false;
  }

  /** `rx_vlan add|rm VLAN|all ID`; of all, the first that fails is the last. */
  async setVlan(vlan: number | 'all', id: number, on: boolean): Promise<void> {
    const port = this.#known(id);
    if (port === undefined) return;
    if (vlan !== 'all') {
      if (vlan < vlanIds) await this.#setVlan(port, vlan, on);
      else this.#output.warn(`Invalid vlan_id ${vlan} (must be < ${vlanIds})`);
      return;
    }
    for (let one = 0; one < vlanIds; one++) if (!(await this.#setVlan(port, one, on))) return;
  }
}
