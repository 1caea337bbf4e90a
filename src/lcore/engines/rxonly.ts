/**
 * rxonly: receives and frees.
 * @module
 */
import type { ForwardingEngine } from './engine.ts';

export const rxonly: ForwardingEngine = {
  name: 'rxonly',
  forward(stream) {
    const count = stream.receive();
    if (count !== 0) stream.free(count);
  },
};
