/**
 * txonly: sends UDP packets as fast as the transmit queue takes them, and receives nothing.
 *
 * Sent packets are taken back before new ones are made, so that each slot of the ring meets the same buffer again, and
 * none are made that the queue has no room for. (DPDK makes them and counts them as dropped.)
 * @module
 */
import type { EngineStream, ForwardingEngine } from './engine.ts';

/** Makes and sends a burst, or as much of it as there is room for; waits for room for 32 packets, or for the burst. */
export function sendGenerated(stream: EngineStream, afterwards?: (stream: EngineStream, count: number) => void): void {
  const { burst, segments } = stream;
  const fits = (stream.room(burst * segments) / segments) | 0;
  const count = fits < burst ? fits : burst;
  if (count === 0 || (count < burst && count < 32 && segments === 1)) return;
  if (stream.context.kernels.generatePackets(stream.template, stream.lcore, stream.mbufs, count) === 0) {
    stream.countNoMbuf(count);
    return;
  }
  afterwards?.(stream, count);
  stream.send(count);
}

export const txonly: ForwardingEngine = {
  name: 'txonly',
  forward(stream) {
    sendGenerated(stream);
  },
};
