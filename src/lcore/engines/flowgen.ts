/**
 * flowgen: sends packets of many flows (the destination IPv4 address counts through them), and frees what it receives.
 * @module
 */
import type { EngineStream, ForwardingEngine } from './engine.ts';
import { sendGenerated } from './txonly.ts';

function spread(stream: EngineStream, count: number): void {
  stream.context.kernels.spreadFlows(stream.template, stream.mbufs, count);
}

export const flowgen: ForwardingEngine = {
  name: 'flowgen',
  forward(stream) {
    const count = stream.receive();
    if (count !== 0) stream.free(count);
    sendGenerated(stream, spread);
  },
};
