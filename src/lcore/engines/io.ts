/**
 * io: sends what was received, untouched.
 * @module
 */
import type { ForwardingEngine } from './engine.ts';

export const io: ForwardingEngine = {
  name: 'io',
  forward(stream) {
    const count = stream.receive();
    if (count !== 0) stream.send(count);
  },
};
