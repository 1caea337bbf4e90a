/**
 * One end of a vhost-user socket, in either role: listens, or connects and tries again every second; one peer at a time.
 * What is said over the connection is front-end.ts's and device.ts's business.
 * @module
 */
import type { VirtioError } from '../../system/error.ts';
import { closeFd } from '../../system/event-fd.ts';
import { watchReadable } from '../../system/readiness.ts';
import { acceptUnix, connectUnix, listenUnix, type Listener } from '../../system/unix-socket.ts';
import { VhostUserConnection } from './connection.ts';
import type { Message } from './messages.ts';

const RECONNECT_MILLISECONDS = 1000;

export interface EndpointOptions {
  readonly path: string;
  /** Listen and wait for the peer, instead of connecting to it. */
  readonly server: boolean;
  /** What the other end is: for messages. */
  readonly other: 'front-end' | 'back-end';
  /** Peers that may wait in the listener's queue. */
  readonly backlog?: number;
  readonly log: (text: string) => void;
  /** A peer came: accepted, or connected to by keepConnecting() or next(). */
  readonly onConnected: (connection: VhostUserConnection) => void;
  readonly onMessage: (connection: VhostUserConnection, message: Message) => void;
  /** The connection is over, and it was the current one; `error` says why when it was not the peer's orderly end. */
  readonly onLost: (connection: VhostUserConnection, error: VirtioError | undefined) => void;
}

export class VhostUserEndpoint {
  /** How messages name the other end. */
  readonly peer: string;
  readonly #options: EndpointOptions;
  #connection: VhostUserConnection | undefined;
  #listener: Listener | undefined;
  #stopListening: (() => void) | undefined;
  #reconnect: NodeJS.Timeout | undefined;
  #complained = false;
  #open = true;

  constructor(options: EndpointOptions) {
    this.#options = options;
    this.peer = `(${options.path})`;
  }

  /** The peer that is being served. */
  get connection(): VhostUserConnection | undefined {
    return this.#connection;
  }

  /** @throws VirtioError when the path cannot be listened at */
  listen(): void {
    const listener = listenUnix(this.#options.path, this.#options.backlog);
    this.#listener = listener;
    try {
      this.#stopListening = watchReadable(listener.fd, () => {
        this.#accept(listener);
      });
    } catch (error) {
      listener.close();
      throw error;
    }
  }

  /** Connects once. @throws VirtioError when nobody listens */
  connect(): VhostUserConnection {
    return this.#serve(connectUnix(this.#options.path));
  }

  /** Connects now or, with one complaint, as soon as somebody listens. */
  keepConnecting(): void {
    if (!this.#open) return;
    let connection: VhostUserConnection;
    try {
      connection = this.connect();
    } catch (error) {
      if (!this.#complained) {
        this.#complained = true;
        this.#options.log(`${this.peer} ${error instanceof Error ? error.message : String(error)}; trying again every second`);
      }
      this.#connectLater();
      return;
    }
    this.#complained = false;
    this.#options.onConnected(connection);
  }

  /** After a loss: serves whoever waits in the listener's queue, or connects again in a second. */
  next(): void {
    if (!this.#open) return;
    if (this.#listener !== undefined) this.#accept(this.#listener);
    else if (!this.#options.server) this.#connectLater();
  }

  /** Ends a connection from this side; onLost() follows, if it is the current one. */
  fail(connection: VhostUserConnection, error: VirtioError | undefined): void {
    connection.close();
    this.#lost(connection, error);
  }

  /** Ends a connection from this side without a word. */
  drop(connection: VhostUserConnection): void {
    connection.close();
    if (this.#connection === connection) this.#connection = undefined;
  }

  close(): void {
    this.#open = false;
    clearTimeout(this.#reconnect);
    this.#stopListening?.();
    this.#listener?.close();
    this.#connection?.close();
    this.#connection = undefined;
  }

  #connectLater(): void {
    clearTimeout(this.#reconnect);
    this.#reconnect = setTimeout(() => {
      this.keepConnecting();
    }, RECONNECT_MILLISECONDS);
  }

  #accept(listener: Listener): void {
    for (;;) {
      let fd: number | undefined;
      try {
        fd = acceptUnix(listener);
      } catch (error) {
        this.#options.log(error instanceof Error ? error.message : String(error));
        return;
      }
      if (fd === undefined) return;
      // the previous peer may be gone without our having looked
      this.#connection?.poll();
      if (this.#connection !== undefined) {
        this.#options.log(`${this.peer} a second ${this.#options.other} connected while one is in use; refused`);
        closeFd(fd);
        continue;
      }
      this.#options.onConnected(this.#serve(fd));
    }
  }

  #serve(fd: number): VhostUserConnection {
    const connection: VhostUserConnection = new VhostUserConnection(fd, this.peer, {
      onMessage: (message) => {
        this.#options.onMessage(connection, message);
      },
      onClose: (error) => {
        this.#lost(connection, error);
      },
    });
    this.#connection = connection;
    return connection;
  }

  #lost(connection: VhostUserConnection, error: VirtioError | undefined): void {
    if (this.#connection !== connection) return;
    this.#connection = undefined;
    this.#options.onLost(connection, error);
  }
}
