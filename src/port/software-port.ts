/**
 * A port without hardware behind it whose link is up while the port is started, unless it was set down.
 * @module
 */
import type { QueueState } from '../ring/virtqueue.ts';
import { BasePort } from './base-port.ts';
import type { Link } from './port.ts';

export abstract class SoftwarePort<Queue extends QueueState = QueueState> extends BasePort<Queue> {
  #linkUp = true;

  link(): Link {
    return { up: this.#linkUp && this.state === 'started', speed: 10_000, fullDuplex: true, autonegotiation: false };
  }

  override setLink(up: boolean): Promise<void> {
    this.#linkUp = up;
    return Promise.resolve();
  }
}
