/**
 * net_null: receives packets out of nothing and sends into nothing; for measuring everything else.
 * @module
 */
import { randomMac } from '../net/mac-address.ts';
import { Q_HEADERS, Q_POOL, Q_SIZE, QUEUE_RUNNING, QUEUE_STOPPED } from '../ring/queue-layout.ts';
import { QueueState } from '../ring/virtqueue.ts';
import { VirtioError } from '../system/error.ts';
import { BasePort } from './base-port.ts';
import type { PortContext } from './context.ts';
import { readDevargs, type Devargs } from './devargs.ts';
import type { PortDriver } from './drivers.ts';
import type { Link, PortInfo, RxQueueConfiguration, TxQueueConfiguration } from './port.ts';
import { SOFTWARE_PORT_INFO } from './software-port-info.ts';

const KEYS = ['size', 'copy', 'no-rx'];
const SIZE_LIMIT = 9000;

const INFO: PortInfo = { ...SOFTWARE_PORT_INFO, driverName: 'net_null', maxRxQueues: 1024, maxTxQueues: 1024, minMtu: 46 };

interface NullPortOptions {
  readonly id: number;
  readonly name: string;
  readonly devargs: string;
  readonly size: number;
  readonly copy: boolean;
  readonly receives: boolean;
}

class NullPort extends BasePort {
  readonly info = INFO;
  protected readonly queueKind = 'null';
  readonly #options: NullPortOptions;
  /** Zeroes to copy from, and a place to copy to; 0 when nothing is copied. */
  readonly #dummy: number;

  constructor(context: PortContext, options: NullPortOptions) {
    super(context, { ...options, mac: randomMac() });
    this.#options = options;
    this.#dummy = options.copy ? context.arena.allocateOwn(SIZE_LIMIT, `the dummy packet of ${options.name}`) : 0;
  }

  link(): Link {
    return { up: this.state === 'started', speed: 10_000, fullDuplex: true, autonegotiation: false };
  }

  protected makeRxQueue(index: number, configuration: RxQueueConfiguration): { queue: QueueState; descriptors: number } {
    const room = configuration.pool.dataRoom - 128;
    if (this.#options.size > room)
      throw this.error('EINVAL', `size=${String(this.#options.size)} does not fit the ${String(room)} bytes of an mbuf`);
    const queue = this.#makeQueue('rx', index);
    queue.set(Q_POOL, configuration.pool.offset);
    return { queue, descriptors: configuration.descriptors };
  }

  protected makeTxQueue(index: number, configuration: TxQueueConfiguration): { queue: QueueState; descriptors: number } {
    return { queue: this.#makeQueue('tx', index), descriptors: configuration.descriptors };
  }

  protected async startDevice(): Promise<void> {
    for (const queue of this.rxQueues) queue.setState(this.#options.receives ? QUEUE_RUNNING : QUEUE_STOPPED);
    for (const queue of this.txQueues) queue.setState(QUEUE_RUNNING);
    return Promise.resolve();
  }

  protected async stopDevice(): Promise<void> {
    await this.runQueues(false);
  }

  protected closeDevice(): Promise<void> {
    if (this.#dummy !== 0) this.context.arena.own.release(this.#dummy);
    return Promise.resolve();
  }

  #makeQueue(direction: string, index: number): QueueState {
    const queue = new QueueState(this.context.arena, `${direction} queue ${String(index)} of ${this.name}`, this.id);
    queue.set(Q_SIZE, this.#options.size);
    queue.set(Q_HEADERS, this.#dummy);
    return queue;
  }
}

function create(context: PortContext, id: number, devargs: Devargs): Promise<NullPort> {
  const args = readDevargs(devargs, KEYS);
  const copy = args.flag('copy', false);
  const noRx = args.flag('no-rx', false);
  if (copy && noRx) throw new VirtioError(`${devargs.name}: copy=1 and no-rx=1 cannot both be`, { code: 'EINVAL' });
  const size = args.unsigned('size', { min: 14, max: SIZE_LIMIT, default: 64 });
  return Promise.resolve(new NullPort(context, { id, name: devargs.name, devargs: devargs.text, size, copy, receives: !noRx }));
}

export const nullDriver: PortDriver = { name: 'net_null', aliases: ['eth_null'], serves: false, agreesOnQueues: false, create };
