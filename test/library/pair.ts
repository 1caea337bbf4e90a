/**
 * Both ends of a socket, net_vhost and virtio_user, started, with their links up: in one environment, or the device in one of its own.
 * @module
 */
import { openPort, type Environment, type EnvironmentOptions, type PacketPort } from '../../src/index.ts';
import { SocketDirectory } from '../support/pair.ts';

export class PortPair implements AsyncDisposable {
  readonly directory = new SocketDirectory();
  readonly #ports: PacketPort[] = [];

  static async open(
    environment: Environment | undefined,
    keys: { readonly queues?: number; readonly mrg_rxbuf?: boolean; readonly packed_vq?: boolean } = {},
    deviceEnvironment: Environment | EnvironmentOptions | undefined = environment,
  ): Promise<PortPair> {
    const pair = new PortPair();
    try {
      const { queues } = keys;
      pair.#ports.push(await openPort('net_vhost', { iface: pair.directory.socket, environment: deviceEnvironment, queues }));
      pair.#ports.push(await openPort('virtio_user', { path: pair.directory.socket, environment, ...keys }));
      for (const port of pair.#ports) await port.start();
      for (const port of pair.#ports) await port.waitForLink(true, { timeout: 5000 });
      return pair;
    } catch (error) {
      await pair[Symbol.asyncDispose]();
      throw error;
    }
  }

  get device(): PacketPort {
    return this.#port(0);
  }

  get driver(): PacketPort {
    return this.#port(1);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const port of this.#ports.toReversed()) await port.close();
    this.directory[Symbol.dispose]();
  }

  #port(index: number): PacketPort {
    const port = this.#ports[index];
    if (port === undefined) throw new Error('the pair is not open');
    return port;
  }
}

/** A packet without a pattern: its bytes follow from its number. */
export function packetOf(number: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let at = 0; at < length; at++) bytes[at] = (number * 31 + at * 7 + (at >> 8)) & 0xff;
  bytes.set([0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2, 0x88, 0xb5]);
  return bytes;
}
