/**
 * A vhost-user back-end for tests that answers a front-end of the same process honestly, message by message, until told otherwise.
 * @module
 */
import { closeSync } from 'node:fs';
import type { RawConnection, ReceivedMessage } from './raw-vhost-user.ts';
import { Feature, message, ProtocolFeature, REPLY, Request, ringState, u64, VERSION } from './vhost-user-messages.ts';

export interface BackEndOptions {
  readonly features?: bigint;
  readonly protocolFeatures?: bigint;
  readonly queuePairs?: number;
  /** Answers a request differently: bytes, or undefined for no answer at all. */
  readonly answer?: ((request: ReceivedMessage) => Uint8Array | undefined | 'honestly') | undefined;
}

/** Answers until the front-end hangs up; returns what it said, as `NAME` or `NAME value`. */
export async function serveFrontEnd(connection: RawConnection, options: BackEndOptions = {}): Promise<ReceivedMessage[]> {
  const {
    features = Feature.PROTOCOL_FEATURES | Feature.VERSION_1 | Feature.MRG_RXBUF | Feature.IN_ORDER | Feature.MQ | Feature.CTRL_VQ,
    protocolFeatures = ProtocolFeature.MQ | ProtocolFeature.REPLY_ACK | ProtocolFeature.STATUS,
    queuePairs = 1,
  } = options;
  const log: ReceivedMessage[] = [];
  let status = 0n;
  for (;;) {
    const request = await connection.receive(20_000);
    if (request === undefined) return log;
    log.push(request);
    for (const fd of request.descriptors) closeSync(fd);
    const special = options.answer?.(request) ?? (options.answer === undefined ? 'honestly' : undefined);
    if (special !== 'honestly') {
      if (special !== undefined) await connection.send(special);
      continue;
    }
    const reply = (payload: Uint8Array): Promise<void> => connection.send(message(request.request, payload, VERSION | REPLY));
    if (request.request === Request.SET_STATUS) status = request.payload.readBigUInt64LE();
    if (request.request === Request.GET_FEATURES) await reply(u64(features));
    else if (request.request === Request.GET_PROTOCOL_FEATURES) await reply(u64(protocolFeatures));
    else if (request.request === Request.GET_QUEUE_NUM) await reply(u64(queuePairs));
    else if (request.request === Request.GET_STATUS) await reply(u64(status));
    else if (request.request === Request.GET_VRING_BASE) await reply(ringState(request.payload.readUInt32LE(0), 0));
    else if ((request.flags & 8) !== 0) await reply(u64(0));
  }
}

/** `SET_VRING_NUM` for 8. */
export function nameOf(request: number): string {
  return Object.entries(Request).find(([, number]) => number === request)?.[0] ?? String(request);
}
