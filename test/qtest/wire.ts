/**
 * What a network card inside a QEMU is connected to: UDP datagrams, a frame each (`-netdev dgram`).
 * @module
 */
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { sleep, until } from '../support/deadline.ts';

const HOST = '127.0.0.1';

async function bound(): Promise<Socket> {
  const socket = createSocket('udp4');
  socket.bind(0, HOST);
  await once(socket, 'listening');
  return socket;
}

export class Wire implements AsyncDisposable {
  readonly #socket: Socket;
  readonly #port: number;
  readonly #received: Buffer[] = [];

  private constructor(socket: Socket, port: number) {
    this.#socket = socket;
    this.#port = port;
    socket.on('message', (frame) => this.#received.push(frame));
  }

  static async create(): Promise<Wire> {
    const theirs = await bound();
    const { port } = theirs.address();
    theirs.close();
    return new Wire(await bound(), port);
  }

  /** As `-netdev` and `netdev=[...]` take it. */
  get netdev(): string {
    const side = (name: string, port: number): string => `${name}.type=inet,${name}.host=${HOST},${name}.port=${port}`;
    return `dgram,${side('local', this.#port)},${side('remote', this.#socket.address().port)}`;
  }

  /** Sends frames in order. */
  async send(...frames: readonly Uint8Array[]): Promise<void> {
    for (const frame of frames) {
      this.#socket.send(frame, this.#port, HOST);
      await sleep(1);
    }
  }

  /** The first frame of the card that is like that. */
  received(what: string, isIt: (frame: Buffer) => boolean): Promise<Buffer> {
    return until(5000, what, () => this.#received.find(isIt));
  }

  /** Of all frames of the card. */
  lengths(): Set<number> {
    return new Set(this.#received.map(({ length }) => length));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#socket.close();
    await once(this.#socket, 'close');
  }
}
