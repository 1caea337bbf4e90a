/**
 * net_ring: what is sent on a queue of the port is received on the same queue.
 * @module
 */
import { randomMac } from '../net/mac-address.ts';
import { RING_ITEMS, RING_RECEIVED, RING_SENT, RING_SIZE } from '../ring/handle-ring.kernel.ts';
import { Q_DESCRIPTORS } from '../ring/queue-layout.ts';
import { MAIN_LCORE_SLOT, QueueState } from '../ring/virtqueue.ts';
import { VirtioError } from '../system/error.ts';
import type { PortContext } from './context.ts';
import { readDevargs, type Devargs } from './devargs.ts';
import type { PortDriver } from './drivers.ts';
import { RX_OFFLOAD_SCATTER, TX_OFFLOAD_MULTI_SEGS } from './offloads.ts';
import type { PortInfo, RxQueueConfiguration, TxQueueConfiguration } from './port.ts';
import { SOFTWARE_PORT_INFO } from './software-port-info.ts';
import { SoftwarePort } from './software-port.ts';

const KEYS = ['nodeaction'];
const ENTRIES = 1024;
const QUEUES = 16;

const INFO: PortInfo = {
  ...SOFTWARE_PORT_INFO,
  driverName: 'net_ring',
  maxRxQueues: QUEUES,
  maxTxQueues: QUEUES,
  // packets pass as they are: whoever they come to does their work
  rxOffloadCapabilities: RX_OFFLOAD_SCATTER,
  txOffloadCapabilities: TX_OFFLOAD_MULTI_SEGS,
};

class RingPort extends SoftwarePort {
  readonly info = INFO;
  protected readonly queueKind = 'ring';
  readonly #rings: number[] = [];

  protected makeRxQueue(index: number, configuration: RxQueueConfiguration): { queue: QueueState; descriptors: number } {
    return { queue: this.#makeQueue('rx', index), descriptors: configuration.descriptors };
  }

  protected makeTxQueue(index: number, configuration: TxQueueConfiguration): { queue: QueueState; descriptors: number } {
    return { queue: this.#makeQueue('tx', index), descriptors: configuration.descriptors };
  }

  protected async startDevice(): Promise<void> {
    await this.runQueues(true);
  }

  protected async stopDevice(): Promise<void> {
    await this.runQueues(false);
    const { u32 } = this.context.arena.views;
    for (const ring of this.#rings) {
      for (let at = u32[(ring + RING_RECEIVED) >>> 2] ?? 0; at !== u32[(ring + RING_SENT) >>> 2]; at = (at + 1) >>> 0) {
        const packet = u32[((ring + RING_ITEMS) >>> 2) + (at & (ENTRIES - 1))] ?? 0;
        this.context.main.kernels.packetFree(packet, MAIN_LCORE_SLOT);
      }
      u32[(ring + RING_RECEIVED) >>> 2] = u32[(ring + RING_SENT) >>> 2] ?? 0;
    }
  }

  protected closeDevice(): Promise<void> {
    for (const ring of this.#rings.splice(0)) this.context.arena.own.release(ring);
    return Promise.resolve();
  }

  #makeQueue(direction: string, index: number): QueueState {
    const queue = new QueueState(this.context.arena, `${direction} queue ${String(index)} of ${this.name}`, this.id);
    let ring = this.#rings[index];
    while (ring === undefined) {
      ring = this.context.arena.allocateOwn(RING_ITEMS + 4 * ENTRIES, `a ring of ${this.name}`);
      this.context.arena.views.u32[(ring + RING_SIZE) >>> 2] = ENTRIES;
      this.#rings.push(ring);
      ring = this.#rings[index];
    }
    queue.set(Q_DESCRIPTORS, ring);
    return queue;
  }
}

function create(context: PortContext, id: number, devargs: Devargs): Promise<RingPort> {
  const args = readDevargs(devargs, KEYS);
  const action = args.string('nodeaction');
  if (action !== undefined && !/^[^:]+:\d+:CREATE$/.test(action)) {
    throw new VirtioError(
      `${devargs.name}: nodeaction=${action}: only NAME:NODE:CREATE is supported; rings of other processes cannot be attached`,
      {
        code: 'EOPNOTSUPP',
      },
    );
  }
  return Promise.resolve(new RingPort(context, { id, name: devargs.name, devargs: devargs.text, mac: randomMac() }));
}

export const ringDriver: PortDriver = { name: 'net_ring', aliases: ['eth_ring'], serves: false, agreesOnQueues: false, create };
