/**
 * One vhost-user connection: whole messages in and out of a byte stream, descriptors included.
 *
 * Nothing waits in here. A message that arrives in pieces is gathered; one that is not complete within a few seconds,
 * is too long, of another version or with a cut set of descriptors ends the connection with a reason.
 * @module
 */
import { VirtioError } from '../../system/error.ts';
import { closeFd } from '../../system/event-fd.ts';
import { watchReadable } from '../../system/readiness.ts';
import { MAX_DESCRIPTORS, receiveUnix, sendUnix } from '../../system/unix-socket.ts';
import {
  encodeMessage,
  HEADER_BYTES,
  headerIsSupported,
  PAYLOAD_LIMIT,
  readHeader,
  requestName,
  type Message,
  type MessageHeader,
} from './messages.ts';

/** A message must be whole this long after its first byte. */
const COMPLETION_MILLISECONDS = 5000;

export interface ConnectionEvents {
  /** A whole message. The callee owns its descriptors. */
  readonly onMessage: (message: Message) => void;
  /** The connection is over; called once, never after close(). `error` says why when it was not the peer's orderly end. */
  readonly onClose: (error: VirtioError | undefined) => void;
}

export class VhostUserConnection {
  /** How messages name the other end. */
  readonly peer: string;
  readonly #fd: number;
  readonly #events: ConnectionEvents;
  readonly #stopWatching: () => void;
  readonly #header = Buffer.alloc(HEADER_BYTES);
  #payload = Buffer.alloc(0);
  #parsed: MessageHeader | undefined;
  #have = 0;
  #descriptors: number[] = [];
  #timer: NodeJS.Timeout | undefined;
  #open = true;

  /** Takes over the socket `fd`. */
  constructor(fd: number, peer: string, events: ConnectionEvents) {
    this.#fd = fd;
    this.peer = peer;
    this.#events = events;
    this.#stopWatching = watchReadable(fd, () => {
      this.#read();
    });
  }

  /** A method, not a property: the answer changes while its reader waits for something. */
  isOpen(): boolean {
    return this.#open;
  }

  /**
   * Sends one message. A peer that does not read its replies has a full socket, and loses the connection.
   * @throws VirtioError when the connection is gone
   */
  send(request: number, flags: number, payload: Uint8Array, descriptors: readonly number[] = []): void {
    if (!this.#open) throw new VirtioError(`${this.peer}: the connection is closed`, { code: 'ENOTCONN' });
    const bytes = encodeMessage(request, flags, payload);
    let sent = 0;
    try {
      sent = sendUnix(this.#fd, this.peer, bytes, descriptors);
    } catch (error) {
      this.#fail(error instanceof VirtioError ? error : undefined);
      throw error;
    }
    if (sent !== bytes.length) {
      const error = new VirtioError(`${this.peer}: the peer does not read its messages (socket full at ${requestName(request)})`, {
        code: 'EAGAIN',
      });
      this.#fail(error);
      throw error;
    }
  }

  /** Ends the connection without an event. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    clearTimeout(this.#timer);
    this.#stopWatching();
    closeFd(this.#fd);
    for (const descriptor of this.#descriptors.splice(0)) closeFd(descriptor);
  }

  #fail(error: VirtioError | undefined): void {
    if (!this.#open) return;
    this.close();
    this.#events.onClose(error);
  }

  #protocolError(text: string): void {
    this.#fail(new VirtioError(`${this.peer}: ${text}; connection closed`, { code: 'EPROTO' }));
  }

  /** Handles what has arrived by now, an end of the connection included. */
  poll(): void {
    if (this.#open) this.#read();
  }

  #read(): void {
    // a bounded number of steps a turn, so that no peer keeps the others waiting; what is left wakes us again
    for (let budget = 64; budget > 0 && this.#open; budget--) {
      const parsed = this.#parsed;
      const target = parsed === undefined ? this.#header : this.#payload;
      let received;
      try {
        received = receiveUnix(this.#fd, this.peer, target.subarray(this.#have));
      } catch (error) {
        this.#fail(error instanceof VirtioError ? error : undefined);
        return;
      }
      if (received === undefined) return;
      this.#descriptors.push(...received.descriptors);
      // each piece of a message may bring some: together no more than one piece can
      if (received.truncated || this.#descriptors.length > MAX_DESCRIPTORS) {
        this.#protocolError('more file descriptors than any message may carry');
        return;
      }
      if (received.bytes === 0) {
        if (this.#have > 0 || parsed !== undefined) this.#protocolError('the peer closed in the middle of a message');
        else this.#fail(undefined);
        return;
      }
      this.#have += received.bytes;
      this.#timer ??= setTimeout(() => {
        this.#protocolError('half a message, and then nothing for 5 seconds');
      }, COMPLETION_MILLISECONDS).unref();
      if (this.#have < target.length) continue;
      if (parsed !== undefined) this.#deliver(parsed);
      else if (!this.#startPayload()) return;
    }
  }

  #startPayload(): boolean {
    const header = readHeader(this.#header);
    if (!headerIsSupported(header)) {
      this.#protocolError(`not a vhost-user message of version 1 (first word 0x${header.request.toString(16)}); is the peer vhost-user?`);
      return false;
    }
    if (header.size > PAYLOAD_LIMIT) {
      this.#protocolError(`${requestName(header.request)} announces ${String(header.size)} bytes, more than any message has`);
      return false;
    }
    this.#parsed = header;
    this.#payload = Buffer.alloc(header.size);
    this.#have = 0;
    if (header.size === 0) this.#deliver(header);
    return true;
  }

  #deliver(header: MessageHeader): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const descriptors = this.#descriptors;
    this.#descriptors = [];
    this.#parsed = undefined;
    this.#have = 0;
    this.#events.onMessage({
      request: header.request,
      reply: header.reply,
      needReply: header.needReply,
      payload: this.#payload,
      descriptors,
    });
  }
}
